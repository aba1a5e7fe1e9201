//! Whom a tunnel hears: only the ends that are known, as kernel objects for a backend's Driver to embed. Never touches
//! a packet that is not a tunnel's, nor a table other than ours.
//!
//! ```text
//! table inet cnidarian {
//!     set tunnel-ends4 { ipv4_addr }  set tunnel-ends6 { ipv6_addr }     one element for each end, our own too
//!     chain tunnel-prerouting {
//!         type filter hook prerouting priority filter
//!         meta l4proto udp  iifname "cni*"  iifkind "veth"  ip daddr @tunnel-ends4  udp dport 8472  drop
//!     }
//!     chain tunnel-input {
//!         type filter hook input priority filter
//!         meta l4proto udp  ip daddr 192.0.2.1  udp dport 8472  ip saddr @tunnel-ends4  accept
//!         meta l4proto udp  ip  udp dport 8472  drop
//!     }
//! }
//! ```
//! Of an IPIP tunnel (RFC 2003) the rules say `meta l4proto 4`, and no port.
//!
//! Pods may not talk to an end at all: behind masquerading, their packets would come from a node. The chain stands
//! after destination NAT, so that no Service leads there either.

mod kernel;
mod program;

pub use kernel::{apply, observe, probe};

use std::collections::BTreeSet;
use std::fmt;
use std::net::{AddrParseError, IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

const IPIP_PREFIX: &str = "ipip/";

/// What the names of our chains and sets begin with.
pub const PREFIX: &str = "tunnel-";

/// This node's end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tunnel {
    /// In UDP, at this address and port of ours; all ends receive at the port.
    Udp(SocketAddr),
    /// IPv4 in IPv4 (RFC 2003), at this address of ours.
    Ipip(Ipv4Addr),
}

impl Tunnel {
    /// Our address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::Udp(end) => end.ip(),
            Self::Ipip(address) => IpAddr::V4(*address),
        }
    }
}

impl From<SocketAddr> for Tunnel {
    fn from(end: SocketAddr) -> Self {
        Self::Udp(end)
    }
}

/// `ADDRESS:PORT`, or `ipip/ADDRESS`.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(end) => end.fmt(f),
            Self::Ipip(address) => write!(f, "{IPIP_PREFIX}{address}"),
        }
    }
}

impl FromStr for Tunnel {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        match text.strip_prefix(IPIP_PREFIX) {
            Some(address) => address.parse().map(Self::Ipip),
            None => text.parse().map(Self::Udp),
        }
    }
}

/// Which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The chains with their rules, and the sets.
    Guard,
    /// An end that may be heard: an element of a set.
    End(IpAddr),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard => f.write_str("tunnel guard"),
            Self::End(address) => write!(f, "tunnel end {address}"),
        }
    }
}

/// Everything but the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// See [`Key::Guard`].
    Guard {
        /// This node's end of each tunnel. Sorted, without duplicates.
        tunnels: Vec<Tunnel>,
        /// Chains, rules and sets are as we make them. Always so in what is wanted; what is found may be tampered with.
        intact: bool,
    },
    /// See [`Key::End`].
    End {
        /// The element has nothing but its key. Always so in what is wanted.
        intact: bool,
    },
}

/// The objects that these tunnels need before any peer is known: the guard and our own ends; none without tunnels.
/// Pure.
#[must_use]
pub fn objects(tunnels: impl IntoIterator<Item = impl Into<Tunnel>>) -> Vec<(Key, Object)> {
    let mut tunnels: Vec<Tunnel> = tunnels.into_iter().map(Into::into).collect();
    tunnels.sort_unstable();
    tunnels.dedup();
    if tunnels.is_empty() {
        return Vec::new();
    }
    // Several tunnels may have one address.
    let ends: BTreeSet<IpAddr> = tunnels.iter().map(Tunnel::address).collect();
    let guard = (Key::Guard, Object::Guard { tunnels, intact: true });
    std::iter::once(guard).chain(ends.into_iter().map(end)).collect()
}

/// The object of an end that may be heard. Pure.
#[must_use]
pub const fn end(address: IpAddr) -> (Key, Object) {
    (Key::End(address), Object::End { intact: true })
}

#[cfg(test)]
mod tests;
