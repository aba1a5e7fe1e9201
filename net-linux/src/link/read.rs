//! Reading devices. Never writes.

use super::{
    AF_INET6, IFF_LOOPBACK, IFF_LOWER_UP, IFF_NOARP, IFF_UP, IFINFOMSG_BYTES, IFLA_ADDRESS, IFLA_AF_SPEC,
    IFLA_EXT_MASK, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_TARGET_NETNSID, IN6_ADDR_GEN_MODE_NONE,
    Ipip, LinkId, RTM_GETLINK, RTM_NEWLINK, Vxlan, ifinfomsg,
};
use crate::marks;
use crate::netlink::{Attr, Attrs, Header, Result, Socket};
use cni_core::model::MacAddr;
use nix::errno::Errno;

const IFLA_INET6_CONF: u16 = 2;
const IFLA_OPERSTATE: u16 = 16;
/// `include/uapi/linux/if.h`.
const IF_OPER_UP: u8 = 6;
const DEVCONF_DISABLE_IPV6: usize = 26;

/// `RTEXT_FILTER_SKIP_STATS`: counters are most of a link's bytes, and we don't read them.
const SKIP_STATS: u32 = 1 << 3;

/// The kind of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// One end of a veth pair.
    Veth,
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// A device for IPv4 in IPv4.
    Ipip(Ipip),
    /// A bridge.
    Bridge,
    /// A dummy.
    Dummy,
    /// A TUN or TAP device.
    Tun,
    /// The loopback device.
    Loopback,
    /// Another virtual kind, as the kernel names it.
    Other(String),
    /// The kernel names no kind: hardware.
    Physical,
}

/// A device as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index, unique in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: LinkKind,
    /// Its alias.
    pub alias: Option<String>,
    /// Its Ethernet address; `None` for devices without one.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// Operational state `up` (RFC 2863): the kernel has taken note of the carrier. Until then what is sent is dropped.
    pub operational: bool,
    /// Whether neighbours are asked for: with `false` frames go to the device's own address.
    pub resolves: bool,
    /// Link group.
    pub group: u32,
    /// Index of the bridge it belongs to.
    pub master: Option<u32>,
    /// Index of the other end of a veth or of the device below, in the namespace of `peer_namespace_id`.
    pub peer_index: Option<u32>,
    /// The id that this namespace has for the one of the other end; `None`: the same namespace.
    pub peer_namespace_id: Option<i32>,
    /// Whether the kernel makes IPv6 link-local addresses; `None` when the device has no IPv6.
    pub ipv6_autoconf: Option<bool>,
    /// Whether the sysctl `disable_ipv6` of the device is on.
    pub ipv6_disabled: bool,
}

impl Link {
    /// What our alias says that this is; `None` when it does not carry our mark.
    #[must_use]
    pub fn our_id(&self) -> Option<&str> {
        self.alias.as_deref().and_then(marks::alias_id)
    }

