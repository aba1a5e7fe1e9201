//! Next hops of the paths and what the kernel says of them. Never a recursion of our own: the kernel's FIB has the last word.

use crate::speaker::Resolution;
use crate::types::{Family, NextHop};
use hashbrown::HashMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is to be told to whoever watches the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHopChange {
    /// Say how it is reached, now and whenever that changes.
    Track(IpAddr),
    /// No longer.
    Untrack(IpAddr),
}

#[derive(Debug, Default)]
struct Entry {
    ways: Vec<Resolution>,
    paths: u32,
    /// Slots with such a path, and some that had one once.
    slots: [Vec<u32>; Family::ALL.len()],
    is_tracked: bool,
    /// We were told how it is reached, or that it is not.
    is_answered: bool,
}

/// All next hops in use.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    entries: HashMap<IpAddr, Entry>,
    /// Next hops whose first path came or whose last path went.
    turned: BTreeSet<IpAddr>,
}

/// Slots that may be in a list twice or for nothing before it is cleaned.
const SLACK: usize = 1024;

/// A link-local next hop is on the link of its peer, and the peer is there as long as its session is.
const fn is_on_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

impl NextHops {
    /// One path more, in a slot. Whether the list of slots should be cleaned.
    pub(super) fn acquire(&mut self, next_hop: &NextHop, family: Family, slot: u32) -> bool {
        let address = next_hop.address();
        if is_on_link(address) {
            return false;
        }
        let entry = self.entries.entry(address).or_default();
        entry.paths += 1;
        if entry.paths == 1 {
            self.turned.insert(address);
        }
        let slots = &mut entry.slots[family.index()];
        if slots.last() != Some(&slot) {
            slots.push(slot);
        }
        slots.len() > 2 * entry.paths as usize + SLACK
    }

    /// One path less.
    pub(super) fn release(&mut self, next_hop: &NextHop) {
        let address = next_hop.address();
        if let Some(entry) = self.entries.get_mut(&address) {
            entry.paths -= 1;
            if entry.paths == 0 {
                self.turned.insert(address);
            }
        }
    }

    /// Drops slots that no longer have a path with this next hop.
    pub(super) fn clean(&mut self, next_hop: &NextHop, family: Family, still_has: impl Fn(u32) -> bool) {
        if let Some(entry) = self.entries.get_mut(&next_hop.address()) {
            let slots = &mut entry.slots[family.index()];
            slots.sort_unstable();
            slots.dedup();
            slots.retain(|slot| still_has(*slot));
        }
    }

    /// Whether packets can get there, as far as we were told.
    pub(super) fn is_resolved(&self, next_hop: &NextHop) -> bool {
        let address = next_hop.address();
        is_on_link(address) || self.entries.get(&address).is_some_and(|entry| !entry.ways.is_empty())
    }

    /// The cost of the way there; the greatest for no way.
    pub(super) fn metric(&self, next_hop: &NextHop) -> u32 {
        let address = next_hop.address();
        if is_on_link(address) {
            return 0;
        }
        let ways = self.entries.get(&address).map(|entry| entry.ways.as_slice()).unwrap_or_default();
        ways.iter().map(|way| way.metric).min().unwrap_or(u32::MAX)
    }

    /// The ways there, as told.
    pub(super) fn ways(&self, address: IpAddr) -> &[Resolution] {
        self.entries.get(&address).map(|entry| entry.ways.as_slice()).unwrap_or_default()
    }

    /// Takes what the kernel says. The slots whose paths have to be looked at again.
    pub(super) fn resolve(&mut self, address: IpAddr, mut ways: Vec<Resolution>) -> [Vec<u32>; Family::ALL.len()] {
        ways.sort();
        ways.dedup();
        let Some(entry) = self.entries.get_mut(&address) else { return Default::default() };
        entry.is_answered = true;
        if entry.ways == ways {
            return Default::default();
        }
        entry.ways = ways;
        let mut slots = entry.slots.clone();
        for slots in &mut slots {
            slots.sort_unstable();
            slots.dedup();
        }
        slots
    }

    /// Whether nothing was said yet of one that is in use.
    pub(super) fn awaits(&self) -> bool {
        self.entries.values().any(|entry| entry.paths > 0 && !entry.is_answered)
    }

    /// Whether there is one to begin or to end to watch.
    pub(super) fn has_changes(&self) -> bool {
        !self.turned.is_empty()
    }

    /// Next hops to begin and to end to watch, each once.
    pub(super) fn take_changes(&mut self) -> Vec<NextHopChange> {
        let mut changes = Vec::new();
        for address in std::mem::take(&mut self.turned) {
            let Some(entry) = self.entries.get_mut(&address) else { continue };
            if entry.paths > 0 && !entry.is_tracked {
                entry.is_tracked = true;
                changes.push(NextHopChange::Track(address));
            } else if entry.paths == 0 {
                if entry.is_tracked {
                    changes.push(NextHopChange::Untrack(address));
                }
                self.entries.remove(&address);
            }
        }
        changes
    }
}
