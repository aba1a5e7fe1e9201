//! Errors of `host-local`, in the words of the reference plugin, because people and scripts search for them.

use crate::cni::{CniError, ErrorCode};
use crate::ipam::AddressRange;
use ipnet::IpNet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Why `host-local` did not do what was asked. The reference gives all of these with CNI code 999.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HostLocalError {
    /// The configuration is no JSON, or a key has the wrong type.
    #[error("cannot read the configuration: {0}")]
    Json(Arc<serde_json::Error>),
    /// There is no `ipam`.
    #[error("IPAM config missing 'ipam' key")]
    NoIpam,
    /// The network's name is missing or would leave `dataDir`.
    #[error("invalid network name {name:?}: use letters, digits, '_', '.' and '-', beginning with a letter or digit")]
    NetworkName {
        /// What was given.
        name: String,
    },
    /// A text that is no address.
    #[error("invalid IP address: {text}")]
    Address {
        /// The text.
        text: String,
    },
    /// A text that is no prefix.
    #[error("invalid CIDR address: {text}")]
    Cidr {
        /// The text.
        text: String,
    },
    /// A route that is none.
    #[error("invalid route {index}: {source}")]
    Route {
        /// Which, from 0.
        index: usize,
        /// What is wrong.
        source: Arc<serde_json::Error>,
    },
    /// `CNI_ARGS` has a part without `=`.
    #[error("ARGS: invalid pair {pair:?}")]
    ArgsPair {
        /// The part.
        pair: String,
    },
    /// `CNI_ARGS` has keys that are not ours, without `IgnoreUnknown`.
    #[error("ARGS: unknown args {pairs:?}")]
    ArgsUnknown {
        /// All of them.
        pairs: Vec<String>,
    },
    /// `IgnoreUnknown` is neither true nor false.
    #[error("ARGS: error parsing value of pair {pair:?}: use 1 or true, 0 or false")]
    ArgsBool {
        /// The pair.
        pair: String,
    },
    /// Neither `subnet` nor `ranges`.
    #[error("no IP ranges specified")]
    NoRanges,
    /// Something is wrong in one range set.
    #[error("invalid range set {index}: {source}")]
    InvalidSet {
        /// Which, from 0.
        index: usize,
        /// What.
        source: Box<HostLocalError>,
    },
    /// A range without `subnet`.
    #[error("IP <nil> not v4 nor v6")]
    NoSubnet,
    /// A subnet written as IPv4 in IPv6.
    #[error("IPNet IP and Mask version mismatch")]
    MappedSubnet,
    /// A `/31`, `/32`, `/127` or `/128`.
    #[error("Network {subnet} too small to allocate from")]
    TooSmall {
        /// The subnet.
        subnet: String,
    },
    /// The subnet is not the network's address.
    #[error("Network has host bits set. For a subnet mask of length {length} the network address is {network}")]
    HostBits {
        /// The prefix length.
        length: u8,
        /// What would be right.
        network: IpAddr,
    },
    /// `rangeStart` or `rangeEnd` is outside of the subnet, or they are in the wrong order.
    #[error("{end} {address} not in network {subnet}")]
    Outside {
        /// `RangeStart` or `RangeEnd`.
        end: &'static str,
        /// Its value.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// `[]` as a range set.
    #[error("empty range set")]
    EmptySet,
    /// IPv4 and IPv6 in one range set.
    #[error("mixed address families")]
    MixedFamilies,
    /// Two ranges of one set overlap.
    #[error("subnets {one} and {other} overlap")]
    RangesOverlap {
        /// One.
        one: AddressRange,
        /// The other.
        other: AddressRange,
    },
    /// Two range sets overlap.
    #[error("range set {one} overlaps with {other}")]
    SetsOverlap {
        /// One, from 0.
        one: usize,
        /// The other.
        other: usize,
    },
    /// Several addresses of one family in a version that cannot say so.
    #[error("CNI version {version} does not support more than 1 address per family")]
    OnePerFamily {
        /// The configuration's version.
        version: String,
    },
    /// One range set gave no address; everything was taken back.
    #[error("failed to allocate for range {index}: {source}")]
    Allocate {
        /// Which range set, from 0.
        index: usize,
        /// Why.
        source: Box<HostLocalError>,
    },
    /// The container has an address of the range set already.
    #[error("{address} has been allocated to {container}, duplicate allocation is not allowed")]
    Duplicate {
        /// The address.
        address: IpAddr,
        /// The container.
        container: String,
    },
    /// No address is left.
    #[error("no IP addresses available in range set: {set}")]
    Exhausted {
        /// The range set.
        set: String,
    },
    /// The wanted address is the gateway.
    #[error("requested ip {address} is subnet's gateway")]
    Gateway {
        /// The address.
        address: IpAddr,
    },
    /// The wanted address is taken.
    #[error("requested IP address {address} is not available in range set {set}")]
    Unavailable {
        /// The address.
        address: IpAddr,
        /// The range set.
        set: String,
    },
    /// Wanted addresses that are in no range set.
    #[error("failed to allocate all requested IPs:{}", addresses.iter().map(|address| format!(" {address}")).collect::<String>())]
    NotInRanges {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// CHECK found no address of the container.
    #[error("host-local: Failed to find address added by container {container}")]
    NotFound {
        /// The container.
        container: String,
    },
    /// A file could not be read or written.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// `open`, `write`, ...
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl HostLocalError {
    /// What the user can do, beyond the words of the reference.
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Allocate { source, .. } | Self::InvalidSet { source, .. } => source.advice(),
            Self::Duplicate { .. } => Some("DEL the container's interface before adding it again"),
            Self::Exhausted { .. } => Some("every address is in use: free some with DEL or GC, or add a range"),
            Self::Unavailable { .. } | Self::Gateway { .. } => Some("ask for another address"),
            Self::NotInRanges { .. } => Some("ask for addresses inside of ipam.ranges, one per range set"),
            _ => None,
        }
    }
}

impl From<HostLocalError> for CniError {
    /// Code 999, as the reference's errors have; only what cannot be read is told apart.
    fn from(error: HostLocalError) -> Self {
        let code = if matches!(error, HostLocalError::Json(_)) { ErrorCode::Decode } else { ErrorCode::INTERNAL };
        let advice = error.advice();
        let error = Self::new(code, error);
        advice.map_or(error.clone(), |advice| error.details(advice))
    }
}
