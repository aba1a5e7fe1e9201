//! Reading routes. Never writes.

use super::{
    RTA_DST, RTA_ENCAP, RTA_ENCAP_TYPE, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_NH_ID, RTA_OIF, RTA_PREFSRC,
    RTA_PRIORITY, RTA_TABLE, RTA_VIA, RTAX_ADVMSS, RTAX_MTU, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE, RTMSG_BYTES,
    RTNH_F_ONLINK, Route, RouteKind, Scope, TunnelKey, multipath,
};
use crate::addr::{AF_INET, AF_INET6};
use crate::marks;
use crate::netlink::{Attr, Attrs, Header, Result, Socket};
use ipnet::IpNet;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route that the kernel keeps as a cache entry (`RTM_F_CLONED`), no table entry.
const RTM_F_CLONED: u32 = 0x200;

/// Which routes a dump shows; all filters work in the kernel. The default is all of both families.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteFilter {
    /// Of this protocol.
    pub protocol: Option<u8>,
    /// Of this table.
    pub table: Option<u32>,
    /// Through the device of this index.
    pub index: Option<u32>,
}

impl RouteFilter {
    /// Ours, in all tables.
    #[must_use]
    pub fn ours() -> Self {
        Self { protocol: Some(marks::PROTOCOL), ..Self::default() }
    }
}

impl Route {
    /// All routes that pass the filter.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, filter: &RouteFilter) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            let mut head = [0; RTMSG_BYTES];
            head[0] = family;
            head[5] = filter.protocol.unwrap_or(0);
            let routes = socket.dump(
                "routes",
                RTM_GETROUTE,
                |message| {
                    message.raw(&head);
                    if let Some(table) = filter.table {
                        message.u32(RTA_TABLE, table);
                    }
                    if let Some(index) = filter.index {
                        message.u32(RTA_OIF, index);
                    }
                },
                parse,
            );
            match routes {
                Ok(routes) => found.extend(routes),
                // A table that nobody wrote to does not exist.
                Err(error) if filter.table.is_some() && error.errno() == Some(Errno::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// Reads `RTM_NEWROUTE`, and `RTM_DELROUTE` of an event; `None` for cache entries and other families.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<Route> {
    let head = payload.get(..RTMSG_BYTES)?;
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    if !matches!(header.kind, RTM_NEWROUTE | RTM_DELROUTE) || flags & RTM_F_CLONED != 0 {
        return None;
    }
    let unspecified: IpAddr = match head[0] {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let attributes = Attrs::after(payload, RTMSG_BYTES);
    let destination = attributes.get(RTA_DST).and_then(|address| address.ip()).unwrap_or(unspecified);
    let mut route = Route::new(IpNet::new(destination, head[1]).ok()?);
    route.table = head[4].into();
    route.metric = 0;
    route.protocol = head[5];
    route.scope = Scope::from_number(head[6]);
    route.kind = RouteKind::from_number(head[7]);
    route.onlink = flags & RTNH_F_ONLINK != 0;
    let encapsulation = attributes.get(RTA_ENCAP_TYPE).and_then(|kind| kind.u16());
    for attribute in attributes {
        match attribute.kind {
            RTA_OIF => route.index = attribute.u32(),
            RTA_GATEWAY => route.via = attribute.ip(),
            RTA_VIA => route.via = Attr { value: attribute.value.get(2..)?, ..attribute }.ip(),
            RTA_PRIORITY => route.metric = attribute.u32()?,
            RTA_PREFSRC => route.source = attribute.ip(),
            RTA_TABLE => route.table = attribute.u32()?,
            RTA_NH_ID => route.nexthop_id = attribute.u32(),
            RTA_MULTIPATH => route.ways = multipath::read(attribute.value),
            RTA_METRICS => {
                route.mtu_bytes = attribute.nested().get(RTAX_MTU).and_then(|mtu| mtu.u32());
                route.advertised_mss = attribute.nested().get(RTAX_ADVMSS).and_then(|mss| mss.u32());
            }
            _ => {}
        }
    }
    route.tunnel = attributes.get(RTA_ENCAP).and_then(|nest| TunnelKey::read(encapsulation, nest));
    if route.nexthop_id.is_some() {
        // The kernel also shows what the object says (`nexthop_compat_mode`).
        (route.index, route.via, route.onlink, route.tunnel) = (None, None, false, None);
        route.ways.clear();
    }
    if !matches!(route.kind, RouteKind::Unicast | RouteKind::Local) {
        // IPv6 shows the loopback device for routes that send nowhere.
        route.index = None;
    }
    Some(route)
}
