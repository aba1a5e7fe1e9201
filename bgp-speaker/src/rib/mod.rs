//! The routes of all peers, and which of them is the best. Never a message, and never a table of its own per peer.
//!
//! ```text
//!  slot   prefix           paths (the best first)                       attributes (interned)
//!  0      0.0.0.0/0        -                                            1: AS_PATH 65001, next hop 192.0.2.1 ..
//!  1      192.0.2.0/24     [peer 1: received 1, counts as 2]            2: the same with local preference 200
//!  2      198.51.100.0/24  [peer 7: 3, 3] [peer 1: 1, refused]          3: ..
//! ```
//!
//! Adj-RIB-In is the paths of one peer as they came, Loc-RIB is the first path of each slot as it counts. What was sent to whom
//! is in [`crate::export`], a number per slot and group of peers.
//!
//! A slot is free again only after all that were told of its prefix are told that it has gone ([`Rib::reclaim`]). Slot 0
//! is that of the default route, always.

mod decision;
mod explain;
mod import;
mod intern;
mod local;
mod next_hops;
mod path;
mod peer;
mod prefixes;
mod protected;
mod slots;
mod stale;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod update;
mod view;

pub use decision::Step;
pub use explain::{ExplainedPath, Explanation, PathState};
pub use next_hops::NextHopChange;
pub use path::{Refused, Source};
pub use peer::{NearLimit, OverLimit, PeerFacts, PeerKind};
pub use protected::{Protected, Protection};
pub use slots::SlotSet;
pub use view::PathView;

pub(crate) use intern::{Id, Interner, NONE};

use crate::config::Selection;
use crate::speaker::Resolution;
use crate::types::{Asn, Attributes, Family, PeerId, RouterId};
use hashbrown::HashMap;
use local::Aggregates;
use next_hops::NextHops;
use peer::Peer;
use std::net::IpAddr;
use std::sync::Arc;
use table::Table;

/// What the tables have to know of ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Our system.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// Our cluster.
    pub cluster_id: RouterId,
    /// How the best path is chosen.
    pub selection: Selection,
}

/// The routes of all peers.
#[derive(Debug)]
pub struct Rib {
    own: Own,
    peers: HashMap<PeerId, Peer>,
    attributes: Interner<Arc<Attributes>>,
    tables: [Table; Family::ALL.len()],
    next_hops: NextHops,
    aggregates: Aggregates,
    protected: Protected,
}

impl Rib {
    /// Without routes.
    #[must_use]
    pub fn new(own: Own) -> Self {
        Self {
            own,
            peers: HashMap::new(),
            attributes: Interner::default(),
            tables: Family::ALL.map(Table::new),
            next_hops: NextHops::default(),
            aggregates: Aggregates::default(),
            protected: Protected::default(),
        }
    }

    /// What the tables know of ourselves.
    #[must_use]
    pub const fn own(&self) -> &Own {
        &self.own
    }

    /// We are somebody else, or choose in another way, from now on.
    pub fn set_own(&mut self, own: Own) {
        let chooses_only = Own {
            selection: Selection { graceful_shutdown: own.selection.graceful_shutdown, ..self.own.selection.clone() },
            ..own.clone()
        };
        let again = chooses_only != self.own;
        self.own = own;
        if again {
            for peer in self.peers.keys().copied().collect::<Vec<_>>() {
                self.reevaluate(peer);
            }
        }
        for family in Family::ALL {
            for slot in 0..self.tables[family.index()].slots() {
                if !self.tables[family.index()].paths(slot).is_empty() {
                    self.choose(family, slot);
                }
            }
        }
    }

    /// The kernel says how a next hop is reached; no ways: it is not.
    pub fn resolve(&mut self, address: IpAddr, ways: Vec<Resolution>) {
        let slots = self.next_hops.resolve(address, ways);
        for (family, slots) in Family::ALL.into_iter().zip(slots) {
            for slot in slots {
                let mut is_concerned = false;
                let table = &mut self.tables[family.index()];
                for path in table.paths_mut(slot).as_mut_slice() {
                    if path.attributes == NONE || path.source().peer().is_none() {
                        continue;
                    }
                    let next_hop = &self.attributes.get(path.attributes).next_hop;
                    if next_hop.address() == address {
                        path.flags = path.flags.with_resolved(self.next_hops.is_resolved(next_hop));
                        is_concerned = true;
                    }
                }
                if is_concerned {
                    self.choose(family, slot);
                }
            }
        }
    }

    /// The ways to a next hop, as the kernel said.
    #[must_use]
    pub fn ways(&self, address: IpAddr) -> &[Resolution] {
        self.next_hops.ways(address)
    }

    /// Next hops to begin and to end to watch, since the last call.
    pub fn take_next_hops(&mut self) -> Vec<NextHopChange> {
        self.next_hops.take_changes()
    }

    /// Whether a next hop is in use of which the kernel has said nothing yet.
    #[must_use]
    pub fn awaits_next_hops(&self) -> bool {
        self.next_hops.awaits()
    }

    /// Whether [`Self::take_next_hops`] would say anything.
    #[must_use]
    pub fn has_next_hop_changes(&self) -> bool {
        self.next_hops.has_changes()
    }

    /// Whether [`Self::take_changes`] would say anything.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        self.tables.iter().any(|table| !table.changed.is_empty())
    }

    /// Slots whose paths have changed since the last call, by family. To be given to all that tell others of routes.
    pub fn take_changes(&mut self) -> [SlotSet; Family::ALL.len()] {
        self.settle_aggregates();
        Family::ALL.map(|family| std::mem::take(&mut self.tables[family.index()].changed))
    }

    /// Frees the slots of prefixes without paths that nobody has to be told of, as `is_free` says. Whether some are left.
    pub fn reclaim(&mut self, family: Family, is_free: impl Fn(u32) -> bool) -> bool {
        self.tables[family.index()].reclaim(is_free)
    }

    /// Slots of prefixes without paths that are not free yet.
    #[must_use]
    pub fn unreclaimed(&self, family: Family) -> usize {
        self.tables[family.index()].unreclaimed()
    }
}
