//! What is told to whom: groups of peers with equal facts, told the same in the same bytes. Never a table per peer.
//!
//! ```text
//!  changed slots        group (equal facts, one policy)                      peers
//!  --------------> dirty --look--> table: a number per slot --batch--> in pace: the changes, at once
//!                                    |                                  behind: a set of slots each, told when they can take it
//!                                    +-- number -> attributes, source
//! ```
//!
//! A peer whose buffer is full falls out of the pace: from then on the slots that change are noted for it, and it is told what
//! they hold by the time it can take more. However long it takes, it costs a bit per prefix. A peer that comes, or asks for
//! everything again, begins with all slots noted.

mod batch;
mod facts;
mod flush;
mod outbound;
mod outs;
#[cfg(test)]
mod tests;

pub use facts::{Delivery, Encode, GroupFacts};
pub use outbound::Withheld;

use crate::rib::{NONE, Rib, SlotSet};
use crate::types::{Attributes, Family, Nlri, PathId, PeerId};
use flush::Round;
use ipnet::IpNet;
use outs::Outs;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Slots of prefixes that are gone which may wait, of a family, until slow peers are told.
pub const MOST_HELD: usize = 1 << 18;

/// Messages that a peer waits for besides UPDATEs with routes.
#[derive(Debug, Clone, Copy, Default)]
struct Owes {
    begin_of_refresh: bool,
    end_of_refresh: bool,
    end_of_rib: bool,
}

#[derive(Debug)]
struct Member {
    group: usize,
    families: BTreeSet<Family>,
    is_ready: bool,
    owes: [Owes; Family::ALL.len()],
}

type Members = BTreeMap<PeerId, Member>;

#[derive(Debug)]
struct Group {
    facts: Arc<GroupFacts>,
    outs: [Outs; Family::ALL.len()],
    members: usize,
}

impl Group {
    fn new(facts: Arc<GroupFacts>, rib: &Rib) -> Self {
        let outs = Family::ALL.map(|family| {
            let mut outs = Outs::new(facts.add_path.get(&family).copied());
            outs.dirty = all(rib, family);
            outs
        });
        Self { facts, outs, members: 0 }
    }
}

fn all(rib: &Rib, family: Family) -> SlotSet {
    (0..rib.slots(family)).filter(|slot| *slot == 0 || rib.has_paths(family, *slot)).collect()
}

/// Why a peer is told of a prefix, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertisement {
    /// It is, or will be as soon as it can take it.
    Told(Arc<Attributes>),
    /// The best path comes from the peer itself.
    ItsOwn,
    /// It is not.
    Withheld(Withheld),
    /// There is no usable path.
    NoPath,
    /// The session does not carry the family, or is not there.
    NoSession,
}

/// What is told to all peers.
#[derive(Debug, Default)]
pub struct Export {
    groups: Vec<Option<Group>>,
    by_facts: HashMap<Arc<GroupFacts>, usize>,
    members: Members,
    /// Where the next round begins, so that everybody's turn comes.
    next: usize,
    /// Slots that could not be freed when last tried.
    held: [usize; Family::ALL.len()],
}

impl Export {
    /// A session is established: its peer is told everything, and then that this was all.
    pub fn join(&mut self, rib: &Rib, peer: PeerId, facts: GroupFacts, families: BTreeSet<Family>) {
        self.leave(peer);
        let group = self.group(rib, facts);
        let known = self.groups[group].as_mut().expect("group() answers with a group that is there");
        known.members += 1;
        for family in &families {
            known.outs[family.index()].join(peer);
        }
        let owes = Owes { end_of_rib: true, ..Owes::default() };
        let owes = Family::ALL.map(|family| if families.contains(&family) { owes } else { Owes::default() });
        self.members.insert(peer, Member { group, families, is_ready: true, owes });
    }

    /// A session has ended.
    pub fn leave(&mut self, peer: PeerId) {
        let Some(member) = self.members.remove(&peer) else { return };
        if let Some(group) = &mut self.groups[member.group] {
            for outs in &mut group.outs {
                outs.leave(peer);
            }
            group.members -= 1;
        }
        self.drop_if_empty(member.group);
    }

