//! What the policies in force say about one connection, and why. Never by way of compiled programs: this is the oracle that
//! engines are compared with, so it reads the model as it is written.
//!
//! ```
//! use cni_core::policy::evaluate::{Connection, Evaluator, Party};
//! use cni_core::policy::model::Protocol;
//! use cni_core::policy::world::World;
//!
//! let world = World::default();
//! let connection = Connection::new(
//!     Party::Address("192.0.2.1".parse()?),
//!     Party::Address("192.0.2.2".parse()?),
//!     Protocol::TCP,
//!     80,
//! );
//! assert!(Evaluator::new(&world).decide(&connection)?.allowed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod classes;
mod connection;
mod end;
mod matching;
mod outcome;
mod question;
#[cfg(test)]
mod tests;
mod walk;

pub use classes::{TrafficClass, outside_addresses, traffic_classes};
pub use connection::{Connection, Party, UnknownParty};
pub use outcome::{Decision, Exemption, Miss, Outcome, Step, Trace, Verdict};
pub use question::{InvalidParty, NoSuchPort, PortChoice, Question};

use super::model::{
    Attribute, Direction, Mode, Policy, Rules, Selector, Stage, Tier, Workload, WorkloadId, WorkloadKind,
};
use super::world::World;
use end::{Ends, Group};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A policy that is about an endpoint, with its rules in the direction asked for.
#[derive(Debug, Clone, Copy)]
struct Applied<'w> {
    policy: &'w Policy,
    rules: &'w Rules,
}

/// A tier as it concerns an endpoint: its policies in order.
#[derive(Debug)]
struct AppliedTier<'w> {
    tier: &'w Tier,
    stage: Stage,
    policies: Vec<Applied<'w>>,
}

type Chain<'w> = Rc<Vec<AppliedTier<'w>>>;

/// Answers for one state of the world. Remembers which policies are about whom, so that many questions are cheap.
#[derive(Debug)]
pub struct Evaluator<'w> {
    world: &'w World,
    /// All policies in the order in which they are walked.
    tiers: Vec<AppliedTier<'w>>,
    /// Places of policies in `tiers`, by the one namespace that their subjects are in; `None`: of any, or of none.
    by_namespace: HashMap<Option<&'w str>, Vec<(usize, usize)>>,
    /// Pods, nodes and host endpoints by address. A pod in its node's network is none of these.
    holders: HashMap<IpAddr, Vec<&'w Workload>>,
    /// Nodes and host endpoints by the name of their node.
    hosts: HashMap<&'w str, Vec<&'w Workload>>,
    /// Groups, each with its prefixes.
    groups: Vec<Group<'w>>,
    /// Which groups hold an address.
    groups_of: RefCell<HashMap<IpAddr, Rc<Vec<usize>>>>,
    /// The chains of identities that were asked for, by the address of the shared identity.
    chains: RefCell<HashMap<(usize, Direction), Chain<'w>>>,
}

/// The namespace without which a selector never holds, if it names one.
fn namespace_of(selector: &Selector) -> Option<&str> {
    match selector {
        Selector::Is(Attribute::Namespace, namespace) => Some(namespace),
        Selector::All(all) => all.iter().find_map(namespace_of),
        _ => None,
    }
}

