//! A virtual service: what is balanced, and how. Never between whom.

use super::stats::{self, Stats};
use crate::addr::{AF_INET, AF_INET6};
use crate::marks;
use crate::netlink::{Attrs, Message};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SVC_AF: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDR: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_FWMARK: u16 = 5;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;
const SVC_STATS: u16 = 10;
const SVC_STATS64: u16 = 12;

const FLAG_PERSISTENT: u32 = 0x01;
const FLAG_ONE_PACKET: u32 = 0x04;
const FLAG_SCHEDULER_1: u32 = 0x08;
const FLAG_SCHEDULER_2: u32 = 0x10;

/// Bytes of `union nf_inet_addr`.
pub(super) const ADDRESS_BYTES: usize = 16;

/// What tells a service from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceId {
    /// What goes to an address and a port.
    Address {
        /// The IP protocol: 6, 17 or 132.
        protocol: u8,
        /// The address and the port; port 0 takes every port, with persistence only.
        address: SocketAddr,
    },
    /// What carries a firewall mark.
    Mark {
        /// The mark, not 0.
        mark: u32,
        /// Whether it is about IPv6.
        ipv6: bool,
    },
}

impl ServiceId {
    /// A service of an address and a port.
    #[must_use]
    pub const fn address(protocol: u8, address: SocketAddr) -> Self {
        Self::Address { protocol, address }
    }

    /// Whether its clients use IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        match self {
            Self::Address { address, .. } => address.is_ipv6(),
            Self::Mark { ipv6, .. } => *ipv6,
        }
    }

    pub(super) fn write(&self, message: &mut Message<'_>) {
        message.u16(SVC_AF, u16::from(if self.is_ipv6() { AF_INET6 } else { AF_INET }));
        match self {
            Self::Address { protocol, address } => {
                message.u16(SVC_PROTOCOL, u16::from(*protocol));
                message.attr(SVC_ADDR, &padded(address.ip())).be16(SVC_PORT, address.port());
            }
            Self::Mark { mark, .. } => {
                message.u32(SVC_FWMARK, *mark);
            }
        }
    }

    fn parse(attributes: Attrs<'_>) -> Option<Self> {
        let ipv6 = attributes.get(SVC_AF)?.u16()? == u16::from(AF_INET6);
        if let Some(mark) = attributes.get(SVC_FWMARK) {
            return Some(Self::Mark { mark: mark.u32()?, ipv6 });
        }
        let protocol = u8::try_from(attributes.get(SVC_PROTOCOL)?.u16()?).ok()?;
        let address = unpadded(attributes.get(SVC_ADDR)?.value, ipv6)?;
        Some(Self::Address { protocol, address: SocketAddr::new(address, attributes.get(SVC_PORT)?.be16()?) })
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { protocol: 6, address } => write!(f, "IPVS service tcp {address}"),
            Self::Address { protocol: 17, address } => write!(f, "IPVS service udp {address}"),
            Self::Address { protocol: 132, address } => write!(f, "IPVS service sctp {address}"),
            Self::Address { protocol, address } => write!(f, "IPVS service {protocol} {address}"),
            Self::Mark { mark, ipv6: false } => write!(f, "IPVS service of mark {mark:#x}"),
            Self::Mark { mark, ipv6: true } => write!(f, "IPVS service of mark {mark:#x} in IPv6"),
        }
    }
}

/// How a service behaves beside its scheduler.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// Each packet is scheduled anew (UDP).
    pub one_packet: bool,
    /// `sh` and `mh`: where the destination is not there, the next one.
    pub fallback: bool,
    /// `sh` and `mh`: the client's port counts too.
    pub port: bool,
}

/// A virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What tells it from others.
    pub id: ServiceId,
    /// The kernel's name of the scheduler, 1 to 15 bytes: `rr`, `wrr`, `lc`, `wlc`, `sh`, `dh`, `mh`, `sed`, `nq`, ...
    pub scheduler: String,
    /// How it behaves beside that.
    pub flags: Flags,
    /// A client stays with its destination for so many seconds after its last connection.
    pub persistence_seconds: Option<u32>,
    /// The bits of a client's address that make it the same client: 1 to 32, or 1 to 128.
    pub client_bits: u8,
    /// Whether it carries our mark ([`marks::IPVS_SERVICE`]).
    pub ours: bool,
}

