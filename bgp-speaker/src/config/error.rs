//! Why a configuration is refused. Never a half-taken one.

use super::PeerName;
use ipnet::IpNet;
use std::net::SocketAddr;

/// A configuration that cannot be: where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}.{field}: {why}")]
pub struct ConfigError {
    /// The object: `speaker`, `peer NAME`, `range NAME`, `aggregate PREFIX`.
    pub at: String,
    /// Its field.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub why: Refusal,
}

/// What is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A number outside its range.
    #[error("is {found}{unit}; must be {least} to {most}{unit}")]
    Range {
        /// What was given.
        found: u64,
        /// The least that will do.
        least: u64,
        /// The most.
        most: u64,
        /// ` s`, ` ms` or nothing.
        unit: &'static str,
    },
    /// A hold time of one or two seconds.
    #[error("is {found} s; must be 0, or 3 to 65535 s (RFC 4271, section 4.2)")]
    HoldTime {
        /// What was given.
        found: u16,
    },
    /// Two peers with one address.
    #[error("{address} is also that of peer {other}; each peer needs an address of its own")]
    SameAddress {
        /// The address.
        address: String,
        /// The other one.
        other: PeerName,
    },
    /// Two ranges share addresses.
    #[error("{range} overlaps {other_range} of range {other}; a peer must be in one range only")]
    Overlap {
        /// This one.
        range: IpNet,
        /// The other one.
        other: PeerName,
        /// Its prefix.
        other_range: IpNet,
    },
    /// An address that no peer has.
    #[error("{address} is no unicast address")]
    NotUnicast {
        /// What was given.
        address: String,
    },
    /// The peer would be ourselves.
    #[error("{address} is our own address")]
    OwnAddress {
        /// What was given.
        address: std::net::IpAddr,
    },
    /// A number that no system has.
    #[error("{found} is reserved (RFC 6793, section 9; RFC 7300, section 2)")]
    ReservedAsn {
        /// What was given.
        found: u32,
    },
    /// A link-local address says nothing without its link.
    #[error("is needed beside the link-local address {address}")]
    NeedsInterface {
        /// The peer's address.
        address: String,
    },
    /// A text that is no name of a device.
    #[error("{name:?} is no device's name: 1 to 15 bytes without `/` and blanks")]
    InterfaceName {
        /// What was given.
        name: String,
    },
    /// Nothing where one at least is needed.
    #[error("is empty; must have at least one")]
    Empty,
    /// Something that only internal peers can be.
    #[error("needs an internal peer")]
    InternalOnly,
    /// Something that only external peers can be.
    #[error("needs an external peer")]
    ExternalOnly,
    /// Our address and the peer's are of two IP versions.
    #[error("{local} and the peer's address are of different IP versions")]
    Versions {
        /// Ours.
        local: std::net::IpAddr,
    },
    /// A prefix with host bits.
    #[error("{prefix} has host bits; write {network}")]
    HostBits {
        /// What was given.
        prefix: IpNet,
        /// What is meant.
        network: IpNet,
    },
    /// A text that is too long for its message.
    #[error("has {bytes} bytes; at most 255 (RFC 9003)")]
    LongText {
        /// How many.
        bytes: usize,
    },
    /// One place to listen, twice.
    #[error("{address} is there twice")]
    Twice {
        /// Which.
        address: SocketAddr,
    },
    /// Something is said of a family that is not offered.
    #[error("names {family}, which is not among the families of the peer")]
    OtherFamily {
        /// Which.
        family: crate::types::Family,
    },
    /// The other field has to be set too.
    #[error("needs {field}")]
    Needs {
        /// The other field.
        field: &'static str,
    },
}
