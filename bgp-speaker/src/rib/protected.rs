//! Prefixes that no peer may announce, whatever policies say. Never why they are dear: an embedder knows its network.
//!
//! A route that an embedder would not write to the kernel must not be the best either: peers would be told of a way that is
//! none.

use super::path::Refused;
use hashbrown::HashMap;
use ipnet::IpNet;

/// Why a prefix is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protection {
    /// It is part of the network that nodes reach each other by.
    Underlay,
    /// It is the address of a node.
    NodeAddress,
    /// No host elsewhere has such addresses.
    SpecialAddresses,
}

impl From<Protection> for Refused {
    fn from(why: Protection) -> Self {
        match why {
            Protection::Underlay => Self::Underlay,
            Protection::NodeAddress => Self::NodeAddress,
            Protection::SpecialAddresses => Self::SpecialAddresses,
        }
    }
}

/// A set of prefixes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Protected {
    /// With all that is inside. Few.
    inside: Vec<(IpNet, Protection)>,
    /// Themselves only. May be many.
    exactly: HashMap<IpNet, Protection>,
}

impl Protected {
    /// Protects a prefix and all that is inside. For a few: each is compared with each route.
    pub fn add_inside(&mut self, prefix: IpNet, why: Protection) {
        self.inside.push((prefix.trunc(), why));
    }

    /// Protects a prefix, and not what is inside.
    pub fn add(&mut self, prefix: IpNet, why: Protection) {
        self.exactly.insert(prefix.trunc(), why);
    }

    /// Why a prefix is protected; `None`: it is not.
    #[must_use]
    pub fn of(&self, prefix: &IpNet) -> Option<Protection> {
        let inside = self.inside.iter().find(|(around, _)| around.contains(prefix)).map(|(_, why)| *why);
        inside.or_else(|| self.exactly.get(prefix).copied())
    }

    /// The prefixes that are protected otherwise than before; `None`: they cannot be counted up.
    pub(super) fn changed_since(&self, old: &Self) -> Option<Vec<IpNet>> {
        if self.inside != old.inside {
            return None;
        }
        let differs = |prefix: &&IpNet| self.exactly.get(*prefix) != old.exactly.get(*prefix);
        let gone = old.exactly.keys().filter(|prefix| !self.exactly.contains_key(*prefix));
        Some(self.exactly.keys().filter(differs).chain(gone).copied().collect())
    }
}
