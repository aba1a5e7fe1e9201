//! The order in which an endpoint walks the policies that are about it. Never a rule: programs name chains.

use super::policies::Policies;
use super::slab::Slot;
use crate::policy::model::{Direction, Mode, Order, Policy, Stage, Tier, TierEnd};
use crate::policy::program::{ChainId, DirectionProgram, TierProgram};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a policy stands.
struct Place<'a> {
    tier_order: Order,
    end: TierEnd,
    policy: &'a Policy,
}

impl<'a> Place<'a> {
    /// A tier that nobody knows is closed, and comes first.
    fn of(policy: &'a Policy, tiers: &BTreeMap<Arc<str>, Tier>) -> Self {
        let (tier_order, end) = match tiers.get(&policy.tier) {
            Some(tier) => (tier.order, tier.end),
            None => (Order::FIRST, TierEnd::Deny),
        };
        Self { tier_order, end, policy }
    }

    fn key(&self) -> impl Ord {
        (self.tier_order, &self.policy.tier, self.policy.order, &self.policy.id)
    }
}

/// Policies in order.
pub(super) struct Walk<'a>(Vec<Place<'a>>);

impl<'a> Walk<'a> {
    pub(super) fn of(
        slots: &BTreeSet<Slot>,
        policies: &'a Policies,
        tiers: &BTreeMap<Arc<str>, Tier>,
        counts: impl Fn(&Policy) -> bool,
    ) -> Self {
        let all = slots.iter().map(|slot| &*policies.known[*slot].policy).filter(|policy| counts(policy));
        let mut placed: Vec<Place<'_>> = all.map(|policy| Place::of(policy, tiers)).collect();
        placed.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        Self(placed)
    }

    pub(super) fn program(&self, direction: Direction) -> DirectionProgram {
        let is_staged =
            |Place { policy, .. }: &Place<'_>| policy.mode == Mode::Staged && policy.rules(direction).is_some();
        let staged = self.0.iter().any(is_staged).then(|| self.tiers(direction, Mode::Staged));
        DirectionProgram { enforced: self.tiers(direction, Mode::Enforced), staged }
    }

    /// The tiers; `mode` says whether staged policies count.
    fn tiers(&self, direction: Direction, mode: Mode) -> Vec<TierProgram> {
        let mut programs: Vec<TierProgram> = Vec::new();
        for Place { end, policy, .. } in &self.0 {
            let counts = policy.mode == Mode::Enforced || mode == Mode::Staged;
            let Some(rules) = policy.rules(direction).filter(|_| counts) else { continue };
            if programs.last().is_none_or(|program| program.tier != policy.tier) {
                programs.push(TierProgram { tier: policy.tier.clone(), chains: Vec::new(), end: TierEnd::Pass });
            }
            let program = programs.last_mut().expect("one was there or has been pushed");
            program.chains.push(ChainId { policy: policy.id.clone(), direction });
            // What an early stage does not decide, a later one does.
            if rules.isolates && *end == TierEnd::Deny && policy.stage == Stage::Tracked {
                program.end = TierEnd::Deny;
            }
        }
        programs
    }
}
