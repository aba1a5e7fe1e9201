//! Outer packets of tunnels that the kernel does not track as connections, as one kernel object for a backend's Driver to
//! embed. Never touches a packet that is not to a tunnel's port, nor a table other than ours.
//!
//! ```text
//! table inet cnidarian {
//!     chain untracked-prerouting {
//!         type filter hook prerouting priority raw
//!         meta l4proto udp  ip daddr 192.0.2.1  udp dport 8472  notrack     one for each tunnel
//!     }
//!     chain untracked-output {
//!         type filter hook output priority raw
//!         meta l4proto udp  ip saddr 192.0.2.1  udp dport 8472  notrack
//!     }
//! }
//! ```
//!
//! Only for tunnels whose packets all go *to* one port from ports that vary, such as VXLAN (RFC 7348, section 5): such a
//! connection is never answered, so tracking it tells nobody anything.

mod kernel;
mod program;

pub use kernel::{apply, observe, probe};

use cni_core::backend::Rank;
use std::fmt;
use std::net::SocketAddr;

/// What the names of our chains begin with.
pub const PREFIX: &str = "untracked-";

/// The one kernel object of untracked tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("untracked tunnels")
    }
}

/// Whose packets are not tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// This node's end of each tunnel, and the UDP port that both ends receive at. Sorted, without duplicates.
    pub tunnels: Vec<SocketAddr>,
    /// Chains and rules are as we make them. Always so in what is wanted; what is found may be tampered with.
    pub intact: bool,
}

/// The objects for these tunnels: one, or none without tunnels. Pure.
#[must_use]
pub fn objects(tunnels: impl IntoIterator<Item = SocketAddr>) -> Vec<(Key, Object)> {
    let mut tunnels: Vec<SocketAddr> = tunnels.into_iter().collect();
    tunnels.sort_unstable();
    tunnels.dedup();
    if tunnels.is_empty() { Vec::new() } else { vec![(Key, Object { tunnels, intact: true })] }
}

/// Needs nothing and holds nothing back: a tunnel without it works all the same.
#[must_use]
pub const fn rank(_key: &Key) -> Rank {
    Rank::level(0)
}

#[cfg(test)]
mod tests;
