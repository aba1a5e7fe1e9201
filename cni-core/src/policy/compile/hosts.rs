//! The node itself and its host endpoints, and the one program of them all. Never a pod.

use super::endpoints::Attached;
use super::policies::Policies;
use super::slab::Slot;
use super::walk::Walk;
use crate::model::InterfaceName;
use crate::policy::failsafe::Failsafe;
use crate::policy::model::{
    Direction, HostInterfaces, HostPart, Policy, Stage, Tier, TierEnd, Workload, WorkloadId, WorkloadKind,
};
use crate::policy::program::{
    BothWays, Chain, ChainId, DirectionProgram, HostEndpointProgram, HostInterface, HostProgram, TierProgram,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The node, or a host endpoint of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostMember {
    pub(super) id: WorkloadId,
    pub(super) addresses: Vec<IpAddr>,
    /// `None`: the node.
    part: Option<HostPart>,
}

impl HostMember {
    /// What a workload is for the node of this name; `None` when it is no part of it.
    pub(super) fn of(workload: &Workload, node: &str) -> Option<Self> {
        let is_host = matches!(workload.identity.kind, WorkloadKind::Node | WorkloadKind::HostEndpoint);
        let is_ours = is_host && workload.node.as_deref() == Some(node);
        is_ours.then(|| Self {
            id: workload.id.clone(),
            addresses: workload.addresses.clone(),
            part: workload.host.clone().filter(|_| workload.identity.kind == WorkloadKind::HostEndpoint),
        })
    }

    fn is_open(&self) -> bool {
        self.part.as_ref().is_none_or(|part| part.open)
    }
}

/// What is known of a node's own interfaces, and what engines were told of the node.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    pub(super) failsafe: Failsafe,
    /// The addresses of each interface.
    interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>>,
    stirred: bool,
    told: Option<HostProgram>,
    told_failsafe: BTreeMap<ChainId, Chain>,
}

/// A host endpoint of this node that is not enforced, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// Its name.
    pub name: Arc<str>,
    /// Why.
    pub reason: IdleReason,
}

/// Why a host endpoint is not enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdleReason {
    /// No interface has one of its addresses.
    #[error("no interface of the node has one of its expectedIPs")]
    NoInterface,
    /// Another one is for the same interfaces.
    #[error("host endpoint {other} is for the same interface and comes first")]
    Taken {
        /// That one's name.
        other: Arc<str>,
    },
}

/// News of the node.
#[derive(Debug, Default)]
pub(super) struct HostNews {
    pub(super) put: Option<HostProgram>,
    pub(super) gone: bool,
    pub(super) chains: Vec<Chain>,
    pub(super) chains_gone: Vec<ChainId>,
}

impl Hosts {
    pub(super) fn stir(&mut self) {
        self.stirred = true;
    }

    pub(super) fn set_interfaces(&mut self, interfaces: BTreeMap<InterfaceName, BTreeSet<IpAddr>>) {
        if self.interfaces != interfaces {
            self.interfaces = interfaces;
            self.stirred = true;
        }
    }

    pub(super) fn told(&self) -> Option<&HostProgram> {
        self.told.as_ref()
    }

    pub(super) fn news(
        &mut self,
        members: &[&Attached],
        policies: &Policies,
        tiers: &BTreeMap<Arc<str>, Tier>,
    ) -> HostNews {
        if !std::mem::take(&mut self.stirred) {
            return HostNews::default();
        }
        let program = self.program(members, policies, tiers);
        let mut chains = BTreeMap::new();
        for tier in program.iter().flat_map(tiers_of).filter(|tier| *tier.tier == *Failsafe::TIER) {
            for id in &tier.chains {
                let stage = if id.policy.part == 0 { Stage::Tracked } else { Stage::Untracked };
                chains.insert(id.clone(), self.failsafe.chain(stage, id.direction));
            }
        }
        let news = HostNews {
            gone: program.is_none() && self.told.is_some(),
            put: program.clone().filter(|program| self.told.as_ref() != Some(program)),
            chains: chains
                .iter()
                .filter(|(id, chain)| self.told_failsafe.get(id) != Some(chain))
                .map(|(_, chain)| chain.clone())
                .collect(),
            chains_gone: self.told_failsafe.keys().filter(|id| !chains.contains_key(id)).cloned().collect(),
        };
        (self.told, self.told_failsafe) = (program, chains);
        news
    }

