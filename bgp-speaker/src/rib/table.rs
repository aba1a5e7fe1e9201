//! Slots of one family: prefix and paths. Never a choice among them.

use super::path::Paths;
use super::prefixes::Prefixes;
use super::slots::SlotSet;
use crate::types::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

#[derive(Debug)]
pub(super) struct Table {
    prefixes: Prefixes,
    paths: Vec<Paths>,
    /// Slots that lost their last path, some of them more than once, and some that have got another one since.
    emptied: Vec<u32>,
    pub(super) changed: SlotSet,
    /// Slots with a path.
    used: usize,
}

impl Table {
    pub(super) fn new(family: Family) -> Self {
        let mut table = Self {
            prefixes: Prefixes::new(family),
            paths: Vec::new(),
            emptied: Vec::new(),
            changed: SlotSet::default(),
            used: 0,
        };
        table.slot(&default_route(family));
        table
    }

    /// Slots, free ones included: all numbers are below it.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.prefixes.slots()).unwrap_or(u32::MAX)
    }

    /// The slot of a prefix, a new one if need be. The caller puts a path in.
    pub(super) fn slot(&mut self, prefix: &IpNet) -> Option<u32> {
        let slot = self.prefixes.insert(prefix)?;
        if slot as usize >= self.paths.len() {
            self.paths.push(Paths::None);
        }
        Some(slot)
    }

    pub(super) fn find(&self, prefix: &IpNet) -> Option<u32> {
        self.prefixes.find(prefix)
    }

    /// As [`Self::find`], for one of many that come in a row.
    pub(super) fn seek(&mut self, prefix: &IpNet) -> Option<u32> {
        self.prefixes.seek(prefix)
    }

    pub(super) fn prefix(&self, slot: u32) -> Option<IpNet> {
        self.prefixes.get(slot)
    }

    pub(super) fn paths(&self, slot: u32) -> &[super::path::Path] {
        self.paths.get(slot as usize).map(Paths::as_slice).unwrap_or_default()
    }

    pub(super) fn best(&self, slot: u32) -> Option<&super::path::Path> {
        self.paths.get(slot as usize)?.best()
    }

    pub(super) fn paths_mut(&mut self, slot: u32) -> &mut Paths {
        &mut self.paths[slot as usize]
    }

    pub(super) fn push(&mut self, slot: u32, path: super::path::Path) {
        let paths = &mut self.paths[slot as usize];
        self.used += usize::from(paths.as_slice().is_empty());
        paths.push(path);
    }

    /// A slot was made and gets no path after all.
    pub(super) fn abandon(&mut self, slot: u32) {
        if self.paths(slot).is_empty() {
            self.emptied.push(slot);
        }
    }

    pub(super) fn remove(&mut self, slot: u32, at: usize) -> Option<super::path::Path> {
        let path = self.paths.get_mut(slot as usize)?.remove(at)?;
        if self.paths(slot).is_empty() {
            self.used -= 1;
            self.emptied.push(slot);
        }
        Some(path)
    }

    /// Prefixes with a path.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn unreclaimed(&self) -> usize {
        self.emptied.len()
    }

    pub(super) fn reclaim(&mut self, is_free: impl Fn(u32) -> bool) -> bool {
        let Self { prefixes, paths, emptied, changed, .. } = self;
        emptied.retain(|slot| {
            if *slot == 0 || !paths[*slot as usize].as_slice().is_empty() {
                return false;
            }
            let is_held = changed.contains(*slot) || !is_free(*slot);
            if !is_held {
                prefixes.free(*slot);
            }
            is_held
        });
        !self.emptied.is_empty()
    }
}

/// The prefix in slot 0.
pub(super) fn default_route(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => Ipv4Net::default().into(),
        Family::Ipv6 => Ipv6Net::default().into(),
    }
}
