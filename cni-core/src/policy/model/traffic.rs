//! Protocols, ports and ICMP types of a rule. Never who talks to whom.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A protocol above IP, by its IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
    /// UDP-Lite.
    pub const UDP_LITE: Self = Self(136);

    const NAMES: [(&'static str, Self); 6] = [
        ("TCP", Self::TCP),
        ("UDP", Self::UDP),
        ("SCTP", Self::SCTP),
        ("ICMP", Self::ICMP),
        ("ICMPv6", Self::ICMPV6),
        ("UDPLite", Self::UDP_LITE),
    ];

    /// Whether its header begins with a source and a destination port.
    #[must_use]
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::SCTP | Self::UDP_LITE)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, protocol)| protocol == self) {
            Some((name, _)) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

/// A text that is no protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no protocol; write TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite or a number from 1 to 255")]
pub struct UnknownProtocol {
    /// The text.
    pub text: String,
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    /// Reads a name, whatever its case, or a number from 1 to 255.
    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        let named = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, protocol)| *protocol);
        let number = || text.parse().ok().filter(|number| *number > 0).map(Self);
        named.or_else(number).ok_or_else(|| UnknownProtocol { text: text.to_owned() })
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Ports from first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether a port is in it.
    #[must_use]
    pub const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// A set of ports; of none: no port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// By number.
    pub ranges: Vec<PortRange>,
    /// By the name that the destination's pod gives them; another pod may mean another number by it.
    pub names: BTreeSet<Arc<str>>,
}

/// An ICMP message. RFC 792, RFC 4443.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Icmp {
    /// Its type.
    pub kind: u8,
    /// Its code; `None`: any.
    pub code: Option<u8>,
}

/// What traffic a rule is about: all conditions that are there must hold. Port conditions hold only for protocols that
/// have ports, ICMP conditions only for ICMP and ICMPv6.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Traffic {
    /// Only this family.
    pub family: Option<Family>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Only other protocols than this.
    pub not_protocol: Option<Protocol>,
    /// Only from these ports.
    pub source_ports: Option<Ports>,
    /// Only from other ports than these.
    pub not_source_ports: Option<Ports>,
    /// Only to these ports.
    pub destination_ports: Option<Ports>,
    /// Only to other ports than these.
    pub not_destination_ports: Option<Ports>,
    /// Only these messages.
    pub icmp: Option<Icmp>,
    /// Only other messages than these.
    pub not_icmp: Option<Icmp>,
}

impl Traffic {
    /// All traffic.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// All traffic of a protocol.
    #[must_use]
    pub fn of(protocol: Protocol) -> Self {
        Self { protocol: Some(protocol), ..Self::default() }
    }

    /// A protocol to some ports.
    #[must_use]
    pub fn to_ports(protocol: Protocol, ports: Ports) -> Self {
        Self { destination_ports: Some(ports), ..Self::of(protocol) }
    }
}
