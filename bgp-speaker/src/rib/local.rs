//! Routes of our own: announced by wish, or for what is inside a prefix. Never routes of peers.

use super::path::Source;
use super::slots::SlotSet;
use super::{Own, Rib};
use crate::config::Aggregate;
use crate::types::{Aggregator, Attributes, Family, NextHop, Nlri, PathId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

#[derive(Debug)]
struct State {
    config: Aggregate,
    /// Prefixes inside with a path that is not an aggregate itself.
    inside: usize,
}

/// Aggregates and what is inside them.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    by_prefix: BTreeMap<IpNet, State>,
    /// Slots that count under [`State::inside`].
    counted: [SlotSet; Family::ALL.len()],
}

impl Aggregates {
    /// Whether a prefix is not announced because one around it is.
    fn suppresses(&self, prefix: &IpNet) -> bool {
        self.by_prefix
            .iter()
            .any(|(around, state)| state.config.summary_only && state.inside > 0 && is_inside(prefix, around))
    }
}

/// Within, and not the same.
fn is_inside(prefix: &IpNet, around: &IpNet) -> bool {
    prefix != around && around.contains(prefix)
}

impl Rib {
    /// Announces a prefix, or changes what it carries. Its next hop is the speaker's own on every session, whatever stands in
    /// `attributes`.
    pub fn originate(&mut self, prefix: IpNet, attributes: Arc<Attributes>) {
        self.put_own(Source::Local, Family::of(&prefix), prefix, attributes);
    }

    /// No longer announces a prefix.
    pub fn withdraw(&mut self, prefix: IpNet) {
        self.remove(Source::Local, Family::of(&prefix), &Nlri { prefix, path: PathId::default() });
    }

    /// Replaces all aggregates. One is announced as long as there is a usable route inside it; aggregates do not count.
    pub fn set_aggregates(&mut self, aggregates: BTreeMap<IpNet, Aggregate>) {
        let old = std::mem::take(&mut self.aggregates);
        for (prefix, state) in &old.by_prefix {
            if !aggregates.contains_key(prefix) {
                self.remove(Source::Aggregate, Family::of(prefix), &Nlri { prefix: *prefix, path: PathId::default() });
            }
            if state.config.summary_only {
                self.touch_inside(prefix);
            }
        }
        self.aggregates.by_prefix =
            aggregates.into_iter().map(|(prefix, config)| (prefix, State { config, inside: 0 })).collect();
        for family in Family::ALL {
            for slot in 0..self.tables[family.index()].slots() {
                self.count(family, slot);
            }
        }
        let states = self.aggregates.by_prefix.iter().map(|(prefix, state)| (*prefix, state.inside > 0));
        for (prefix, is_active) in states.collect::<Vec<_>>() {
            self.turn(prefix, is_active);
        }
    }

    /// An aggregate has got its first, or lost its last, route inside.
    fn turn(&mut self, prefix: IpNet, is_active: bool) {
        let family = Family::of(&prefix);
        if is_active {
            let attributes = attributes(&self.own, family);
            self.put_own(Source::Aggregate, family, prefix, Arc::new(attributes));
        } else {
            self.remove(Source::Aggregate, family, &Nlri { prefix, path: PathId::default() });
        }
        if self.aggregates.by_prefix[&prefix].config.summary_only {
            self.touch_inside(&prefix);
        }
    }

    /// Whether a prefix is not to be announced because an aggregate around it is.
    #[must_use]
    pub fn is_suppressed(&self, prefix: &IpNet) -> bool {
        !self.aggregates.by_prefix.is_empty() && self.aggregates.suppresses(prefix)
    }

    /// Brings aggregates up to date with what has changed.
    pub(super) fn settle_aggregates(&mut self) {
        if self.aggregates.by_prefix.is_empty() {
            return;
        }
        for family in Family::ALL {
            let mut turned = Vec::new();
            for slot in self.tables[family.index()].changed.iter().collect::<Vec<_>>() {
                turned.extend(self.count(family, slot));
            }
            for prefix in turned {
                let is_active = self.aggregates.by_prefix[&prefix].inside > 0;
                self.turn(prefix, is_active);
            }
        }
    }

    /// Counts a slot in or out. Aggregates that have got their first, or lost their last, route inside.
    fn count(&mut self, family: Family, slot: u32) -> Vec<IpNet> {
        let table = &self.tables[family.index()];
        let counts =
            table.paths(slot).iter().any(|path| path.flags.is_eligible() && path.source() != Source::Aggregate);
        let counted = &mut self.aggregates.counted[family.index()];
        let has_turned = if counts { counted.insert(slot) } else { counted.remove(slot) };
        let (true, Some(prefix)) = (has_turned, table.prefix(slot)) else { return Vec::new() };
        let mut turned = Vec::new();
        for (around, state) in self.aggregates.by_prefix.iter_mut().filter(|(around, _)| is_inside(&prefix, around)) {
            if counts {
                state.inside += 1;
            } else {
                state.inside -= 1;
            }
            if state.inside == usize::from(counts) {
                turned.push(*around);
            }
        }
        turned
    }

    /// What is inside counts as changed: it may be announced now, or no longer.
    fn touch_inside(&mut self, around: &IpNet) {
        let table = &mut self.tables[Family::of(around).index()];
        for slot in 0..table.slots() {
            let prefix = table.prefix(slot).filter(|prefix| is_inside(prefix, around));
            if prefix.is_some() && !table.paths(slot).is_empty() {
                table.changed.insert(slot);
            }
        }
    }
}

/// RFC 4271, section 9.2.2.2: what was on the paths inside is lost.
fn attributes(own: &Own, family: Family) -> Attributes {
    let next_hop = match family {
        Family::Ipv4 => NextHop::V4(Ipv4Addr::UNSPECIFIED),
        Family::Ipv6 => NextHop::V6 { global: Ipv6Addr::UNSPECIFIED, link_local: None },
    };
    let aggregator = Some(Aggregator { asn: own.asn, id: own.router_id.get() });
    Attributes { atomic_aggregate: true, aggregator, ..Attributes::own(next_hop) }
}
