//! Routes of both families. Never decides who else's routes may go: every route of ours carries our protocol number.

mod lookup;
mod multipath;
pub(crate) mod read;
mod tunnel;
mod write;

pub use lookup::Found;
pub use multipath::Way;
pub use read::RouteFilter;
pub use tunnel::TunnelKey;

pub(crate) use read::parse;

use crate::marks;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const RTA_NH_ID: u16 = 30;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

pub(crate) const RTNH_F_ONLINK: u32 = 4;

/// Bytes of `struct rtmsg` (`include/uapi/linux/rtnetlink.h`).
const RTMSG_BYTES: usize = 12;

/// The main routing table.
pub const MAIN_TABLE: u32 = 254;
/// The metric that the kernel gives to IPv6 routes without one (`IP6_RT_PRIO_USER`).
const DEFAULT_METRIC_V6: u32 = 1024;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Takes it in. Only read.
    Local,
    /// Drops it silently.
    Blackhole,
    /// Drops it and answers "unreachable".
    Unreachable,
    /// Drops it and answers "prohibited".
    Prohibit,
    /// Another type, by its number. Only read.
    Other(u8),
}

impl RouteKind {
    const fn number(self) -> u8 {
        match self {
            Self::Unicast => 1,
            Self::Local => 2,
            Self::Blackhole => 6,
            Self::Unreachable => 7,
            Self::Prohibit => 8,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Unicast,
            2 => Self::Local,
            6 => Self::Blackhole,
            7 => Self::Unreachable,
            8 => Self::Prohibit,
            number => Self::Other(number),
        }
    }
}

/// How far away a destination is. IPv4 only: IPv6 shows [`Scope::Universe`] always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Anywhere.
    Universe,
    /// On the link.
    Link,
    /// On this host.
    Host,
    /// Another scope, by its number. Only read.
    Other(u8),
}

impl Scope {
    const fn number(self) -> u8 {
        match self {
            Self::Universe => 0,
            Self::Link => 253,
            Self::Host => 254,
            Self::Other(number) => number,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Universe,
            253 => Self::Link,
            254 => Self::Host,
            number => Self::Other(number),
        }
    }
}

/// A route with one next hop, several, a next-hop object, or none. What is written reads back equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination, without host bits.
    pub destination: IpNet,
    /// The table.
    pub table: u32,
    /// The metric; lower wins. Always explicit: the kernel would read 0 as 1024 for IPv6.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// How far away the destination is.
    pub scope: Scope,
    /// Who made it.
    pub protocol: u8,
    /// The device's index.
    pub index: Option<u32>,
    /// The gateway; IPv6 for an IPv4 destination too (RFC 8950).
    pub via: Option<IpAddr>,
    /// The gateway is on the device's link, whatever other routes say.
    pub onlink: bool,
    /// The source address of our own packets.
    pub source: Option<IpAddr>,
    /// The next-hop object that stands for device and gateway.
    pub nexthop_id: Option<u32>,
    /// The path's MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// The segment size that TCP announces.
    pub advertised_mss: Option<u32>,
    /// The tunnel of a packet, for a device that collects metadata.
    pub tunnel: Option<TunnelKey>,
    /// Several ways with their weights (1 to 255), in place of device, gateway and tunnel; empty for a single one.
    pub ways: Vec<(Way, u8)>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {}", self.destination)?;
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        Ok(())
    }
}

impl Route {
    /// A route of ours in the main table that sends nowhere yet.
    #[must_use]
    pub fn new(destination: IpNet) -> Self {
        Self {
            destination: destination.trunc(),
            table: MAIN_TABLE,
            metric: if destination.addr().is_ipv6() { DEFAULT_METRIC_V6 } else { 0 },
            kind: RouteKind::Unicast,
            scope: Scope::Universe,
            protocol: marks::PROTOCOL,
            index: None,
            via: None,
            onlink: false,
            source: None,
            nexthop_id: None,
            mtu_bytes: None,
            advertised_mss: None,
            tunnel: None,
            ways: Vec::new(),
        }
    }

    /// To a destination on the link of a device.
    #[must_use]
    pub fn on_link(destination: IpNet, index: u32) -> Self {
        let scope = if destination.addr().is_ipv4() { Scope::Link } else { Scope::Universe };
        Self { index: Some(index), scope, ..Self::new(destination) }
    }

    /// Through a gateway on the link of a device, even where no route says that the gateway is there.
    #[must_use]
    pub fn via_on_link(destination: IpNet, via: IpAddr, index: u32) -> Self {
        Self { index: Some(index), via: Some(via), onlink: true, ..Self::new(destination) }
    }

    /// Through a next-hop object.
    #[must_use]
    pub fn through(destination: IpNet, nexthop_id: u32) -> Self {
        Self { nexthop_id: Some(nexthop_id), ..Self::new(destination) }
    }

    /// That refuses packets: [`RouteKind::Blackhole`], [`RouteKind::Unreachable`] or [`RouteKind::Prohibit`].
    #[must_use]
    pub fn refusing(destination: IpNet, kind: RouteKind) -> Self {
        Self { kind, ..Self::new(destination) }
    }

    /// Whether it carries our mark.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == marks::PROTOCOL
    }

    /// Whether both take one place in the kernel's table: one of them replaces the other.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.destination == other.destination && self.table == other.table && self.metric == other.metric
    }
}
