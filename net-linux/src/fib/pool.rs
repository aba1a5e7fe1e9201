//! Next-hop objects by content: each distinct way and each distinct set of ways has one id. Never writes them.

use crate::nexthop::Hop;
use crate::route::Way;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// What an object stands for. The family of a way without gateway is that of its routes, so it is part of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Content {
    Way {
        way: Way,
        ipv6: bool,
    },
    /// Ids and weights, sorted by id, each id once.
    Group(Vec<(u32, u8)>),
}

impl Content {
    pub(super) fn hop(&self) -> Hop {
        match self {
            Self::Way { way, ipv6 } => {
                Hop::Device { index: way.index, via: way.via, onlink: way.onlink, ipv6: *ipv6, tunnel: way.tunnel }
            }
            Self::Group(members) => Hop::Group(members.clone()),
        }
    }

    pub(super) fn read(hop: &Hop) -> Option<Self> {
        match hop {
            Hop::Device { index, via, onlink, ipv6, tunnel } => {
                let ipv6 = via.map_or(*ipv6, |via| via.is_ipv6());
                Some(Self::Way { way: Way { index: *index, via: *via, onlink: *onlink, tunnel: *tunnel }, ipv6 })
            }
            Hop::Group(members) => {
                let mut members = members.clone();
                members.sort_unstable();
                Some(Self::Group(members))
            }
            Hop::Blackhole { .. } => None,
        }
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self, Self::Group(_))
    }
}

/// One object.
#[derive(Debug)]
pub(super) struct Slot {
    /// What it shall be.
    pub(super) content: Content,
    /// What it is in the kernel; `None`: not there.
    pub(super) written: Option<Content>,
    /// Routes that shall use it, and groups that have it as a member.
    pub(super) wanted: usize,
    /// Routes in the kernel that use it.
    pub(super) present: usize,
}

/// All objects of one writer.
#[derive(Debug)]
pub(super) struct Pool {
    ids: Range<u32>,
    next: u32,
    by_content: HashMap<Content, u32>,
    slots: HashMap<u32, Slot>,
    /// Ids in our range that somebody else uses.
    pub(super) taken: HashSet<u32>,
    /// Objects to look at when a commit writes: not as they shall be, or without users.
    pub(super) due: BTreeSet<u32>,
}

impl Pool {
    pub(super) fn new(ids: Range<u32>) -> Self {
        Self {
            next: ids.start,
            ids,
            by_content: HashMap::new(),
            slots: HashMap::new(),
            taken: HashSet::new(),
            due: BTreeSet::new(),
        }
    }

    pub(super) fn slot(&self, id: u32) -> Option<&Slot> {
        self.slots.get(&id)
    }

    pub(super) fn slot_mut(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(&id)
    }

    pub(super) fn slots_mut(&mut self) -> impl Iterator<Item = (&u32, &mut Slot)> {
        self.slots.iter_mut()
    }

    /// The ways of an object, with their weights.
    pub(super) fn ways(&self, id: u32) -> Vec<(Way, u8)> {
        match self.slots.get(&id).map(|slot| &slot.content) {
            Some(Content::Way { way, .. }) => vec![(*way, 1)],
            Some(Content::Group(members)) => {
                let way = |(id, weight): &(u32, u8)| match &self.slots.get(id)?.content {
                    Content::Way { way, .. } => Some((*way, *weight)),
                    Content::Group(_) => None,
                };
                members.iter().filter_map(way).collect()
            }
            None => Vec::new(),
        }
    }

    /// The id for these ways, which are not empty; `None` when all ids are in use. Gives it no user.
    pub(super) fn intern(&mut self, ways: &[(Way, u8)], ipv6: bool) -> Option<u32> {
        let mut members: Vec<(u32, u8)> = Vec::with_capacity(ways.len());
        for (way, weight) in ways {
            let ipv6 = way.via.map_or(ipv6, |via| via.is_ipv6());
            let id = self.id_of(Content::Way { way: *way, ipv6 })?;
            match members.iter_mut().find(|(other, _)| *other == id) {
                Some((_, sum)) => *sum = sum.saturating_add(*weight),
                None => members.push((id, (*weight).max(1))),
            }
        }
        match members.as_slice() {
            [(id, _)] => Some(*id),
            _ => {
                members.sort_unstable();
                self.id_of(Content::Group(members))
            }
        }
    }

    fn id_of(&mut self, content: Content) -> Option<u32> {
        if let Some(id) = self.by_content.get(&content) {
            return Some(*id);
        }
        let id = self.free_id()?;
        self.insert(id, content, None);
        // Until somebody uses it, it is one that goes with the next commit.
        self.due.insert(id);
        Some(id)
    }

    fn free_id(&mut self) -> Option<u32> {
        for _ in 0..self.ids.len() {
            let id = self.next;
            self.next = if id + 1 < self.ids.end { id + 1 } else { self.ids.start };
            if !self.slots.contains_key(&id) && !self.taken.contains(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Adds an object. The first of several with the same content is the one that routes are given.
    pub(super) fn insert(&mut self, id: u32, content: Content, written: Option<Content>) {
        if let Content::Group(members) = &content {
            for (member, _) in members {
                if let Some(slot) = self.slots.get_mut(member) {
                    slot.wanted += 1;
                }
            }
        }
        self.by_content.entry(content.clone()).or_insert(id);
        self.slots.insert(id, Slot { content, written, wanted: 0, present: 0 });
    }

    /// Forgets an object that nobody uses and that is not in the kernel.
    pub(super) fn forget(&mut self, id: u32) {
        let Some(slot) = self.slots.remove(&id) else { return };
        if self.by_content.get(&slot.content) == Some(&id) {
            self.by_content.remove(&slot.content);
        }
        if let Content::Group(members) = &slot.content {
            for (member, _) in members {
                self.count_wanted(*member, false);
            }
        }
    }

    /// A route or group begins (`more`) or ceases to want an object.
    pub(super) fn count_wanted(&mut self, id: u32, more: bool) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.wanted = if more { slot.wanted + 1 } else { slot.wanted.saturating_sub(1) };
            self.due.insert(id);
        }
    }

    /// A route in the kernel uses an object now (`more`), or no longer.
    pub(super) fn count_present(&mut self, id: u32, more: bool) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.present = if more { slot.present + 1 } else { slot.present.saturating_sub(1) };
            if slot.present == 0 {
                self.due.insert(id);
            }
        }
    }

    /// Gives the id `old` the content of `new`, which is not in the kernel yet and which all routes of `old` are to have,
    /// and takes its users over. `new` is forgotten.
    pub(super) fn change_in_place(&mut self, old: u32, new: u32) {
        let Some(fresh) = self.slots.remove(&new) else { return };
        self.due.remove(&new);
        let Some(slot) = self.slots.get_mut(&old) else { return };
        let before = std::mem::replace(&mut slot.content, fresh.content.clone());
        slot.wanted += fresh.wanted;
        self.by_content.insert(fresh.content, old);
        if self.by_content.get(&before) == Some(&old) {
            self.by_content.remove(&before);
        }
        if let Content::Group(members) = &before {
            for (member, _) in members {
                self.count_wanted(*member, false);
            }
        }
        self.due.insert(old);
    }
}
