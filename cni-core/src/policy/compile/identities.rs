//! Identities as small numbers, with the workloads that have them. Never an identity that nobody has.

use super::condition::Postings;
use super::slab::{Slab, Slot};
use crate::policy::model::Identity;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// An identity and what is known of it.
#[derive(Debug)]
pub(super) struct Interned {
    pub(super) identity: Arc<Identity>,
    /// Workloads that have it.
    pub(super) workloads: BTreeSet<Slot>,
    /// Local endpoints that have it.
    pub(super) endpoints: BTreeSet<Slot>,
    /// Groups that it is in.
    pub(super) groups: BTreeSet<Slot>,
}

/// All identities.
#[derive(Debug, Default)]
pub(super) struct Identities {
    pub(super) known: Slab<Interned>,
    by_value: HashMap<Arc<Identity>, Slot>,
    /// All.
    pub(super) all: Postings,
    /// Those of local endpoints.
    pub(super) local: Postings,
}

impl Identities {
    /// The number of an identity; whether it is a new one, which nobody has yet.
    pub(super) fn intern(&mut self, identity: &Arc<Identity>) -> (Slot, bool) {
        if let Some(slot) = self.by_value.get(identity) {
            return (*slot, false);
        }
        let slot = self.known.insert(Interned {
            identity: identity.clone(),
            workloads: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            groups: BTreeSet::new(),
        });
        self.by_value.insert(identity.clone(), slot);
        self.all.insert(identity, slot);
        (slot, true)
    }

    pub(super) fn attach(&mut self, slot: Slot, endpoint: Slot) {
        let interned = &mut self.known[slot];
        interned.endpoints.insert(endpoint);
        if interned.endpoints.len() == 1 {
            self.local.insert(&interned.identity, slot);
        }
    }

    pub(super) fn detach(&mut self, slot: Slot, endpoint: Slot) {
        let interned = &mut self.known[slot];
        if interned.endpoints.remove(&endpoint) && interned.endpoints.is_empty() {
            self.local.remove(&interned.identity, slot);
        }
    }

    /// Forgets an identity that nobody has; gives the groups that it was in.
    pub(super) fn forget_unused(&mut self, slot: Slot) -> BTreeSet<Slot> {
        let interned = &self.known[slot];
        if !interned.workloads.is_empty() || !interned.endpoints.is_empty() {
            return BTreeSet::new();
        }
        let interned = self.known.remove(slot).expect("it was there a line ago");
        self.by_value.remove(&interned.identity);
        self.all.remove(&interned.identity, slot);
        interned.groups
    }
}
