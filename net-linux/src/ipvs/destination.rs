//! One server behind a service. Never the service.

use super::service::{padded, unpadded};
use super::stats::{self, Stats};
use crate::addr::{AF_INET, AF_INET6};
use crate::netlink::{Attrs, Message};
use std::fmt;
use std::net::SocketAddr;

const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ACTIVE_CONNS: u16 = 7;
const DEST_INACT_CONNS: u16 = 8;
const DEST_PERSIST_CONNS: u16 = 9;
const DEST_STATS: u16 = 10;
const DEST_ADDR_FAMILY: u16 = 11;
const DEST_STATS64: u16 = 12;
const DEST_TUN_TYPE: u16 = 13;
const DEST_TUN_PORT: u16 = 14;

const METHOD_MASK: u32 = 0x07;
const METHOD_MASQUERADE: u32 = 0;
const METHOD_LOCAL: u32 = 1;
const METHOD_TUNNEL: u32 = 2;
const METHOD_DIRECT: u32 = 3;

const TUNNEL_IPIP: u8 = 0;
const TUNNEL_GUE: u8 = 1;
const TUNNEL_GRE: u8 = 2;

/// How packets get to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// With another destination address; replies come back through here.
    Masquerade,
    /// Unchanged, to the destination's Ethernet address.
    DirectRoute,
    /// Unchanged inside IP (protocol 4 or 41); replies go to the client directly.
    Ipip,
    /// Unchanged inside UDP (generic UDP encapsulation, Linux 5.3).
    Gue {
        /// The destination's UDP port.
        port: u16,
    },
    /// Unchanged inside GRE (Linux 5.4).
    Gre,
}

/// One server behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Where it is. The port counts with masquerading only; the others keep the service's.
    pub address: SocketAddr,
    /// How packets get there.
    pub forward: Forward,
    /// Its share of new connections, 0 to 2^31 - 1; 0: no new ones, and those that stand stay.
    pub weight: u32,
    /// No new connections from so many on, until there are fewer than `lower_threshold`; 0: no limit.
    pub upper_threshold: u32,
    /// 0: three quarters of the upper one.
    pub lower_threshold: u32,
}

impl Destination {
    /// A masqueraded one of weight 1 without limits.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, forward: Forward::Masquerade, weight: 1, upper_threshold: 0, lower_threshold: 0 }
    }

    pub(super) fn write(&self, message: &mut Message<'_>) {
        let family = if self.address.is_ipv6() { AF_INET6 } else { AF_INET };
        message.attr(DEST_ADDR, &padded(self.address.ip())).be16(DEST_PORT, self.address.port());
        message.u16(DEST_ADDR_FAMILY, u16::from(family));
        let (method, tunnel) = match self.forward {
            Forward::Masquerade => (METHOD_MASQUERADE, None),
            Forward::DirectRoute => (METHOD_DIRECT, None),
            Forward::Ipip => (METHOD_TUNNEL, Some((TUNNEL_IPIP, 0))),
            Forward::Gue { port } => (METHOD_TUNNEL, Some((TUNNEL_GUE, port))),
            Forward::Gre => (METHOD_TUNNEL, Some((TUNNEL_GRE, 0))),
        };
        message.u32(DEST_FWD_METHOD, method).u32(DEST_WEIGHT, self.weight);
        message.u32(DEST_U_THRESH, self.upper_threshold).u32(DEST_L_THRESH, self.lower_threshold);
        if let Some((kind, port)) = tunnel {
            message.u8(DEST_TUN_TYPE, kind).be16(DEST_TUN_PORT, port);
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// Connections of a destination, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connections {
    /// Established ones.
    pub active: u32,
    /// Others that are remembered: closing, or without a state (UDP).
    pub inactive: u32,
    /// Remembered clients of a service with persistence.
    pub persistent: u32,
}

/// Reads what `IPVS_CMD_ATTR_DEST` holds; `service_is_ipv6` is the family where the kernel gives none.
pub(super) fn parse(attributes: Attrs<'_>, service_is_ipv6: bool) -> Option<(Destination, Connections, Stats)> {
    let family = attributes.get(DEST_ADDR_FAMILY).and_then(|family| family.u16());
    let ipv6 = family.map_or(service_is_ipv6, |family| family == u16::from(AF_INET6));
    let address = unpadded(attributes.get(DEST_ADDR)?.value, ipv6)?;
    let number = |kind| attributes.get(kind).and_then(|number| number.u32());
    let tunnel = || match attributes.get(DEST_TUN_TYPE).and_then(|kind| kind.u8()) {
        None | Some(TUNNEL_IPIP) => Some(Forward::Ipip),
        Some(TUNNEL_GUE) => Some(Forward::Gue { port: attributes.get(DEST_TUN_PORT)?.be16()? }),
        Some(TUNNEL_GRE) => Some(Forward::Gre),
        Some(_) => None,
    };
    let forward = match number(DEST_FWD_METHOD)? & METHOD_MASK {
        // The kernel's own word for a masqueraded one on this host.
        METHOD_MASQUERADE | METHOD_LOCAL => Forward::Masquerade,
        METHOD_TUNNEL => tunnel()?,
        METHOD_DIRECT => Forward::DirectRoute,
        _ => return None,
    };
    let destination = Destination {
        address: SocketAddr::new(address, attributes.get(DEST_PORT)?.be16()?),
        forward,
        weight: number(DEST_WEIGHT)?,
        upper_threshold: number(DEST_U_THRESH)?,
        lower_threshold: number(DEST_L_THRESH)?,
    };
    let connections = Connections {
        active: number(DEST_ACTIVE_CONNS).unwrap_or(0),
        inactive: number(DEST_INACT_CONNS).unwrap_or(0),
        persistent: number(DEST_PERSIST_CONNS).unwrap_or(0),
    };
    Some((destination, connections, stats::of(attributes, DEST_STATS64, DEST_STATS)))
}
