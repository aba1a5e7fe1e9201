//! Several ways of one route, for kernels and programs without next-hop objects. Never chooses among them.

use super::{RTA_ENCAP, RTA_ENCAP_TYPE, RTA_GATEWAY, RTA_MULTIPATH, RTA_VIA, RTNH_F_ONLINK, TunnelKey};
use crate::addr::AF_INET6;
use crate::netlink::{Attr, Attrs, Message};
use std::net::IpAddr;

/// Bytes of `struct rtnexthop` (`include/uapi/linux/rtnetlink.h`).
const RTNEXTHOP_BYTES: usize = 8;
/// `RTNH_ALIGNTO`.
const ALIGN_BYTES: usize = 4;

/// One way on: a device, and a gateway on its link or a tunnel where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// The device's index.
    pub index: u32,
    /// The gateway; `None`: what is sought is on the device's link.
    pub via: Option<IpAddr>,
    /// The gateway is on the device's link, whatever other routes say.
    pub onlink: bool,
    /// The tunnel of a packet, for a device that collects metadata.
    pub tunnel: Option<TunnelKey>,
}

impl Way {
    /// To a gateway on the link of a device, even where no route says that the gateway is there.
    #[must_use]
    pub fn via(via: IpAddr, index: u32) -> Self {
        Self { index, via: Some(via), onlink: true, tunnel: None }
    }

    /// To what is on the link of a device.
    #[must_use]
    pub fn on_link(index: u32) -> Self {
        Self { index, via: None, onlink: false, tunnel: None }
    }

    /// Through a tunnel device that collects metadata, to the neighbour `via` on it.
    #[must_use]
    pub fn tunnelled(via: IpAddr, index: u32, tunnel: TunnelKey) -> Self {
        Self { tunnel: Some(tunnel), ..Self::via(via, index) }
    }

    /// Through a tunnel device that collects metadata and has no neighbours.
    #[must_use]
    pub fn wrapped(index: u32, tunnel: TunnelKey) -> Self {
        Self { tunnel: Some(tunnel), ..Self::on_link(index) }
    }
}

/// Writes a gateway of a route, of IPv6 under an IPv4 route too.
pub(super) fn write_gateway(message: &mut Message<'_>, via: IpAddr, ipv4_route: bool) {
    match via {
        IpAddr::V6(via) if ipv4_route => {
            // struct rtvia: family, then address.
            let mut value = [0; 18];
            value[..2].copy_from_slice(&u16::from(AF_INET6).to_ne_bytes());
            value[2..].copy_from_slice(&via.octets());
            message.attr(RTA_VIA, &value);
        }
        via => {
            message.ip(RTA_GATEWAY, via);
        }
    }
}

/// Writes all ways with their weights.
pub(super) fn write(message: &mut Message<'_>, ways: &[(Way, u8)], ipv4_route: bool) {
    let mut value = Vec::with_capacity(ways.len() * 16);
    for (way, weight) in ways {
        let start = value.len();
        // The kernel counts from one: 0 is weight 1.
        let flags = if way.onlink { RTNH_F_ONLINK as u8 } else { 0 };
        value.extend_from_slice(&[0, 0, flags, weight.saturating_sub(1)]);
        value.extend_from_slice(&way.index.to_ne_bytes());
        let mut inner = Message::new(&mut value);
        if let Some(via) = way.via {
            write_gateway(&mut inner, via, ipv4_route);
        }
        if let Some(tunnel) = way.tunnel {
            tunnel.write(&mut inner, RTA_ENCAP_TYPE, RTA_ENCAP);
        }
        let length = (value.len() - start) as u16;
        value[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
    message.attr(RTA_MULTIPATH, &value);
}

/// Reads all ways; stops at the first that is cut short.
pub(super) fn read(mut value: &[u8]) -> Vec<(Way, u8)> {
    let mut ways = Vec::new();
    while let Some((head, length)) =
        value.get(..RTNEXTHOP_BYTES).map(|head| (head, u16::from_ne_bytes([head[0], head[1]])))
    {
        let length = usize::from(length);
        let Some(attributes) = value.get(RTNEXTHOP_BYTES..length) else { break };
        let attributes = Attrs::new(attributes);
        let gateway = attributes.get(RTA_GATEWAY).and_then(|via| via.ip());
        let other_family = || {
            let via = attributes.get(RTA_VIA)?;
            Attr { value: via.value.get(2..)?, ..via }.ip()
        };
        let kind = attributes.get(RTA_ENCAP_TYPE).and_then(|kind| kind.u16());
        let way = Way {
            index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            via: gateway.or_else(other_family),
            onlink: u32::from(head[2]) & RTNH_F_ONLINK != 0,
            tunnel: attributes.get(RTA_ENCAP).and_then(|nest| TunnelKey::read(kind, nest)),
        };
        ways.push((way, head[3].saturating_add(1)));
        value = value.get(length.next_multiple_of(ALIGN_BYTES)..).unwrap_or_default();
    }
    ways
}
