//! Everything that is in force at one moment: workloads, tiers, policies. Never how it came about.

use super::failsafe::Failsafe;
use super::model::{Policy, PolicyId, Tier, Workload, WorkloadId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One change of what is in force. Repeating one is harmless; so is removing what is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChange {
    /// The workload is this now.
    PutWorkload(Arc<Workload>),
    /// There is no such workload.
    RemoveWorkload(WorkloadId),
    /// The policy is this now. Its tier is known: policies of unknown tiers come closed, in [`Tier::CLOSED`].
    PutPolicy(Arc<Policy>),
    /// There is no such policy.
    RemovePolicy(PolicyId),
    /// The tier is this now.
    PutTier(Tier),
    /// There is no such tier; no policy is in it.
    RemoveTier(Arc<str>),
}

/// All that is in force. The built-in tiers are always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Workloads.
    pub workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// Policies.
    pub policies: BTreeMap<PolicyId, Arc<Policy>>,
    /// Tiers, by name.
    pub tiers: BTreeMap<Arc<str>, Tier>,
    /// What no policy about hosts closes.
    pub failsafe: Failsafe,
}

impl Default for World {
    fn default() -> Self {
        let tiers = Tier::built_in().map(|tier| (tier.name.clone(), tier)).into();
        Self { workloads: BTreeMap::new(), policies: BTreeMap::new(), tiers, failsafe: Failsafe::default() }
    }
}

impl World {
    /// Takes a change in. A built-in tier that is removed is what it was at first.
    pub fn apply(&mut self, change: ModelChange) {
        match change {
            ModelChange::PutWorkload(workload) => {
                self.workloads.insert(workload.id.clone(), workload);
            }
            ModelChange::RemoveWorkload(id) => {
                self.workloads.remove(&id);
            }
            ModelChange::PutPolicy(policy) => {
                self.policies.insert(policy.id.clone(), policy);
            }
            ModelChange::RemovePolicy(id) => {
                self.policies.remove(&id);
            }
            ModelChange::PutTier(tier) => {
                self.tiers.insert(tier.name.clone(), tier);
            }
            ModelChange::RemoveTier(name) => {
                match Tier::built_in().into_iter().find(|tier| tier.name == name) {
                    Some(tier) => self.tiers.insert(name, tier),
                    None => self.tiers.remove(&name),
                };
            }
        }
    }
}
