//! One round of telling. Never more work than asked for.

use super::batch::{Batch, Packing};
use super::facts::{Delivery, Encode, GroupFacts};
use super::outbound::{self, Withheld};
use super::outs::{Cohort, OutRoute, Outs};
use super::{Member, Members};
use crate::rib::{Id, NONE, PathView, Rib, Source};
use crate::types::{Family, PathId, PeerId, Refresh, RefreshKind};
use bytes::BytesMut;
use hashbrown::HashMap;
use ipnet::IpNet;
use std::sync::Arc;

/// Paths with equal attributes from one source have one answer, where the policy does not look at prefixes.
type Cache = HashMap<(Id, Source, PathId, bool), Id>;

/// One family of one group, in a round.
pub(super) struct Round<'a> {
    pub(super) rib: &'a Rib,
    pub(super) encoder: &'a dyn Encode,
    pub(super) facts: &'a GroupFacts,
    pub(super) family: Family,
}

impl Round<'_> {
    /// Looks at up to `budget` slots and tells what has changed. How many slots it was.
    pub(super) fn run(&self, outs: &mut Outs, members: &mut Members, budget: usize, out: &mut Vec<Delivery>) -> usize {
        self.fall_behind(outs, members);
        let mut used = self.look(outs, budget, out);
        // Who is behind gets a share though news never end.
        let limit = budget.max(used + budget / 4);
        for _ in 0..outs.cohorts.len() {
            let Some(mut cohort) = outs.cohorts.pop_front() else { break };
            let waiting = split(&mut cohort, |peer| members.get(&peer).is_some_and(|member| member.is_ready));
            if let Some(waiting) = waiting {
                outs.cohorts.push_back(waiting);
            }
            if cohort.members.is_empty() {
                continue;
            }
            if used < limit {
                used += self.catch_up(outs, &mut cohort, members, limit - used, out);
            }
            if cohort.todo.is_empty() && outs.dirty.is_empty() {
                self.end(&cohort, members, out);
                outs.pace.append(&mut cohort.members);
            } else {
                outs.cohorts.push_back(cohort);
            }
        }
        used
    }

    /// Peers whose buffers are full leave the pace, all together.
    fn fall_behind(&self, outs: &mut Outs, members: &Members) {
        if outs.dirty.is_empty() {
            return;
        }
        let is_ready = |peer: &PeerId| members.get(peer).is_some_and(|member| member.is_ready);
        let (pace, behind) = std::mem::take(&mut outs.pace).into_iter().partition(is_ready);
        outs.pace = pace;
        if !behind.is_empty() {
            outs.cohorts.push_back(Cohort { members: behind, ..Cohort::default() });
        }
    }

    /// Brings what the group is told up to date with the tables.
    fn look(&self, outs: &mut Outs, budget: usize, out: &mut Vec<Delivery>) -> usize {
        let slots = outs.dirty.take(budget, |_| true);
        let (mut batch, mut cache) = (Batch::default(), Cache::new());
        let mut wanted = Vec::new();
        for slot in &slots {
            wanted.clear();
            if let Some(prefix) = self.rib.prefix(self.family, *slot) {
                self.want(outs, *slot, prefix, &mut cache, &mut wanted);
            }
            outs.set(*slot, &wanted, &mut batch);
        }
        for id in cache.into_values() {
            outs.routes.release(id);
        }
        batch.send(&self.packing(outs), &outs.pace, out);
        slots.len()
    }

    /// What the group should be told of a slot: numbers with a user more each.
    fn want(&self, outs: &mut Outs, slot: u32, prefix: IpNet, cache: &mut Cache, wanted: &mut Vec<Id>) {
        let is_default = slot == 0 && self.facts.default_originate.contains(&self.family);
        if is_default {
            let made = outbound::default_route(self.rib.own(), self.facts, self.family);
            wanted.extend(made.map(|attributes| {
                let route = OutRoute { attributes: Arc::new(attributes), source: Source::Local, path: PathId(0) };
                outs.routes.intern(route)
            }));
            return;
        }
        if self.rib.is_suppressed(&prefix) {
            return;
        }
        if outs.has_ids {
            for path in self.rib.ranked(self.family, slot, outs.most.into()) {
                wanted.extend(self.number(outs, prefix, &path, path.id, cache));
            }
        } else if let Some(path) = self.rib.best(self.family, slot) {
            wanted.extend(self.number(outs, prefix, &path, PathId(0), cache));
        }
    }

    fn number(&self, outs: &mut Outs, prefix: IpNet, path: &PathView<'_>, id: PathId, cache: &mut Cache) -> Option<Id> {
        let key = (path.attributes_id, path.source, id, path.is_long_lived);
        let looks_at_prefix = self.facts.policy.as_ref().is_some_and(|policy| policy.looks_at_prefix());
        if let Some(known) = cache.get(&key) {
            outs.routes.acquire(*known);
            return (*known != NONE).then_some(*known);
        }
        let number = match outbound::outbound(self.rib.own(), self.facts, prefix, path) {
            Ok(attributes) => {
                let route = OutRoute { attributes: Arc::new(attributes), source: path.source, path: id };
                outs.routes.intern(route)
            }
            Err(_) => NONE,
        };
        if !looks_at_prefix {
            outs.routes.acquire(number);
            cache.insert(key, number);
        }
        (number != NONE).then_some(number)
    }

    /// Tells a cohort a part of what it has not been told.
    fn catch_up(
        &self,
        outs: &Outs,
        cohort: &mut Cohort,
        members: &mut Members,
        budget: usize,
        out: &mut Vec<Delivery>,
    ) -> usize {
        for peer in &cohort.members {
            if let Some(member) = members.get_mut(peer) {
                self.begin(*peer, member, out);
            }
        }
        // What the group itself has yet to look at would be told twice, or, to a peer that comes from another group, be
        // withdrawn and announced again.
        let slots = cohort.todo.take(budget, |slot| !outs.dirty.contains(slot));
        cohort.is_fresh &= slots.is_empty();
        let mut batch = Batch::default();
        for slot in &slots {
            outs.catch_up(cohort, *slot, &mut batch);
        }
        batch.send(&self.packing(outs), &cohort.members, out);
        slots.len()
    }

    fn packing<'a>(&'a self, outs: &'a Outs) -> Packing<'a> {
        let Self { rib, encoder, facts, family } = *self;
        Packing { rib, encoder, facts, family, routes: &outs.routes, has_ids: outs.has_ids }
    }

    /// RFC 7313, section 4: a refresh begins.
    fn begin(&self, peer: PeerId, member: &mut Member, out: &mut Vec<Delivery>) {
        let owes = &mut member.owes[self.family.index()];
        if std::mem::take(&mut owes.begin_of_refresh) {
            let mut bytes = BytesMut::new();
            let refresh = Refresh { family: self.family, kind: RefreshKind::Begin };
            self.encoder.refresh(self.facts, refresh, &mut bytes);
            out.push(Delivery { peer, bytes: bytes.freeze() });
        }
    }

    /// All has been told.
    fn end(&self, cohort: &Cohort, members: &mut Members, out: &mut Vec<Delivery>) {
        for peer in &cohort.members {
            let Some(member) = members.get_mut(peer) else { continue };
            self.begin(*peer, member, out);
            let owes = &mut member.owes[self.family.index()];
            let mut bytes = BytesMut::new();
            if std::mem::take(&mut owes.end_of_refresh) {
                let refresh = Refresh { family: self.family, kind: RefreshKind::End };
                self.encoder.refresh(self.facts, refresh, &mut bytes);
            }
            if std::mem::take(&mut owes.end_of_rib) {
                self.encoder.end_of_rib(self.facts, self.family, &mut bytes);
            }
            if !bytes.is_empty() {
                out.push(Delivery { peer: *peer, bytes: bytes.freeze() });
            }
        }
    }

    /// What a group is told of a prefix, for people.
    pub(super) fn explain(&self, prefix: IpNet, path: &PathView<'_>) -> Option<Withheld> {
        if self.rib.is_suppressed(&prefix) {
            return Some(Withheld::Suppressed);
        }
        outbound::outbound(self.rib.own(), self.facts, prefix, path).err()
    }
}

/// Members that cannot be told anything now wait by themselves.
fn split(cohort: &mut Cohort, is_ready: impl Fn(PeerId) -> bool) -> Option<Cohort> {
    let (ready, waiting): (Vec<_>, Vec<_>) = cohort.members.iter().partition(|peer| is_ready(**peer));
    if waiting.is_empty() {
        return None;
    }
    if ready.is_empty() {
        return Some(std::mem::take(cohort));
    }
    cohort.members = ready;
    Some(Cohort { members: waiting, ..cohort.clone() })
}
