//! Policies and tiers, and which policy's tier is there. Never who is selected.

use super::problems::{Cause, Problems};
use crate::policy::model::{Effect, Mode, Order, Policy, PolicyId, Problem, Rules, Stage, Tier};
use crate::policy::world::ModelChange;
use crate::store::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Policies {
    /// As they were read, by object.
    policies: BTreeMap<ObjectKey, Vec<Arc<Policy>>>,
    /// Objects by the tiers that their policies name.
    in_tier: BTreeMap<Arc<str>, BTreeSet<ObjectKey>>,
    /// Tiers by name, of all objects that say something of them; the last speaks.
    tiers: BTreeMap<Arc<str>, BTreeMap<ObjectKey, Tier>>,
    /// The tiers of each object.
    tiers_of: BTreeMap<ObjectKey, Vec<Arc<str>>>,
}

impl Policies {
    /// What an object says now; nothing when it is gone.
    pub(super) fn put(
        &mut self,
        key: &ObjectKey,
        policies: Vec<Policy>,
        tiers: Vec<Tier>,
        problems: &mut Problems,
        out: &mut Vec<ModelChange>,
    ) {
        self.put_tiers(key, tiers, problems, out);
        let new: Vec<Arc<Policy>> = policies.into_iter().map(Arc::new).collect();
        let old = self.policies.remove(key).unwrap_or_default();
        for policy in &old {
            self.leave(key, &policy.tier);
        }
        for policy in &new {
            self.in_tier.entry(policy.tier.clone()).or_default().insert(key.clone());
        }
        for policy in old.iter().filter(|policy| !new.iter().any(|other| other.id == policy.id)) {
            out.push(ModelChange::RemovePolicy(policy.id.clone()));
        }
        for policy in new.iter().filter(|policy| !old.contains(policy)) {
            out.push(self.in_force(policy));
        }
        if !new.is_empty() {
            self.policies.insert(key.clone(), new);
        }
        if !old.is_empty() || self.policies.contains_key(key) {
            problems.set(key, Cause::Tier, self.problem(key).into_iter().collect());
        }
    }

    fn leave(&mut self, key: &ObjectKey, tier: &Arc<str>) {
        if let Some(objects) = self.in_tier.get_mut(tier) {
            objects.remove(key);
            if objects.is_empty() {
                self.in_tier.remove(tier);
            }
        }
    }

    fn put_tiers(&mut self, key: &ObjectKey, new: Vec<Tier>, problems: &mut Problems, out: &mut Vec<ModelChange>) {
        let old = self.tiers_of.remove(key).unwrap_or_default();
        let names: BTreeSet<Arc<str>> = old.into_iter().chain(new.iter().map(|tier| tier.name.clone())).collect();
        let mut changed = false;
        for name in names {
            let (was_known, before) = (self.known(&name), self.speaker(&name).cloned());
            let objects = self.tiers.entry(name.clone()).or_default();
            match new.iter().find(|tier| tier.name == name) {
                Some(tier) => objects.insert(key.clone(), tier.clone()),
                None => objects.remove(key),
            };
            if objects.is_empty() {
                self.tiers.remove(&name);
            }
            let after = self.speaker(&name).cloned();
            let known = self.known(&name);
            changed |= known != was_known;
            let gone = after.is_none();
            if let Some(tier) = after.filter(|after| before.as_ref() != Some(after)) {
                out.push(ModelChange::PutTier(tier));
            }
            if known != was_known {
                let objects = self.in_tier.get(&name).into_iter().flatten();
                let policies = objects.filter_map(|object| self.policies.get(object)).flatten();
                out.extend(policies.filter(|policy| policy.tier == name).map(|policy| self.in_force(policy)));
            }
            // Last, so that no policy is ever in a tier that is not there.
            if gone && before.is_some() {
                out.push(ModelChange::RemoveTier(name));
            }
        }
        if !new.is_empty() {
            self.tiers_of.insert(key.clone(), new.into_iter().map(|tier| tier.name).collect());
        }
        if changed {
            // Those that were closed and are not any more, and the lists of tiers in all others.
            let objects: BTreeSet<&ObjectKey> =
                self.in_tier.iter().filter(|(name, _)| !is_built_in(name)).flat_map(|(_, objects)| objects).collect();
            for key in objects {
                problems.set(key, Cause::Tier, self.problem(key).into_iter().collect());
            }
        }
    }

    fn speaker(&self, name: &str) -> Option<&Tier> {
        self.tiers.get(name)?.values().next_back()
    }

    fn known(&self, name: &str) -> bool {
        is_built_in(name) || self.tiers.contains_key(name)
    }

    /// The tier that an object's policies are in.
    pub(super) fn tier_of(&self, key: &ObjectKey) -> Option<Arc<str>> {
        let tier = &self.policies.get(key)?.first()?.tier;
        Some(if self.known(tier) { tier.clone() } else { Tier::CLOSED.into() })
    }

    /// The policy itself, or, in a tier that is not there, one that closes the same subjects in the same directions.
    fn in_force(&self, policy: &Arc<Policy>) -> ModelChange {
        if self.known(&policy.tier) {
            return ModelChange::PutPolicy(policy.clone());
        }
        let closed = |rules: &Option<Rules>| rules.as_ref().map(|_| Rules { rules: Vec::new(), isolates: true });
        ModelChange::PutPolicy(Arc::new(Policy {
            id: PolicyId::clone(&policy.id),
            tier: Tier::CLOSED.into(),
            order: Order::FIRST,
            subject: policy.subject.clone(),
            ingress: closed(&policy.ingress),
            egress: closed(&policy.egress),
            mode: policy.mode,
            stage: Stage::Tracked,
            on_forward: policy.on_forward,
        }))
    }

    fn problem(&self, key: &ObjectKey) -> Option<Problem> {
        let mut policies = self.policies.get(key)?.iter();
        let policy = policies.find(|policy| !self.known(&policy.tier))?;
        let mut names: BTreeSet<&str> = self.tiers.keys().map(|name| &**name).collect();
        names.extend([Tier::ADMIN, Tier::DEFAULT, Tier::BASELINE]);
        let names: Vec<&str> = names.into_iter().collect();
        let effect = if policy.mode == Mode::Staged { Effect::Warning } else { Effect::SubjectClosed };
        let detail = format!("there is no tier {:?}; there are {}", policy.tier, names.join(", "));
        Some(Problem { object: key.clone(), path: "spec.tier".to_owned(), detail, effect })
    }
}

fn is_built_in(name: &str) -> bool {
    [Tier::CLOSED, Tier::ADMIN, Tier::DEFAULT, Tier::BASELINE].contains(&name)
}
