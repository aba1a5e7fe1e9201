//! From the model to programs for the endpoints of one node, change by change. Never a kernel object, and never work for
//! what did not change: a pod costs the sets that it is in, a policy its own rules.
//!
//! ```text
//!                 identities  <──inverted index──>  selectors
//!                 /        \                        /       \
//!         workloads         local endpoints ── policies      groups (what a set means)
//!                                                 └─ chains ──┘
//! ```
//!
//! Only what local endpoints need is there: policies that are about one get chains, and what chains look into gets sets.
//!
//! # Choices
//! - A set is named after its meaning, so that all rules with one meaning share one. Workloads of one peer list make one
//!   set, as do prefixes with their exceptions: the usual rule of many peers is one lookup per family.
//! - Addresses of a local endpoint count as its pod's before the cluster tells of them, so that no rule about the pod
//!   comes late at this node.
//! - An address of a local endpoint is its pod's alone, whoever else claims it: this node gave it.
//! - Ports that ingress rules name are looked up among local endpoints only; those of egress rules among the pods of the
//!   rule's own peer, in the same lookup as their addresses.
//! - A pod that the cluster places on another node is not the one attached here; its endpoint is closed until they agree.

mod claims;
mod condition;
mod endpoints;
mod groups;
mod hosts;
mod identities;
mod members;
mod peer;
mod policies;
mod prefixes;
mod rule;
mod slab;
#[cfg(test)]
mod tests;
mod traffic;
mod walk;
mod workloads;

pub use endpoints::LocalEndpoint;
pub use hosts::{Idle, IdleReason};

use super::failsafe::Failsafe;
use super::model::{Identity, Policy, PolicyId, Problem, Tier, Workload, WorkloadId, WorkloadKind};
use super::program::HostProgram;
use super::program::{PolicyChange, PolicyItem, PolicyKey};
use super::world::{ModelChange, World};
use crate::backend::Change;
use crate::model::{EndpointId, InterfaceName};
use endpoints::{Endpoints, What};
use groups::Groups;
use hosts::HostMember;
use identities::Identities;
use policies::Policies;
use slab::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use workloads::{Placed, Workloads};

/// The compiler of one node.
///
/// # Laws
/// 1. What [`drain`](Self::drain) has given so far depends on what is in force, never on how it came about.
/// 2. A change costs what it touches.
#[derive(Debug)]
pub struct Compiler {
    node: Arc<str>,
    nobody: Arc<Identity>,
    tiers: BTreeMap<Arc<str>, Tier>,
    identities: Identities,
    workloads: Workloads,
    groups: Groups,
    policies: Policies,
    endpoints: Endpoints,
}

