//! The walk through tiers, policies and rules, as the model's documentation says it. Never faster than it is clear.

use super::end::Ends;
use super::outcome::{Decision, Exemption, Step, Verdict};
use super::{Applied, AppliedTier, Connection, Evaluator};
use crate::policy::model::{Action, Direction, Mode, Stage, TierEnd};

/// What came of a tier.
enum Walked {
    Decided(Verdict, Decision),
    NextTier,
    /// The tier's end would deny, but does not hold for this connection: the next tier.
    Exempt(Exemption),
}

impl Evaluator<'_> {
    /// Walks all tiers; `mode` says whether staged policies count.
    pub(super) fn walk(
        &self,
        chain: &[&AppliedTier<'_>],
        connection: &Connection,
        ends: &Ends<'_>,
        direction: Direction,
        mode: Mode,
        mut steps: Option<&mut Vec<Step>>,
    ) -> (Verdict, Decision) {
        let mut last = Decision::Default;
        for tier in chain {
            match self.walk_tier(tier, connection, ends, direction, mode, steps.as_deref_mut()) {
                Walked::Decided(verdict, decision) => return (verdict, decision),
                Walked::NextTier => {}
                Walked::Exempt(exemption) => last = Decision::Exempt(exemption),
            }
        }
        (Verdict::Allow, last)
    }

    fn walk_tier(
        &self,
        tier: &AppliedTier<'_>,
        connection: &Connection,
        ends: &Ends<'_>,
        direction: Direction,
        mode: Mode,
        mut steps: Option<&mut Vec<Step>>,
    ) -> Walked {
        let counts = |applied: &&Applied<'_>| applied.policy.mode == Mode::Enforced || mode == Mode::Staged;
        let name = &tier.tier.name;
        for Applied { policy, rules } in tier.policies.iter().filter(counts) {
            let step = |path, action, miss| Step { tier: name.clone(), policy: policy.id.clone(), path, action, miss };
            if rules.rules.is_empty()
                && let Some(steps) = steps.as_deref_mut()
            {
                steps.push(step(None, None, None));
            }
            for rule in &rules.rules {
                let matched = self.rule(rule, connection, ends, direction);
                if let Some(steps) = steps.as_deref_mut() {
                    let miss = matched.as_ref().err().cloned();
                    steps.push(step(Some(rule.path.clone()), Some(rule.action), miss));
                }
                if matched.is_err() {
                    continue;
                }
                let decision = || Decision::Rule {
                    tier: name.clone(),
                    policy: policy.id.clone(),
                    path: rule.path.clone(),
                    name: rule.name.clone(),
                    action: rule.action,
                };
                match rule.action {
                    Action::Allow => return Walked::Decided(Verdict::Allow, decision()),
                    Action::Deny => return Walked::Decided(Verdict::Deny, decision()),
                    // What cannot be seen whole must not hide the denials that follow.
                    Action::Pass if rule.unenforceable().is_some() => {
                        return Walked::Decided(Verdict::Deny, decision());
                    }
                    Action::Pass => return Walked::NextTier,
                    Action::Log => {}
                }
            }
        }
        let isolating = tier.policies.iter().filter(counts).filter(|applied| applied.rules.isolates);
        let policies: Vec<_> = isolating.map(|applied| applied.policy.id.clone()).collect();
        // What an early stage does not decide, a later one does.
        if policies.is_empty() || tier.tier.end == TierEnd::Pass || tier.stage != Stage::Tracked {
            return Walked::NextTier;
        }
        // Isolation alone does not keep a pod from its own node; a rule of a later tier may.
        if direction == Direction::Egress && ends.other_is_own_node(direction) {
            return Walked::Exempt(Exemption::OwnNode);
        }
        Walked::Decided(Verdict::Deny, Decision::Isolated { tier: name.clone(), policies })
    }
}
