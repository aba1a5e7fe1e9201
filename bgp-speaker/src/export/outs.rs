//! What a group was told of each prefix of one family, and how far each of its peers is. Never a queue of messages: who is behind
//! has a set of slots to be told of, and is told the newest.

use super::batch::{Batch, Place};
use crate::rib::{Id, Interner, NONE, SlotSet, Source};
use crate::types::{Attributes, PathId, PeerId};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a group is told of a path. Its source is a part of it: that one is not told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OutRoute {
    pub(super) attributes: Arc<Attributes>,
    pub(super) source: Source,
    /// Which path of its source, where several are told; else 0.
    pub(super) path: PathId,
}

/// Peers that are behind in the same way.
#[derive(Debug, Clone, Default)]
pub(super) struct Cohort {
    pub(super) members: Vec<PeerId>,
    /// What they have yet to be told of.
    pub(super) todo: SlotSet,
    /// What they were never told of, so that there is nothing to withdraw.
    pub(super) unseen: SlotSet,
    /// They wait for the whole table and got nothing of it yet: who comes may join them.
    pub(super) is_fresh: bool,
}

/// What a group was told in one family.
#[derive(Debug)]
pub(super) struct Outs {
    /// Paths told of a prefix at most.
    pub(super) most: u16,
    /// Places for paths of a prefix: as many, and more where more were told before.
    stride: u16,
    pub(super) has_ids: bool,
    /// `stride` numbers for each slot.
    table: Vec<Id>,
    pub(super) routes: Interner<OutRoute>,
    /// Slots to be looked at again.
    pub(super) dirty: SlotSet,
    /// Peers that were told everything that `table` says.
    pub(super) pace: Vec<PeerId>,
    pub(super) cohorts: VecDeque<Cohort>,
}

fn most(add_path: Option<u8>) -> u16 {
    add_path.map_or(1, |most| u16::from(most.max(1)))
}

impl Outs {
    pub(super) fn new(add_path: Option<u8>) -> Self {
        let most = most(add_path);
        Self {
            most,
            stride: most,
            has_ids: add_path.is_some(),
            table: Vec::new(),
            routes: Interner::default(),
            dirty: SlotSet::default(),
            pace: Vec::new(),
            cohorts: VecDeque::new(),
        }
    }

    /// For a group that parts from this one: the same was told, and all of it has to be looked at again.
    pub(super) fn fork(&self, add_path: Option<u8>) -> Self {
        let mut dirty = self.dirty.clone();
        dirty.union(&self.told().collect());
        let mut fork = Self {
            most: most(add_path),
            table: self.table.clone(),
            routes: self.routes.clone(),
            dirty,
            pace: Vec::new(),
            cohorts: VecDeque::new(),
            ..*self
        };
        fork.widen(fork.most);
        fork
    }

    /// Makes places for so many paths.
    fn widen(&mut self, stride: u16) {
        if stride <= self.stride {
            return;
        }
        let (old, new) = (usize::from(self.stride), usize::from(stride));
        let mut table = vec![NONE; self.table.len() / old * new];
        for (from, to) in self.table.chunks_exact(old).zip(table.chunks_exact_mut(new)) {
            to[..old].copy_from_slice(from);
        }
        self.table = table;
        self.stride = stride;
    }

    /// A peer comes that was told the same, as far as `was` says.
    pub(super) fn come(&mut self, was: Cohort) {
        self.cohorts.push_back(was);
    }

    /// What was told of a slot.
    pub(super) fn row(&self, slot: u32) -> &[Id] {
        let from = slot as usize * usize::from(self.stride);
        self.table.get(from..from + usize::from(self.stride)).unwrap_or_default()
    }

