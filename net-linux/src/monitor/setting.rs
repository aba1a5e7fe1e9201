//! Settings of the IP layer whose changes the kernel tells (netconf). Never reads them: that is `sysctl`.

use crate::netlink::{Attrs, Header};

pub(super) const RTM_NEWNETCONF: u16 = 80;

/// `struct netconfmsg` of `include/uapi/linux/netconf.h`: the family, padded.
const NETCONFMSG_BYTES: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_RP_FILTER: u16 = 3;
const NETCONFA_PROXY_NEIGH: u16 = 5;
const NETCONFA_IFINDEX_ALL: i32 = -1;
const NETCONFA_IFINDEX_DEFAULT: i32 = -2;
/// `AF_INET6`.
const AF_INET6: u8 = 10;

/// Whose settings they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `conf/all`.
    All,
    /// `conf/default`: of devices to come.
    Default,
    /// Of the device with this index.
    Device(u32),
}

/// What the kernel told of the settings of one family and scope: those that changed, or all of a new device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settings {
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Whose.
    pub scope: Scope,
    /// `forwarding`; of `all` and IPv4 that is `net.ipv4.ip_forward`.
    pub forwarding: Option<i32>,
    /// `rp_filter`; IPv4 only.
    pub rp_filter: Option<i32>,
    /// `proxy_arp` or `proxy_ndp`.
    pub proxy_neighbour: Option<i32>,
}

/// Reads `RTM_NEWNETCONF`; `None` without a scope, and when the settings go with their device.
pub(super) fn parse(header: Header, payload: &[u8]) -> Option<Settings> {
    if header.kind != RTM_NEWNETCONF {
        return None;
    }
    let attributes = Attrs::after(payload, NETCONFMSG_BYTES);
    let number = |kind| attributes.get(kind).and_then(|attr| attr.u32()).map(u32::cast_signed);
    let scope = match number(NETCONFA_IFINDEX)? {
        NETCONFA_IFINDEX_ALL => Scope::All,
        NETCONFA_IFINDEX_DEFAULT => Scope::Default,
        index => Scope::Device(u32::try_from(index).ok()?),
    };
    Some(Settings {
        v6: *payload.first()? == AF_INET6,
        scope,
        forwarding: number(NETCONFA_FORWARDING),
        rp_filter: number(NETCONFA_RP_FILTER),
        proxy_neighbour: number(NETCONFA_PROXY_NEIGH),
    })
}