    /// Something of a peer's facts has changed: it is told the difference, on the session that it has. `false`: not possible,
    /// for the two ends of the session have agreed on something else (see [`GroupFacts::can_become`]).
    pub fn change(&mut self, rib: &Rib, peer: PeerId, facts: GroupFacts) -> bool {
        let Some(member) = self.members.get(&peer) else { return true };
        let old = member.group;
        let Some(group) = &self.groups[old] else { return true };
        if *group.facts == facts {
            return true;
        }
        if !group.facts.can_become(&facts) {
            return false;
        }
        let facts = Arc::new(facts);
        let known = self.by_facts.get(&facts).copied();
        let new = if let Some(known) = known {
            known
        } else {
            let outs = Family::ALL.map(|family| {
                let mut outs = group.outs[family.index()].fork(facts.add_path.get(&family).copied());
                outs.dirty.union(&all(rib, family));
                outs
            });
            self.add(Group { facts, outs, members: 0 })
        };
        // Both are there, and not the same: their facts differ.
        let (Some(mut before), Some(mut after)) = (self.groups[old].take(), self.groups[new].take()) else {
            return true;
        };
        for (before, after) in before.outs.iter_mut().zip(&mut after.outs) {
            match before.leave(peer) {
                Some(was) if known.is_some() => after.take_over(before, was),
                Some(was) => after.come(was),
                None => {}
            }
        }
        before.members -= 1;
        after.members += 1;
        self.groups[old] = Some(before);
        self.groups[new] = Some(after);
        if let Some(member) = self.members.get_mut(&peer) {
            member.group = new;
        }
        self.drop_if_empty(old);
        true
    }

    /// What has changed in the tables: see [`Rib::take_changes`].
    pub fn mark(&mut self, changes: &[SlotSet; Family::ALL.len()]) {
        for group in self.groups.iter_mut().flatten() {
            for (outs, changed) in group.outs.iter_mut().zip(changes).filter(|(_, changed)| !changed.is_empty()) {
                outs.dirty.union(changed);
            }
        }
    }

    /// A peer asks for everything again (RFC 2918); between a begin and an end if it knows of them (RFC 7313).
    pub fn refresh(&mut self, peer: PeerId, family: Family, is_enhanced: bool) {
        let Some(member) = self.members.get_mut(&peer).filter(|member| member.families.contains(&family)) else {
            return;
        };
        let owes = &mut member.owes[family.index()];
        owes.begin_of_refresh = is_enhanced;
        owes.end_of_refresh = is_enhanced;
        if let Some(group) = &mut self.groups[member.group] {
            group.outs[family.index()].again(peer);
        }
    }

    /// Whether a peer can take more. At first it can.
    pub fn set_ready(&mut self, peer: PeerId, is_ready: bool) {
        if let Some(member) = self.members.get_mut(&peer) {
            member.is_ready = is_ready;
        }
    }