impl Compiler {
    /// A compiler for the node of this name. The built-in tiers are there.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self::with_failsafe(node, Failsafe::default())
    }

    /// The same with other failsafe ports.
    #[must_use]
    pub fn with_failsafe(node: &str, failsafe: Failsafe) -> Self {
        let mut endpoints = Endpoints::default();
        endpoints.hosts.failsafe = failsafe;
        Self {
            node: node.into(),
            nobody: Arc::new(Identity::new(WorkloadKind::Pod)),
            tiers: World::default().tiers,
            identities: Identities::default(),
            workloads: Workloads::default(),
            groups: Groups::default(),
            policies: Policies::default(),
            endpoints,
        }
    }

    /// Takes a change of the model in. Memory only.
    pub fn apply(&mut self, change: ModelChange) {
        match change {
            ModelChange::PutWorkload(workload) => self.put_workload(workload),
            ModelChange::RemoveWorkload(id) => self.remove_workload(&id),
            ModelChange::PutPolicy(policy) => self.put_policy(policy),
            ModelChange::RemovePolicy(id) => self.remove_policy(&id),
            ModelChange::PutTier(tier) => {
                if self.tiers.get(&tier.name) != Some(&tier) {
                    self.tiers.insert(tier.name.clone(), tier);
                    self.endpoints.stir_all();
                }
            }
            ModelChange::RemoveTier(name) => {
                match Tier::built_in().into_iter().find(|tier| tier.name == name) {
                    Some(tier) => self.tiers.insert(name, tier),
                    None => self.tiers.remove(&name),
                };
                self.endpoints.stir_all();
            }
        }
    }

    /// An attachment of this node is this now. Until the model holds its pod, it is closed. A container that is no pod has
    /// no labels, and only policies that are about such are about it.
    pub fn put_endpoint(&mut self, endpoint: LocalEndpoint) {
        if let Some(slot) = self.endpoints.find(&endpoint.id) {
            if self.endpoints.known[slot].what == What::Endpoint(endpoint.clone()) {
                return;
            }
            self.remove_endpoint(&endpoint.id);
        }
        let (pod, addresses) = (endpoint.workload(), endpoint.addresses.clone());
        let slot = self.endpoints.insert(What::Endpoint(endpoint));
        match &pod {
            Some(pod) => self.follow_endpoints(pod),
            None => self.bind(slot),
        }
        self.settle(&addresses);
    }

    /// There is no such attachment.
    pub fn remove_endpoint(&mut self, id: &EndpointId) {
        let Some(slot) = self.endpoints.find(id) else { return };
        let what = &self.endpoints.known[slot].what;
        let (addresses, pod) = (what.addresses().to_vec(), what.workload());
        self.bind_to(slot, None);
        self.endpoints.forget(slot);
        if let Some(pod) = pod {
            self.follow_endpoints(&pod);
        }
        self.settle(&addresses);
    }

    /// What changed since the last call: each item once, sets before what uses them, and what uses them before they go.
    pub fn drain(&mut self) -> Vec<PolicyChange> {
        let chains = self.policies.news();
        let endpoints = self.endpoints.news(&self.policies, &self.tiers);
        let host = self.endpoints.host_news(&self.policies, &self.tiers);
        let sets = self.groups.news(&self.workloads, &mut self.identities);
        let mut changes: Vec<PolicyChange> = Vec::with_capacity(sets.joined.len() + sets.left.len());
        changes.extend(sets.new.into_iter().map(|set| Change::Put(PolicyItem::Set(set))));
        changes.extend(sets.joined.into_iter().map(|(set, member)| Change::Put(PolicyItem::Member(set, member))));
        changes.extend(chains.put.into_iter().map(|chain| Change::Put(PolicyItem::Chain(Arc::unwrap_or_clone(chain)))));
        changes.extend(host.chains.into_iter().map(|chain| Change::Put(PolicyItem::Chain(chain))));
        changes.extend(endpoints.put.into_iter().map(|program| Change::Put(PolicyItem::Endpoint(program))));
        changes.extend(host.put.map(|program| Change::Put(PolicyItem::Host(program))));
        changes.extend(host.gone.then_some(Change::Remove(PolicyKey::Host)));
        changes.extend(endpoints.gone.into_iter().map(|id| Change::Remove(PolicyKey::Endpoint(id))));
        changes.extend(host.chains_gone.into_iter().map(|id| Change::Remove(PolicyKey::Chain(id))));
        changes.extend(chains.gone.into_iter().map(|id| Change::Remove(PolicyKey::Chain(id))));
        let left = sets.left.into_iter().map(|(set, member)| PolicyKey::Member(set.id, member));
        changes.extend(left.map(Change::Remove));
        changes.extend(sets.gone.into_iter().map(|set| Change::Remove(PolicyKey::Set(set.id))));
        changes
    }

    /// Rules that were closed because they are too large, of the policies that are about a local endpoint; and addresses of
    /// local endpoints that others claim.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.policies.problems().cloned().chain(claims::problems(&self.workloads, &self.endpoints)).collect()
    }

    /// The node's own interfaces have these addresses: some host endpoints are known by them alone.
    pub fn set_interfaces(&mut self, interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>>) {
        self.endpoints.hosts.set_interfaces(interfaces);
    }

    /// The node's own program, as last drained; `None` while everything is allowed.
    #[must_use]
    pub fn host(&self) -> Option<&HostProgram> {
        self.endpoints.hosts.told()
    }

    /// Host endpoints of this node that are not enforced, and why.
    #[must_use]
    pub fn idle_host_endpoints(&self) -> Vec<Idle> {
        self.endpoints.idle()
    }

    fn put_workload(&mut self, workload: Arc<Workload>) {
        let old = self.workloads.find(&workload.id);
        if old.is_some_and(|slot| self.workloads.known[slot].workload == workload) {
            return;
        }
        self.set_member(&workload.id, HostMember::of(&workload, &self.node));
        self.place(old, Some(workload));
    }

    /// The node or a host endpoint is this part of the node now, or none.
    fn set_member(&mut self, id: &WorkloadId, new: Option<HostMember>) {
        let new = new.map(What::Host);
        for slot in self.endpoints.of(id) {
            let old = &self.endpoints.known[slot].what;
            if matches!(old, What::Host(_)) && Some(old) != new.as_ref() {
                self.bind_to(slot, None);
                self.endpoints.forget(slot);
            }
        }
        if let Some(member) = new
            && self.endpoints.of(id).is_empty()
        {
            self.endpoints.insert(member);
        }
    }

    fn remove_workload(&mut self, id: &WorkloadId) {
        self.set_member(id, None);
        if let Some(slot) = self.workloads.find(id) {
            self.place(Some(slot), None);
        }
    }

    /// Endpoints of a pod came or went: their addresses are the pod's.
    fn follow_endpoints(&mut self, pod: &WorkloadId) {
        if let Some(slot) = self.workloads.find(pod) {
            let workload = self.workloads.known[slot].workload.clone();
            self.place(Some(slot), Some(workload));
        }
    }

    /// Addresses came to a local endpoint or left it: others that claim them lose them, or get them.
    fn settle(&mut self, addresses: &[IpAddr]) {
        let claiming: BTreeSet<Slot> = addresses.iter().flat_map(|address| self.workloads.claiming(*address)).collect();
        for slot in claiming {
            let placed = &self.workloads.known[slot];
            if claims::lost(&placed.workload, &self.endpoints) != placed.lost {
                let workload = placed.workload.clone();
                self.place(Some(slot), Some(workload));
            }
        }
    }

    /// Whether a workload is the one that is attached here.
    fn is_ours(&self, workload: &Workload) -> bool {
        !workload.host_network && workload.node.as_ref().is_none_or(|node| *node == self.node)
    }

    /// Puts a workload in the place of another version of it, or of nothing; or takes it away.
    fn place(&mut self, old: Option<Slot>, new: Option<Arc<Workload>>) {
        let before = old.map(|slot| self.workloads.known[slot].clone());
        let id = before.as_ref().map(|placed| &placed.workload).or(new.as_ref()).map(|workload| workload.id.clone());
        let Some(id) = id else { return };
        let endpoints = self.endpoints.of(&id);
        let after = new.map(|workload| {
            let identity = (!workload.host_network).then(|| self.intern(&workload.identity));
            let local = (!endpoints.is_empty() && self.is_ours(&workload)).then(|| {
                let addresses = endpoints.iter().flat_map(|slot| self.endpoints.known[*slot].what.addresses());
                addresses.copied().collect()
            });
            let lost = claims::lost(&workload, &self.endpoints);
            Placed { workload, identity, local, lost }
        });
        for placed in before.iter().chain(&after) {
            self.groups.touch(placed, &self.workloads, &self.identities);
        }
        if let Some(slot) = old {
            self.workloads.remove(slot);
        }
        let before = before.and_then(|placed| placed.identity);
        if let (Some(identity), Some(slot)) = (before, old) {
            self.identities.known[identity].workloads.remove(&slot);
        }
        if let Some(placed) = after {
            let identity = placed.identity;
            let slot = self.workloads.insert(placed);
            if let Some(identity) = identity {
                self.identities.known[identity].workloads.insert(slot);
            }
        }
        for endpoint in endpoints {
            self.bind(endpoint);
        }
        if let Some(identity) = before {
            self.forget_unused(identity);
        }
    }

    fn intern(&mut self, identity: &Arc<Identity>) -> Slot {
        let (slot, is_new) = self.identities.intern(identity);
        if is_new {
            self.identities.known[slot].groups = self.groups.admit(slot, identity);
        }
        slot
    }

    fn forget_unused(&mut self, identity: Slot) {
        if !self.identities.known.contains(identity) {
            return;
        }
        for group in self.identities.forget_unused(identity) {
            self.groups.known[group].identities.remove(&identity);
        }
    }

    /// Gives an endpoint the identity that it has now, and the policies that are about that.
    fn bind(&mut self, slot: Slot) {
        let identity = match self.endpoints.known[slot].what.workload() {
            None => Some(self.intern(&self.nobody.clone())),
            Some(pod) => {
                let placed = self.workloads.find(&pod).map(|workload| &self.workloads.known[workload]);
                placed.filter(|placed| self.is_ours(&placed.workload)).and_then(|placed| placed.identity)
            }
        };
        self.bind_to(slot, identity);
    }

    fn bind_to(&mut self, slot: Slot, identity: Option<Slot>) {
        let attached = &mut self.endpoints.known[slot];
        let before = std::mem::replace(&mut attached.identity, identity);
        if before == identity {
            return;
        }
        let policies = match identity {
            Some(identity) => {
                self.identities.attach(identity, slot);
                self.policies.about(&self.identities.known[identity].identity)
            }
            None => BTreeSet::new(),
        };
        let old = std::mem::replace(&mut attached.policies, policies.clone());
        self.endpoints.stir(slot);
        for policy in &policies {
            self.policies.known[*policy].endpoints.insert(slot);
        }
        for policy in old.difference(&policies) {
            self.policies.known[*policy].endpoints.remove(&slot);
        }
        for policy in old.symmetric_difference(&policies) {
            self.policies.follow(*policy, &mut self.groups, &mut self.identities);
        }
        if let Some(before) = before {
            self.identities.detach(before, slot);
            self.forget_unused(before);
        }
    }

    fn put_policy(&mut self, policy: Arc<Policy>) {
        if let Some(slot) = self.policies.find(&policy.id)
            && self.policies.known[slot].policy == policy
        {
            return;
        }
        let slot = self.policies.put(policy, &self.identities);
        let subjects = self.policies.subjects(slot, &self.identities);
        self.set_subjects(slot, subjects);
        self.policies.compile(slot, &mut self.groups, &mut self.identities);
    }

    fn remove_policy(&mut self, id: &PolicyId) {
        let Some(slot) = self.policies.find(id) else { return };
        self.set_subjects(slot, BTreeSet::new());
        self.policies.compile(slot, &mut self.groups, &mut self.identities);
        self.policies.forget(slot);
    }

    /// The policy is about these endpoints now, and is another than it was to those that it was about.
    fn set_subjects(&mut self, slot: Slot, subjects: BTreeSet<Slot>) {
        let old = std::mem::replace(&mut self.policies.known[slot].endpoints, subjects.clone());
        for endpoint in old.union(&subjects) {
            self.endpoints.stir(*endpoint);
            let policies = &mut self.endpoints.known[*endpoint].policies;
            if subjects.contains(endpoint) {
                policies.insert(slot);
            } else {
                policies.remove(&slot);
            }
        }
    }
}