    /// Slots that something was told of.
    pub(super) fn told(&self) -> impl Iterator<Item = u32> + '_ {
        let rows = self.table.chunks_exact(usize::from(self.stride)).zip(0..);
        rows.filter(|(row, _)| row.iter().any(|id| *id != NONE)).map(|(_, slot)| slot)
    }

    /// Whether nobody has to be told of a slot any more.
    pub(super) fn is_clear(&self, slot: u32) -> bool {
        !self.dirty.contains(slot)
            && self.row(slot).iter().all(|id| *id == NONE)
            && !self.cohorts.iter().any(|cohort| cohort.todo.contains(slot))
    }

    /// Takes what a slot should be from now on, which has users of its own, and what changes for peers in pace with it.
    pub(super) fn set(&mut self, slot: u32, wanted: &[Id], batch: &mut Batch) {
        let stride = usize::from(self.stride);
        let from = slot as usize * stride;
        if self.table.len() < from + stride {
            if wanted.is_empty() {
                return;
            }
            self.table.resize(from + stride, NONE);
        }
        let (one, many);
        let row: &[Id] = if stride == 1 {
            one = [wanted.first().copied().unwrap_or(NONE)];
            &one
        } else {
            many = self.places(slot, wanted);
            &many
        };
        let mut has_changed = false;
        for (at, new) in row.iter().copied().enumerate() {
            let old = std::mem::replace(&mut self.table[from + at], new);
            let place = Place { slot, at: at as u16 };
            if old != new {
                has_changed = true;
                let source = |id: Id| if id == NONE { None } else { self.routes.get(id).source.peer() };
                let (before, after) = (source(old), source(new));
                if new == NONE {
                    batch.withdraw(before, place);
                } else {
                    batch.announce(new, place);
                    if let Some(peer) = after.filter(|_| old != NONE && before != after) {
                        batch.withdraw_from(peer, place);
                    }
                }
            }
            self.routes.release(old);
        }
        if has_changed {
            for cohort in &mut self.cohorts {
                cohort.todo.insert(slot);
                if cohort.is_fresh {
                    cohort.unseen.insert(slot);
                }
            }
        }
    }

    /// Gives each wanted path the place it has already, or else a free one: a path keeps its id as long as it is told.
    fn places(&self, slot: u32, wanted: &[Id]) -> Vec<Id> {
        let mut row = vec![NONE; usize::from(self.stride)];
        if !self.has_ids {
            row[0] = wanted.first().copied().unwrap_or(NONE);
            return row;
        }
        let name = |id: Id| {
            let route = self.routes.get(id);
            (route.source, route.path)
        };
        let mut new = Vec::new();
        for id in wanted {
            match self.row(slot).iter().position(|old| *old != NONE && name(*old) == name(*id)) {
                Some(at) => row[at] = *id,
                None => new.push(*id),
            }
        }
        let mut free = row.iter_mut().filter(|id| **id == NONE);
        for id in new {
            if let Some(place) = free.next() {
                *place = id;
            }
        }
        row
    }

    /// What peers of a cohort have yet to be told of a slot.
    pub(super) fn catch_up(&self, cohort: &mut Cohort, slot: u32, batch: &mut Batch) {
        let is_unseen = cohort.unseen.remove(slot);
        for at in 0..self.stride {
            let place = Place { slot, at };
            let id = self.row(slot).get(usize::from(at)).copied().unwrap_or(NONE);
            if id == NONE {
                if !is_unseen {
                    batch.withdraw(None, place);
                }
                continue;
            }
            batch.announce(id, place);
            let source = self.routes.get(id).source.peer();
            if let Some(peer) = source.filter(|peer| !is_unseen && cohort.members.contains(peer)) {
                batch.withdraw_from(peer, place);
            }
        }
    }

    /// A peer that has to be told everything.
    pub(super) fn join(&mut self, peer: PeerId) {
        if let Some(fresh) = self.cohorts.iter_mut().find(|cohort| cohort.is_fresh) {
            fresh.members.push(peer);
            return;
        }
        let todo: SlotSet = self.told().collect();
        self.cohorts.push_back(Cohort { members: vec![peer], unseen: todo.clone(), todo, is_fresh: true });
    }

    /// Takes a peer out. How far it was, if it is here at all.
    pub(super) fn leave(&mut self, peer: PeerId) -> Option<Cohort> {
        if let Some(at) = self.pace.iter().position(|member| *member == peer) {
            self.pace.swap_remove(at);
            return Some(Cohort { members: vec![peer], ..Cohort::default() });
        }
        let at = self.cohorts.iter().position(|cohort| cohort.members.contains(&peer))?;
        let cohort = &mut self.cohorts[at];
        let left = if cohort.members.len() == 1 {
            self.cohorts.remove(at)?
        } else {
            cohort.members.retain(|member| *member != peer);
            Cohort { members: vec![peer], ..cohort.clone() }
        };
        Some(Cohort { is_fresh: false, ..left })
    }

    /// A peer that is here is told everything again.
    pub(super) fn again(&mut self, peer: PeerId) {
        if let Some(mut cohort) = self.leave(peer) {
            for slot in self.told() {
                cohort.todo.insert(slot);
            }
            self.cohorts.push_back(cohort);
        }
    }

    /// A peer comes that was told something else before, as `before` says and `was` how far it was.
    pub(super) fn take_over(&mut self, before: &Self, mut was: Cohort) {
        // Places that only the other group had must be withdrawn too.
        self.widen(before.stride);
        let slots = |outs: &Self| outs.table.len() / usize::from(outs.stride);
        for slot in 0..slots(self).max(slots(before)) as u32 {
            let told = |outs: &Self, at: usize| {
                let id = outs.row(slot).get(at).copied().filter(|id| *id != NONE)?;
                Some(outs.routes.get(id).clone())
            };
            if (0..usize::from(self.stride)).any(|at| told(before, at) != told(self, at)) {
                was.todo.insert(slot);
            }
        }
        self.cohorts.push_back(was);
    }
}
