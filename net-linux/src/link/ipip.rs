//! An IPIP device's own attributes (`IFLA_IPTUN_*`, `include/uapi/linux/if_tunnel.h`). Never its routes.

use crate::netlink::{Attrs, Message};
use std::net::{IpAddr, Ipv4Addr};

const LOCAL: u16 = 2;
const REMOTE: u16 = 3;
const COLLECT_METADATA: u16 = 19;

/// A device that carries IPv4 in IPv4 (RFC 2003), as we write and read it. Nothing of a living one is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ipip {
    /// Whether each packet's route says its tunnel (`ip link add .. type ipip external`). One such device of a namespace
    /// takes in all packets that no other IPIP device there is for. A foreign device shows others than ours.
    pub collect_metadata: bool,
    /// Takes in what comes to this address only, whoever sends it; `None`: whatever address.
    pub local: Option<Ipv4Addr>,
}

impl Ipip {
    pub(super) fn write(self, message: &mut Message<'_>) {
        if self.collect_metadata {
            // A flag, of which only the presence counts.
            message.attr(COLLECT_METADATA, &[]);
        }
        if let Some(local) = self.local {
            message.ip(LOCAL, IpAddr::V4(local));
        }
    }

    pub(super) fn read(attributes: &Attrs<'_>) -> Self {
        let has_remote = attributes.get(REMOTE).and_then(|remote| remote.ip()).is_some_and(|far| !far.is_unspecified());
        let local = match attributes.get(LOCAL).and_then(|local| local.ip()) {
            Some(IpAddr::V4(local)) if !local.is_unspecified() => Some(local),
            _ => None,
        };
        Self { collect_metadata: attributes.get(COLLECT_METADATA).is_some() && !has_remote, local }
    }
}