impl<'w> Evaluator<'w> {
    /// An evaluator of this world.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        let mut policies: Vec<&Policy> = world.policies.values().map(|policy| &**policy).collect();
        policies.sort_by(|a, b| (a.order, &a.id).cmp(&(b.order, &b.id)));
        let mut by_tier: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
        for policy in policies {
            by_tier.entry(&policy.tier).or_default().push(policy);
        }
        let mut tiers: Vec<&Tier> = world.tiers.values().collect();
        tiers.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        let applied = |policy| Applied { policy, rules: const { &Rules { rules: Vec::new(), isolates: false } } };
        let tiers = tiers.into_iter().filter_map(|tier| {
            let policies = by_tier.remove(&*tier.name)?;
            Some(AppliedTier { tier, stage: Stage::Tracked, policies: policies.into_iter().map(applied).collect() })
        });
        let tiers: Vec<AppliedTier<'w>> = tiers.collect();
        let mut by_namespace: HashMap<Option<&str>, Vec<(usize, usize)>> = HashMap::new();
        for (tier, AppliedTier { policies, .. }) in tiers.iter().enumerate() {
            for (place, Applied { policy, .. }) in policies.iter().enumerate() {
                by_namespace.entry(namespace_of(&policy.subject.selector)).or_default().push((tier, place));
            }
        }
        let mut holders: HashMap<IpAddr, Vec<&Workload>> = HashMap::new();
        let mut groups = Vec::new();
        let mut hosts: HashMap<&str, Vec<&Workload>> = HashMap::new();
        for workload in world.workloads.values() {
            if let (WorkloadKind::Node | WorkloadKind::HostEndpoint, Some(node)) =
                (workload.identity.kind, &workload.node)
            {
                hosts.entry(node).or_default().push(workload);
            }
            if workload.identity.kind.is_group() {
                groups.push(Group { workload });
            } else if !workload.host_network {
                for address in &workload.addresses {
                    holders.entry(*address).or_default().push(workload);
                }
            }
        }
        let (groups_of, chains) = (RefCell::default(), RefCell::default());
        Self { world, tiers, by_namespace, holders, hosts, groups, groups_of, chains }
    }

    /// Whether the connection may be made, and what decided.
    ///
    /// # Errors
    /// [`UnknownParty`]: there is no such workload.
    pub fn decide(&self, connection: &Connection) -> Result<Outcome, UnknownParty> {
        self.run(connection, false)
    }

    /// As [`decide`](Self::decide), with every rule that was looked at.
    ///
    /// # Errors
    /// As for [`decide`](Self::decide).
    pub fn explain(&self, connection: &Connection) -> Result<Outcome, UnknownParty> {
        self.run(connection, true)
    }

    fn run(&self, connection: &Connection, with_steps: bool) -> Result<Outcome, UnknownParty> {
        let ends = self.ends(connection)?;
        let egress = self.trace(connection, &ends, Direction::Egress, with_steps);
        let ingress = self.trace(connection, &ends, Direction::Ingress, with_steps);
        Ok(Outcome { egress, ingress })
    }

    /// The workload that a party names, as far as policies can be about it.
    fn workload(&self, id: &WorkloadId) -> Result<&'w Workload, UnknownParty> {
        let found = self.world.workloads.get(id).map(|workload| &**workload);
        found.ok_or_else(|| UnknownParty { id: id.clone() })
    }

    /// The policies about an end in a direction, tier by tier.
    fn chain(&self, ends: &Ends<'w>, direction: Direction) -> Chain<'w> {
        let subjects = ends.subject(direction);
        let [one] = subjects[..] else { return self.chain_of(&subjects, direction) };
        // Workloads of a world share its identities, which live as long as the world: their address is their name.
        let key = (Arc::as_ptr(&one.identity).addr(), direction);
        if let Some(chain) = self.chains.borrow().get(&key) {
            return chain.clone();
        }
        let chain = self.chain_of(&subjects, direction);
        self.chains.borrow_mut().insert(key, chain.clone());
        chain
    }

    fn chain_of(&self, subjects: &[&'w Workload], direction: Direction) -> Chain<'w> {
        let is_about = |policy: &Policy| {
            subjects.iter().any(|workload| {
                let identity = &workload.identity;
                policy.subject.kinds.has(identity.kind) && policy.subject.selector.matches(identity)
            })
        };
        let namespaces: BTreeSet<Option<&str>> =
            subjects.iter().map(|workload| workload.identity.namespace.as_deref()).chain([None]).collect();
        let candidates = namespaces.iter().filter_map(|namespace| self.by_namespace.get(namespace)).flatten();
        let places: BTreeSet<(usize, usize)> = candidates.copied().collect();
        let mut tiers: Vec<AppliedTier<'w>> = Vec::new();
        for stage in [Stage::Untracked, Stage::BeforeNat, Stage::Tracked] {
            for (tier, place) in &places {
                let AppliedTier { tier, policies, .. } = &self.tiers[*tier];
                let policy = policies[*place].policy;
                let Some(rules) = policy.rules(direction).filter(|_| policy.stage == stage && is_about(policy)) else {
                    continue;
                };
                let applied = Applied { policy, rules };
                match tiers.last_mut() {
                    Some(last) if last.tier.name == tier.name && last.stage == stage => last.policies.push(applied),
                    _ => tiers.push(AppliedTier { tier, stage, policies: vec![applied] }),
                }
            }
        }
        Rc::new(tiers)
    }

    /// Policies that are about nobody in this world: perhaps a misspelt label.
    #[must_use]
    pub fn idle(&self) -> Vec<&'w Policy> {
        let subjects = || self.world.workloads.values().filter(|workload| !workload.host_network);
        let about_nobody = |policy: &&Policy| {
            !subjects().any(|workload| {
                let identity = &workload.identity;
                policy.subject.kinds.has(identity.kind) && policy.subject.selector.matches(identity)
            })
        };
        self.tiers.iter().flat_map(|tier| &tier.policies).map(|applied| applied.policy).filter(about_nobody).collect()
    }

    fn trace(&self, connection: &Connection, ends: &Ends<'w>, direction: Direction, with_steps: bool) -> Trace {
        let subjects = ends.subject(direction);
        if subjects.is_empty() {
            return Trace::exempt(Exemption::NoEndpoint);
        }
        if ends.same_pod() {
            return Trace::exempt(Exemption::SameEndpoint);
        }
        if ends.same_host() {
            return Trace::exempt(Exemption::SameHost);
        }
        let is_pod = subjects.iter().all(|workload| workload.identity.kind == WorkloadKind::Pod);
        if direction == Direction::Ingress && is_pod && ends.other_is_own_node(direction) {
            return Trace::exempt(Exemption::OwnNode);
        }
        let chain = self.chain(ends, direction);
        let closed = subjects.iter().any(|workload| workload.host.as_ref().is_some_and(|host| !host.open));
        let may_deny = closed || !chain.is_empty();
        let port = connection.destination_port;
        if !is_pod
            && may_deny
            && !ends.between_node_and_own_pod()
            && self.world.failsafe.has(direction, connection.protocol, port)
        {
            return Trace::exempt(Exemption::Failsafe);
        }
        let opposite = if direction == Direction::Ingress { Direction::Egress } else { Direction::Ingress };
        // Where connections are not tracked, answers of failsafe ports are left to the later stages.
        let answers = self.world.failsafe.has(opposite, connection.protocol, connection.source_port);
        let is_asked = |tier: &&AppliedTier<'w>| !(answers && tier.stage == Stage::Untracked);
        let chain: Vec<&AppliedTier<'w>> = chain.iter().filter(is_asked).collect();
        let mut steps = with_steps.then(Vec::new);
        let at_the_end = |(verdict, decision)| match decision {
            Decision::Default if closed => (Verdict::Deny, Decision::NoProfile),
            _ => (verdict, decision),
        };
        let (verdict, decision) =
            at_the_end(self.walk(&chain, connection, ends, direction, Mode::Enforced, steps.as_mut()));
        let is_staged = |applied: &Applied<'_>| applied.policy.mode == Mode::Staged;
        let staged = chain.iter().flat_map(|tier| &tier.policies).any(is_staged);
        let staged = staged.then(|| at_the_end(self.walk(&chain, connection, ends, direction, Mode::Staged, None)));
        Trace { verdict, decision, steps: steps.unwrap_or_default(), staged }
    }
}
