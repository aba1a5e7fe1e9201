//! What one compiled program is made from: tiers with their rules, and what holds of the endpoint's own address. Endpoints
//! with equal sources share a program. Never a class or a verdict.

use super::atom::Atom;
use super::items::Items;
use super::rules::{RuleName, Rules};
use crate::policy::PolicyError;
use cni_core::policy::model::{Action, Direction, Family, Protocol, TierEnd};
use cni_core::policy::program::{Clause, DirectionProgram, PolicyKey, SetId, SetKind, SetMatch, Side, TierProgram};
use std::collections::{BTreeMap, BTreeSet};

/// A rule, with its number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SourceRule {
    pub(super) number: u32,
    pub(super) action: Action,
    pub(super) clauses: Vec<Clause>,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SourceTier {
    pub(super) rules: Vec<SourceRule>,
    pub(super) end: TierEnd,
    pub(super) end_number: u32,
}

/// Tiers in order.
pub(super) type Walk = Vec<SourceTier>;

/// Everything that a program depends on, but for what holds of peers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Source {
    pub(super) direction: Direction,
    pub(super) family: Family,
    pub(super) enforced: Walk,
    pub(super) staged: Option<Walk>,
    /// What holds of the endpoint's own address, of what its rules ask.
    pub(super) own: BTreeSet<Atom>,
    /// Protocols and ports in the sets of ports that rules look peers up in.
    pub(super) ports: BTreeMap<SetId, BTreeSet<(Protocol, u16)>>,
}

impl Source {
    /// The source of one direction at one address.
    ///
    /// # Errors
    /// A chain is not there.
    pub(super) fn of(
        item: &PolicyKey,
        direction: Direction,
        family: Family,
        program: &DirectionProgram,
        own: &BTreeSet<Atom>,
        items: &Items,
        rules: &mut Rules,
    ) -> Result<Self, PolicyError> {
        let mut walk = |tiers: &[TierProgram]| -> Result<Walk, PolicyError> {
            tiers.iter().map(|tier| source_tier(item, direction, tier, items, rules)).collect()
        };
        let enforced = walk(&program.enforced)?;
        let staged = program.staged.as_deref().map(walk).transpose()?;
        let mut source = Self { direction, family, enforced, staged, own: BTreeSet::new(), ports: BTreeMap::new() };
        let (mut own_sets, mut peer_ports) = (BTreeSet::new(), BTreeSet::new());
        for lookup in source.lookups() {
            match (source.is_peer(lookup.side), lookup.set.kind) {
                (false, _) => drop(own_sets.insert(lookup.set.id.clone())),
                (true, SetKind::AddressPorts(_)) => drop(peer_ports.insert(lookup.set.id.clone())),
                (true, _) => {}
            }
        }
        source.own = own.iter().filter(|atom| atom.set().is_some_and(|set| own_sets.contains(set))).cloned().collect();
        source.ports = peer_ports.into_iter().map(|set| (set.clone(), items.ports(&set))).collect();
        Ok(source)
    }

    /// Whether this side is the other end.
    pub(super) fn is_peer(&self, side: Side) -> bool {
        (side == Side::Source) == (self.direction == Direction::Ingress)
    }

    /// Numbers of all rules in it.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        let tiers = self.enforced.iter().chain(self.staged.iter().flatten());
        tiers.flat_map(|tier| tier.rules.iter().map(|rule| rule.number).chain([tier.end_number]))
    }

    fn lookups(&self) -> impl Iterator<Item = &SetMatch> {
        let tiers = self.enforced.iter().chain(self.staged.iter().flatten());
        tiers.flat_map(|tier| &tier.rules).flat_map(|rule| &rule.clauses).flat_map(|clause| &clause.sets)
    }
}

fn source_tier(
    item: &PolicyKey,
    direction: Direction,
    tier: &TierProgram,
    items: &Items,
    rules: &mut Rules,
) -> Result<SourceTier, PolicyError> {
    let mut source = Vec::new();
    for id in &tier.chains {
        let Some(chain) = items.chain(id) else {
            return Err(PolicyError::NoChain { item: item.clone(), chain: id.clone() });
        };
        for rule in &chain.rules {
            let number = rules.number(RuleName::Rule { chain: id.clone(), path: rule.path.clone() });
            source.push(SourceRule { number, action: rule.action, clauses: rule.clauses.clone() });
        }
    }
    let end_number = rules.number(RuleName::End { tier: tier.tier.clone(), direction });
    Ok(SourceTier { rules: source, end: tier.end, end_number })
}
