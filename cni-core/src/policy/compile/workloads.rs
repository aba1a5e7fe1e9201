//! Workloads as small numbers, by name and by address. Never a set: whether one is in it is asked here.

use super::slab::{Slab, Slot};
use crate::policy::model::{Workload, WorkloadId};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// A workload as it counts for sets.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) workload: Arc<Workload>,
    /// What it is for selectors; `None` in the host's network.
    pub(super) identity: Option<Slot>,
    /// Addresses of its local endpoints, which are known here before the cluster tells; `None` without such.
    pub(super) local: Option<Vec<IpAddr>>,
    /// Addresses that it claims and local endpoints of others have: they are theirs.
    pub(super) lost: BTreeSet<IpAddr>,
}

impl Placed {
    /// All addresses, each once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        if self.identity.is_none() {
            return Vec::new();
        }
        let mut addresses = self.workload.addresses.clone();
        addresses.extend(self.local.iter().flatten());
        addresses.retain(|address| !self.lost.contains(address));
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }
}

/// All workloads.
#[derive(Debug, Default)]
pub(super) struct Workloads {
    pub(super) known: Slab<Placed>,
    by_id: HashMap<WorkloadId, Slot>,
    by_address: HashMap<IpAddr, Vec<Slot>>,
    /// Those that claim an address of a local endpoint of others.
    losers: BTreeSet<(IpAddr, Slot)>,
}

impl Workloads {
    pub(super) fn find(&self, id: &WorkloadId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    /// Those that have an address: usually one.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = &Placed> {
        self.by_address.get(&address).into_iter().flatten().map(|slot| &self.known[*slot])
    }

    /// Those that say that they have an address, whether it counts as theirs or not.
    pub(super) fn claiming(&self, address: IpAddr) -> Vec<Slot> {
        let holders = self.by_address.get(&address).into_iter().flatten();
        holders
            .chain(self.losers.range((address, Slot::MIN)..=(address, Slot::MAX)).map(|(_, slot)| slot))
            .copied()
            .collect()
    }

    /// All claims that do not count.
    pub(super) fn lost(&self) -> impl Iterator<Item = (IpAddr, &Workload)> {
        self.losers.iter().map(|(address, slot)| (*address, &*self.known[*slot].workload))
    }

    pub(super) fn insert(&mut self, placed: Placed) -> Slot {
        let (addresses, lost) = (placed.addresses(), placed.lost.clone());
        let id = placed.workload.id.clone();
        let slot = self.known.insert(placed);
        self.losers.extend(lost.into_iter().map(|address| (address, slot)));
        self.by_id.insert(id, slot);
        for address in addresses {
            self.by_address.entry(address).or_default().push(slot);
        }
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        let Some(placed) = self.known.remove(slot) else { return };
        self.by_id.remove(&placed.workload.id);
        for address in &placed.lost {
            self.losers.remove(&(*address, slot));
        }
        for address in placed.addresses() {
            if let Some(slots) = self.by_address.get_mut(&address) {
                slots.retain(|other| *other != slot);
                if slots.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
    }
}
