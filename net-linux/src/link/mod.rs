//! Network devices: veth, vxlan, bridge, dummy, and what others made. Never an address or a route.
//!
//! `struct ifinfomsg` and `IFLA_*` are of `include/uapi/linux/if_link.h`, tested against the kernel.

mod change;
mod create;
mod ipip;
mod names;
pub(crate) mod read;
mod vxlan;

pub use change::{LinkChange, LinkId};
pub use create::{NewLink, NewLinkKind, VethPeer};
pub use ipip::Ipip;
pub use names::LinkNames;
pub use read::{Link, LinkFilter, LinkKind};
pub use vxlan::Vxlan;

pub(crate) use read::parse;

use crate::netlink::{Message, wire};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const AF_INET6: u16 = 10;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_NOARP: u32 = 0x80;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// Bytes of `struct ifinfomsg`.
const IFINFOMSG_BYTES: usize = 16;

/// `struct ifinfomsg` with these flags set or cleared, as `change` tells.
fn ifinfomsg(message: &mut Message<'_>, index: u32, flags: u32, change: u32) {
    let mut bytes = [0; IFINFOMSG_BYTES];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    message.raw(&bytes);
}

/// Deletes every link of a group in the namespace of the socket: one request, one set of grace periods.
///
/// The kernel answers `ENODEV` when the group is empty.
pub fn delete_group(batch: &mut crate::netlink::Batch, group: u32) {
    batch.add("delete", format_args!("links of group {group:#x}"), RTM_DELLINK, 0, |message| {
        ifinfomsg(message, 0, 0, 0);
        message.u32(IFLA_GROUP, group);
    });
}

/// Creation flags: the name must be free.
const CREATE: u16 = wire::NLM_F_CREATE | wire::NLM_F_EXCL;