    /// Which host endpoint each interface has; the others, and why not.
    fn placed<'a>(&self, members: &[&'a Attached]) -> (BTreeMap<HostInterface, &'a Attached>, Vec<Idle>) {
        let mut placed: BTreeMap<HostInterface, &Attached> = BTreeMap::new();
        let mut idle = Vec::new();
        let mut endpoints: Vec<_> =
            members.iter().filter_map(|one| Some((one.host()?.part.as_ref()?, one.host()?, *one))).collect();
        // One that names its interface comes before one that is found by address; of several the first by name.
        endpoints.sort_by(|(a, one, _), (b, other, _)| (&a.interfaces, &one.id).cmp(&(&b.interfaces, &other.id)));
        for (part, member, attached) in endpoints {
            let interfaces: Vec<HostInterface> = match &part.interfaces {
                HostInterfaces::All => vec![HostInterface::Others],
                HostInterfaces::Named(name) => InterfaceName::new(name).map(HostInterface::Named).into_iter().collect(),
                HostInterfaces::ByAddress => {
                    let has = |addresses: &BTreeSet<IpAddr>| member.addresses.iter().any(|one| addresses.contains(one));
                    let found = self.interfaces.iter().filter(|(_, addresses)| has(addresses));
                    found.map(|(name, _)| HostInterface::Named(name.clone())).collect()
                }
            };
            let name = member.id.name.clone();
            if interfaces.is_empty() {
                idle.push(Idle { name, reason: IdleReason::NoInterface });
                continue;
            }
            let mut other = None;
            let mut enforced = false;
            for interface in interfaces {
                match placed.get(&interface).and_then(|taken| taken.host()) {
                    Some(taken) => other = Some(taken.id.name.clone()),
                    None => {
                        placed.insert(interface, attached);
                        enforced = true;
                    }
                }
            }
            if let Some(other) = other.filter(|_| !enforced) {
                idle.push(Idle { name, reason: IdleReason::Taken { other } });
            }
        }
        (placed, idle)
    }

    pub(super) fn idle(&self, members: &[&Attached]) -> Vec<Idle> {
        self.placed(members).1
    }

    fn program(
        &self,
        members: &[&Attached],
        policies: &Policies,
        tiers: &BTreeMap<Arc<str>, Tier>,
    ) -> Option<HostProgram> {
        let none = BTreeSet::new();
        let node = members.iter().find(|one| one.host().is_some_and(|host| host.part.is_none()));
        let of_node = node.map_or(&none, |node| &node.policies);
        let (mut placed, _) = self.placed(members);
        if let Some(node) = node {
            placed.entry(HostInterface::Others).or_insert(node);
            placed.insert(HostInterface::Pods, node);
        }
        let endpoint = |(interface, attached): (HostInterface, &Attached)| {
            let about: BTreeSet<Slot> = attached.policies.union(of_node).copied().collect();
            let part = |counts: &dyn Fn(&Policy) -> bool| {
                let walk = Walk::of(&about, policies, tiers, counts);
                BothWays { ingress: walk.program(Direction::Ingress), egress: walk.program(Direction::Egress) }
            };
            let host = attached.host()?;
            let mut local = part(&|policy| policy.stage == Stage::Tracked);
            for (direction, program) in
                [(Direction::Ingress, &mut local.ingress), (Direction::Egress, &mut local.egress)]
            {
                if !host.is_open() {
                    close(program);
                }
                if interface != HostInterface::Pods {
                    keep_open(program, Stage::Tracked, direction);
                }
            }
            // What passes through is neither closed for want of a profile nor kept open; what pods send is their own policies'.
            let forwarded = match interface {
                HostInterface::Pods => BothWays::default(),
                _ => part(&|policy| policy.stage == Stage::Tracked && policy.on_forward),
            };
            let (mut untracked, mut before_nat) = (BothWays::default(), DirectionProgram::default());
            if interface != HostInterface::Pods {
                untracked = part(&|policy| policy.stage == Stage::Untracked);
                before_nat = part(&|policy| policy.stage == Stage::BeforeNat).ingress;
                keep_open(&mut untracked.ingress, Stage::Untracked, Direction::Ingress);
                keep_open(&mut untracked.egress, Stage::Untracked, Direction::Egress);
                keep_open(&mut before_nat, Stage::BeforeNat, Direction::Ingress);
            }
            let name = host.id.to_string().into();
            Some(HostEndpointProgram { name, interface, local, forwarded, untracked, before_nat })
        };
        let endpoints: Vec<HostEndpointProgram> = placed.into_iter().filter_map(endpoint).collect();
        (!endpoints.iter().all(HostEndpointProgram::is_open)).then_some(HostProgram { endpoints })
    }
}

fn tiers_of(program: &HostProgram) -> impl Iterator<Item = &TierProgram> {
    let directions = program.endpoints.iter().flat_map(HostEndpointProgram::directions);
    directions.flat_map(|direction| direction.enforced.iter().chain(direction.staged.iter().flatten()))
}

/// What comes to the end is denied: no profile allows it.
fn close(program: &mut DirectionProgram) {
    let end = || TierProgram { tier: HostPart::NO_PROFILE.into(), chains: Vec::new(), end: TierEnd::Deny };
    program.enforced.push(end());
    program.staged.iter_mut().for_each(|tiers| tiers.push(end()));
}

/// The failsafe ports come first, where anything may be denied.
fn keep_open(program: &mut DirectionProgram, stage: Stage, direction: Direction) {
    let first = || TierProgram {
        tier: Failsafe::TIER.into(),
        chains: vec![Failsafe::chain_id(stage, direction)],
        end: TierEnd::Pass,
    };
    if !program.enforced.is_empty() {
        program.enforced.insert(0, first());
    }
    program.staged.iter_mut().for_each(|tiers| tiers.insert(0, first()));
}