    /// The device of this name or index; `None` when there is none.
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn get(socket: &mut Socket, link: &LinkId<'_>) -> Result<Option<Self>> {
        let found = socket.query(
            "read",
            link,
            RTM_GETLINK,
            0,
            |message| {
                link.write(message, 0, 0);
                message.u32(IFLA_EXT_MASK, SKIP_STATS);
            },
            parse,
        );
        match found {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the other end is in a namespace that lives. The kernel deletes a veth some time after the namespace of one
    /// of its ends has died; until then the veth is still shown.
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn peer_lives(&self, socket: &mut Socket) -> Result<bool> {
        match (self.peer_index, self.peer_namespace_id) {
            (None, _) => Ok(false),
            (Some(_), None) => Ok(true),
            _ => Ok(self.peer(socket)?.is_some()),
        }
    }

    /// The other end of a veth, as its own namespace shows it; `None` where that one does not live.
    ///
    /// # Errors
    /// The kernel refused otherwise, or the socket failed.
    pub fn peer(&self, socket: &mut Socket) -> Result<Option<Self>> {
        let Some(peer) = self.peer_index else { return Ok(None) };
        let found = socket.query(
            "read the other end of",
            &self.name,
            RTM_GETLINK,
            0,
            |message| {
                LinkId::Index(peer).write(message, 0, 0);
                if let Some(namespace) = self.peer_namespace_id {
                    message.u32(IFLA_TARGET_NETNSID, namespace.cast_unsigned());
                }
                message.u32(IFLA_EXT_MASK, SKIP_STATS);
            },
            parse,
        );
        match found {
            Ok(links) => Ok(links.into_iter().next()),
            // A dead namespace has no id any more (`rtnl_get_net_ns_capable` of net/core/rtnetlink.c answers EINVAL).
            Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::ENODEV)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All devices that pass the filter, filtered in the kernel.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, filter: &LinkFilter<'_>) -> Result<Vec<Self>> {
        socket.dump(
            "links",
            RTM_GETLINK,
            |message| {
                ifinfomsg(message, 0, 0, 0);
                message.u32(IFLA_EXT_MASK, SKIP_STATS);
                if let Some(kind) = filter.kind {
                    message.nest(IFLA_LINKINFO, |info| {
                        info.text(IFLA_INFO_KIND, kind);
                    });
                }
                if let Some(master) = filter.master {
                    message.u32(IFLA_MASTER, master);
                }
            },
            parse,
        )
    }
}

/// Which devices a dump shows; the default is all.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkFilter<'a> {
    /// Of this kind, as the kernel names it: `veth`, `vxlan`.
    pub kind: Option<&'a str>,
    /// Of this bridge.
    pub master: Option<u32>,
}

/// Reads `RTM_NEWLINK`, and `RTM_DELLINK` of an event; `None` for messages of a bridge's own family.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<Link> {
    const AF_UNSPEC: u8 = 0;
    let head = payload.get(..IFINFOMSG_BYTES)?;
    if !matches!(header.kind, RTM_NEWLINK | super::RTM_DELLINK) || head[0] != AF_UNSPEC {
        return None;
    }
    let flags = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]);
    let mut link = Link {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        name: String::new(),
        kind: if flags & IFF_LOOPBACK == 0 { LinkKind::Physical } else { LinkKind::Loopback },
        alias: None,
        mac: None,
        mtu_bytes: 0,
        up: flags & IFF_UP != 0,
        carrier: flags & IFF_LOWER_UP != 0,
        operational: false,
        resolves: flags & IFF_NOARP == 0,
        group: 0,
        master: None,
        peer_index: None,
        peer_namespace_id: None,
        ipv6_autoconf: None,
        ipv6_disabled: false,
    };
    for attribute in Attrs::after(payload, IFINFOMSG_BYTES) {
        match attribute.kind {
            IFLA_IFNAME => link.name = attribute.text(),
            IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(MacAddr),
            IFLA_MTU => link.mtu_bytes = attribute.u32()?,
            IFLA_GROUP => link.group = attribute.u32()?,
            IFLA_MASTER => link.master = attribute.u32(),
            IFLA_OPERSTATE => link.operational = attribute.u8() == Some(IF_OPER_UP),
            IFLA_LINK => link.peer_index = attribute.u32().filter(|index| *index != 0),
            IFLA_LINK_NETNSID => link.peer_namespace_id = attribute.u32().map(u32::cast_signed),
            IFLA_IFALIAS => link.alias = Some(attribute.text()),
            IFLA_LINKINFO => link.kind = parse_kind(attribute).unwrap_or(link.kind),
            IFLA_AF_SPEC => {
                let Some(inet6) = attribute.nested().get(AF_INET6) else { continue };
                let mode = inet6.nested().get(IFLA_INET6_ADDR_GEN_MODE).and_then(|mode| mode.u8());
                link.ipv6_autoconf = mode.map(|mode| mode != IN6_ADDR_GEN_MODE_NONE);
                // An array of 32-bit sysctls, `DEVCONF_*` of include/uapi/linux/ipv6.h.
                let sysctls = inet6.nested().get(IFLA_INET6_CONF).map_or(&[][..], |conf| conf.value.as_chunks::<4>().0);
                link.ipv6_disabled = sysctls.get(DEVCONF_DISABLE_IPV6).is_some_and(|value| *value != [0; 4]);
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_kind(info: Attr<'_>) -> Option<LinkKind> {
    let kind = info.nested().get(IFLA_INFO_KIND)?.text();
    let data = info.nested().get(IFLA_INFO_DATA);
    Some(match kind.as_str() {
        "veth" => LinkKind::Veth,
        "vxlan" => LinkKind::Vxlan(Vxlan::read(data?.nested())),
        "ipip" => LinkKind::Ipip(Ipip::read(&data?.nested())),
        "bridge" => LinkKind::Bridge,
        "dummy" => LinkKind::Dummy,
        "tun" => LinkKind::Tun,
        _ => LinkKind::Other(kind),
    })
}
