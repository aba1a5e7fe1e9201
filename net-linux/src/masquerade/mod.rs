//! Source NAT of pod traffic that leaves the cluster, as one kernel object for a backend's Driver to embed; and of single
//! containers, for plugins without an agent ([`Containers`]). Never touches a table other than ours.
//!
//! ```text
//! table inet cnidarian {
//!     set masq-source4 { 10.42.1.0/26 }      pod prefixes          (and masq-source6)
//!     set masq-keep4   { 10.42.0.0/16 }      see the pod's address (and masq-keep6)
//!     chain masq-postrouting {
//!         type nat hook postrouting priority srcnat
//!         ip saddr @masq-source4  ip daddr != @masq-keep4  ip daddr != 224.0.0.0/4  oifname != "cni*"  masquerade fully-random
//!     }                                                             (and one for IPv6)
//! }
//! ```

mod containers;
mod kernel;
mod program;

pub use containers::Containers;
pub use kernel::{apply, observe, probe};

use cni_core::backend::Rank;
use cni_core::model::NodeContext;
use ipnet::IpNet;
use std::fmt;

/// What the names of its chain and sets begin with; others of us keep theirs in the same table.
pub const PREFIX: &str = "masq-";

/// The one kernel object of masquerading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("masquerading")
    }
}

/// What is masqueraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Source prefixes: sorted, none within another, none that could be one with its neighbour.
    pub sources: Vec<IpNet>,
    /// Destination prefixes that see the pod's own address; as `sources`.
    pub keep: Vec<IpNet>,
    /// The chain, its rules and the sets are as we make them. Always so in what is wanted; what is found may be tampered with.
    pub intact: bool,
}

/// The objects of a node: one, or none when masquerading is off or has no sources. Pure.
#[must_use]
pub fn objects(node: &NodeContext) -> Vec<(Key, Object)> {
    match &node.masquerade {
        Some(masquerade) if !masquerade.sources.is_empty() => {
            let (sources, keep) = (normal(&masquerade.sources), normal(&masquerade.keep));
            vec![(Key, Object { sources, keep, intact: true })]
        }
        _ => Vec::new(),
    }
}

/// Needs nothing and holds nothing back: a pod without it reaches the cluster all the same.
#[must_use]
pub const fn rank(_key: &Key) -> Rank {
    Rank::level(0)
}

/// The fewest prefixes that hold the same addresses, sorted: sets of ranges take no overlap.
fn normal(prefixes: &[IpNet]) -> Vec<IpNet> {
    let mut fewest = IpNet::aggregate(&prefixes.iter().map(IpNet::trunc).collect());
    fewest.sort();
    fewest
}

#[cfg(test)]
mod tests;