    /// Tells up to `budget` slots to those that can take more. Whether there is more to tell to them.
    pub fn flush(&mut self, rib: &Rib, encoder: &dyn Encode, budget: usize, out: &mut Vec<Delivery>) -> bool {
        let mut used = 0;
        let count = self.groups.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            let Some(group) = &mut self.groups[at] else { continue };
            for family in Family::ALL {
                let round = Round { rib, encoder, facts: &group.facts, family };
                let outs = &mut group.outs[family.index()];
                used += round.run(outs, &mut self.members, budget.saturating_sub(used), out);
            }
            if used >= budget {
                self.next = (at + 1) % count;
                break;
            }
        }
        self.has_work()
    }

    /// Whether a flush would tell anything.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let is_ready = |peer: &PeerId| self.members.get(peer).is_some_and(|member| member.is_ready);
        self.groups
            .iter()
            .flatten()
            .flat_map(|group| &group.outs)
            .any(|outs| !outs.dirty.is_empty() || outs.cohorts.iter().any(|cohort| cohort.members.iter().any(is_ready)))
    }

    /// Lets the tables free slots that nobody has to be told of any more. Cheap when there are none.
    pub fn reclaim(&mut self, rib: &mut Rib) {
        for family in Family::ALL {
            let waiting = rib.unreclaimed(family);
            let is_held = |held: usize| held > 0 && waiting < 2 * held && !self.is_level(family);
            if waiting == 0 || is_held(self.held[family.index()]) {
                continue;
            }
            let groups = &self.groups;
            rib.reclaim(family, |slot| groups.iter().flatten().all(|group| group.outs[family.index()].is_clear(slot)));
            self.held[family.index()] = rib.unreclaimed(family);
        }
    }

    /// Peers that are to be let go because they take nothing while others announce ever new prefixes: what they have yet to be
    /// told is gone cannot be freed. Nobody as long as that is no more than the prefixes there are and [`MOST_HELD`].
    #[must_use]
    pub fn hoarders(&self, rib: &Rib) -> Vec<PeerId> {
        let is_held = |family| rib.unreclaimed(family) > rib.prefixes(family) + MOST_HELD;
        let held = Family::ALL.into_iter().filter(|family| is_held(*family));
        let outs = held.flat_map(|family| self.groups.iter().flatten().map(move |group| &group.outs[family.index()]));
        let behind = outs.flat_map(|outs| &outs.cohorts).filter(|cohort| !cohort.todo.is_empty());
        let is_full = |peer: &PeerId| self.members.get(peer).is_some_and(|member| !member.is_ready);
        behind
            .flat_map(|cohort| cohort.members.iter().copied())
            .filter(is_full)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Nobody is behind.
    fn is_level(&self, family: Family) -> bool {
        self.groups.iter().flatten().all(|group| group.outs[family.index()].cohorts.is_empty())
    }

    /// What a peer is told, as far as it could take it.
    pub fn advertised(&self, rib: &Rib, peer: PeerId, family: Family) -> Vec<(Nlri, Arc<Attributes>)> {
        let Some(outs) = self.outs(peer, family) else { return Vec::new() };
        let mut told = Vec::new();
        for slot in outs.told() {
            let Some(prefix) = rib.prefix(family, slot) else { continue };
            for (at, id) in outs.row(slot).iter().enumerate().filter(|(_, id)| **id != NONE) {
                let route = outs.routes.get(*id);
                if route.source.peer() != Some(peer) {
                    let path = PathId(if outs.has_ids { at as u32 + 1 } else { 0 });
                    told.push((Nlri { prefix, path }, Arc::clone(&route.attributes)));
                }
            }
        }
        told
    }

    /// Slots that a peer has yet to be told of.
    #[must_use]
    pub fn backlog(&self, peer: PeerId, family: Family) -> usize {
        let cohorts = self.outs(peer, family).map(|outs| &outs.cohorts).into_iter().flatten();
        cohorts.filter(|cohort| cohort.members.contains(&peer)).map(|cohort| cohort.todo.len()).sum()
    }

    /// How many groups there are.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.by_facts.len()
    }

    /// Why a peer is told of a prefix, or not.
    #[must_use]
    pub fn explain(&self, rib: &Rib, encoder: &dyn Encode, peer: PeerId, prefix: &IpNet) -> Advertisement {
        let family = Family::of(prefix);
        let Some(outs) = self.outs(peer, family) else { return Advertisement::NoSession };
        let Some(slot) = rib.slot(prefix) else { return Advertisement::NoPath };
        let told = outs.row(slot).iter().filter(|id| **id != NONE).map(|id| outs.routes.get(*id));
        if let Some(route) = told.clone().find(|route| route.source.peer() != Some(peer)) {
            return Advertisement::Told(Arc::clone(&route.attributes));
        }
        let Some(path) = rib.best(family, slot) else { return Advertisement::NoPath };
        if path.source.peer() == Some(peer) {
            return Advertisement::ItsOwn;
        }
        let facts =
            self.members.get(&peer).and_then(|member| self.groups[member.group].as_ref()).map(|group| &group.facts);
        let why = facts.and_then(|facts| Round { rib, encoder, facts, family }.explain(*prefix, &path));
        why.map_or(Advertisement::NoPath, Advertisement::Withheld)
    }

    fn outs(&self, peer: PeerId, family: Family) -> Option<&Outs> {
        let member = self.members.get(&peer).filter(|member| member.families.contains(&family))?;
        Some(&self.groups[member.group].as_ref()?.outs[family.index()])
    }

    /// The place of the group with these facts, a new one if need be.
    fn group(&mut self, rib: &Rib, facts: GroupFacts) -> usize {
        if let Some(at) = self.by_facts.get(&facts) {
            return *at;
        }
        self.add(Group::new(Arc::new(facts), rib))
    }

    fn add(&mut self, group: Group) -> usize {
        let at = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        if at == self.groups.len() {
            self.groups.push(None);
        }
        self.by_facts.insert(Arc::clone(&group.facts), at);
        self.groups[at] = Some(group);
        at
    }

    fn drop_if_empty(&mut self, at: usize) {
        if let Some(group) = self.groups[at].take_if(|group| group.members == 0) {
            self.by_facts.remove(&group.facts);
        }
    }
}
