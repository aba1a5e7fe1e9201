//! A VXLAN device's own attributes (`IFLA_VXLAN_*`). Never its forwarding entries: those are [`crate::fdb`]'s.

use crate::netlink::{Attrs, Message};
use std::net::IpAddr;

const ID: u16 = 1;
const LINK: u16 = 3;
const LOCAL: u16 = 4;
const TTL: u16 = 5;
const LEARNING: u16 = 7;
const PORT: u16 = 15;
const LOCAL6: u16 = 17;
const UDP_CSUM: u16 = 18;
const UDP_ZERO_CSUM6_TX: u16 = 19;
const UDP_ZERO_CSUM6_RX: u16 = 20;
const GBP: u16 = 23;
const COLLECT_METADATA: u16 = 25;
const VNIFILTER: u16 = 30;

/// A VXLAN device as we write and read it. Of a living device `local` can be changed within its family
/// ([`super::LinkChange::vxlan_local`]), and `learning` and `ttl`; for the rest it is made anew.
///
/// GBP (group policy) and the VNI filter are never switched on by us; a foreign device shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier, 0 to 16 777 215 (RFC 7348, section 5). 0 with `collect_metadata`.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Our outer address; also what decides the outer family. Needed for IPv6.
    pub local: Option<IpAddr>,
    /// The underlay's interface index; 0 leaves it to the routing table.
    pub underlay_index: u32,
    /// Whether forwarding entries are learned from traffic.
    pub learning: bool,
    /// Whether each packet's route says its tunnel (`ip link add .. external`).
    pub collect_metadata: bool,
    /// Outer TTL; 0 takes the route's default.
    pub ttl: u8,
    /// Whether the outer UDP checksum is sent over IPv4.
    pub udp_checksum: bool,
    /// Whether outer packets without UDP checksum are sent and taken over IPv6 (RFC 6935).
    pub zero_checksum6: bool,
    /// Group policy extension.
    pub gbp: bool,
    /// VNI filtering of a `collect_metadata` device.
    pub vni_filter: bool,
}

/// The outer source address.
pub(super) fn write_local(message: &mut Message<'_>, local: IpAddr) {
    message.ip(if local.is_ipv4() { LOCAL } else { LOCAL6 }, local);
}

impl Vxlan {
    /// A device of one network with learning off and everything else as the kernel has it.
    #[must_use]
    pub fn new(vni: u32, port: u16) -> Self {
        Self {
            vni,
            port,
            local: None,
            underlay_index: 0,
            learning: false,
            collect_metadata: false,
            ttl: 0,
            udp_checksum: true,
            zero_checksum6: false,
            gbp: false,
            vni_filter: false,
        }
    }

    pub(super) fn write(&self, message: &mut Message<'_>) {
        if self.collect_metadata {
            message.u8(COLLECT_METADATA, 1);
        } else {
            message.u32(ID, self.vni);
        }
        message.be16(PORT, self.port).u8(LEARNING, self.learning.into()).u8(UDP_CSUM, self.udp_checksum.into());
        message.u8(UDP_ZERO_CSUM6_TX, self.zero_checksum6.into()).u8(UDP_ZERO_CSUM6_RX, self.zero_checksum6.into());
        if self.ttl != 0 {
            message.u8(TTL, self.ttl);
        }
        if self.underlay_index != 0 {
            message.u32(LINK, self.underlay_index);
        }
        if let Some(local) = self.local {
            write_local(message, local);
        }
        if self.gbp {
            message.attr(GBP, &[]);
        }
        if self.vni_filter {
            message.u8(VNIFILTER, 1);
        }
    }

    pub(super) fn read(attributes: Attrs<'_>) -> Self {
        let mut found = Self::new(0, 0);
        found.udp_checksum = false;
        for attribute in attributes {
            let on = attribute.u8().unwrap_or(0) != 0;
            match attribute.kind {
                ID => found.vni = attribute.u32().unwrap_or(0),
                LINK => found.underlay_index = attribute.u32().unwrap_or(0),
                LOCAL | LOCAL6 => found.local = attribute.ip().filter(|address| !address.is_unspecified()),
                TTL => found.ttl = attribute.u8().unwrap_or(0),
                LEARNING => found.learning = on,
                PORT => found.port = attribute.be16().unwrap_or(0),
                UDP_CSUM => found.udp_checksum = on,
                UDP_ZERO_CSUM6_TX => found.zero_checksum6 = on,
                GBP => found.gbp = true,
                COLLECT_METADATA => found.collect_metadata = on,
                VNIFILTER => found.vni_filter = on,
                _ => {}
            }
        }
        found
    }
}
