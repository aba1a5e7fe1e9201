//! Numbers with a range. Never a number without a type.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;

/// The number of an autonomous system: 1 to 4 294 967 295. RFC 6793; 0 is reserved by RFC 7607.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Asn(NonZeroU32);

impl Asn {
    /// What stands in a two-byte field for a number that does not fit. RFC 6793, section 9.
    pub const TRANS: Self = Self(NonZeroU32::new(23_456).expect("23456 is not zero"));

    /// `None` for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Whether it is for private use (RFC 6996): 64512 to 65534, 4200000000 to 4294967294.
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self.get(), 64_512..=65_534 | 4_200_000_000..=4_294_967_294)
    }

    /// What stands in the two-byte field of an OPEN. RFC 6793, section 4.1.
    #[must_use]
    pub fn two_bytes(self) -> u16 {
        u16::try_from(self.get()).unwrap_or(23_456)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// The BGP identifier of a speaker, written like an IPv4 address; not 0. RFC 6286.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouterId(Ipv4Addr);

impl RouterId {
    /// `None` for 0.0.0.0.
    #[must_use]
    pub const fn new(id: Ipv4Addr) -> Option<Self> {
        if id.is_unspecified() { None } else { Some(Self(id)) }
    }

    /// As an address.
    #[must_use]
    pub const fn get(self) -> Ipv4Addr {
        self.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A family of routes: unicast of one IP version (SAFI 1). RFC 4760.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4,
    /// AFI 2, SAFI 1.
    Ipv6,
}

impl Family {
    /// Both, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// Of a prefix.
    #[must_use]
    pub const fn of(prefix: &ipnet::IpNet) -> Self {
        match prefix {
            ipnet::IpNet::V4(_) => Self::Ipv4,
            ipnet::IpNet::V6(_) => Self::Ipv6,
        }
    }

    /// 0 for IPv4, 1 for IPv6: where it stands in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

/// A peer of one speaker: small, given by the speaker in the order in which peers come, used again after a peer has gone
/// and everything of it is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer #{}", self.0)
    }
}

/// Tells several paths of one prefix from one peer apart; 0 where the session carries none. RFC 7911, section 3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathId(pub u32);