impl Service {
    /// A service without our mark, where each connection stands for itself.
    #[must_use]
    pub fn new(id: ServiceId, scheduler: impl Into<String>) -> Self {
        let client_bits = if id.is_ipv6() { 128 } else { 32 };
        Self {
            id,
            scheduler: scheduler.into(),
            flags: Flags::default(),
            persistence_seconds: None,
            client_bits,
            ours: false,
        }
    }

    pub(super) fn write(&self, message: &mut Message<'_>) {
        self.id.write(message);
        message.text(SVC_SCHED_NAME, &self.scheduler);
        let bit = |on: bool, bit| if on { bit } else { 0 };
        let flags = bit(self.persistence_seconds.is_some(), FLAG_PERSISTENT)
            | bit(self.flags.one_packet, FLAG_ONE_PACKET)
            | bit(self.flags.fallback, FLAG_SCHEDULER_1)
            | bit(self.flags.port, FLAG_SCHEDULER_2)
            | bit(self.ours, marks::IPVS_SERVICE);
        let mask = FLAG_PERSISTENT | FLAG_ONE_PACKET | FLAG_SCHEDULER_1 | FLAG_SCHEDULER_2 | marks::IPVS_SERVICE_MASK;
        // struct ip_vs_flags.
        let mut value = [0; 8];
        value[..4].copy_from_slice(&flags.to_ne_bytes());
        value[4..].copy_from_slice(&mask.to_ne_bytes());
        message.attr(SVC_FLAGS, &value).u32(SVC_TIMEOUT, self.persistence_seconds.unwrap_or(0));
        if self.id.is_ipv6() {
            message.u32(SVC_NETMASK, u32::from(self.client_bits));
        } else {
            message.be32(SVC_NETMASK, u32::MAX.checked_shl(32 - u32::from(self.client_bits.min(32))).unwrap_or(0));
        }
    }
}

/// Reads what `IPVS_CMD_ATTR_SERVICE` holds.
pub(super) fn parse(attributes: Attrs<'_>) -> Option<(Service, Stats)> {
    let id = ServiceId::parse(attributes)?;
    let flags = u32::from_ne_bytes(*attributes.get(SVC_FLAGS)?.value.first_chunk()?);
    let is = |bit| flags & bit != 0;
    let netmask = attributes.get(SVC_NETMASK)?;
    let client_bits =
        if id.is_ipv6() { u8::try_from(netmask.u32()?).ok()? } else { netmask.be32()?.leading_ones() as u8 };
    let timeout = attributes.get(SVC_TIMEOUT)?.u32()?;
    let service = Service {
        id,
        scheduler: attributes.get(SVC_SCHED_NAME)?.text(),
        flags: Flags { one_packet: is(FLAG_ONE_PACKET), fallback: is(FLAG_SCHEDULER_1), port: is(FLAG_SCHEDULER_2) },
        persistence_seconds: is(FLAG_PERSISTENT).then_some(timeout),
        client_bits,
        ours: flags & marks::IPVS_SERVICE_MASK == marks::IPVS_SERVICE,
    };
    Some((service, stats::of(attributes, SVC_STATS64, SVC_STATS)))
}

/// `union nf_inet_addr`.
pub(super) fn padded(address: IpAddr) -> [u8; ADDRESS_BYTES] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut value = [0; ADDRESS_BYTES];
            value[..4].copy_from_slice(&address.octets());
            value
        }
    }
}

pub(super) fn unpadded(value: &[u8], ipv6: bool) -> Option<IpAddr> {
    Some(if ipv6 {
        IpAddr::V6(Ipv6Addr::from(*value.first_chunk::<ADDRESS_BYTES>()?))
    } else {
        IpAddr::V4(Ipv4Addr::from(*value.first_chunk::<4>()?))
    })
}
