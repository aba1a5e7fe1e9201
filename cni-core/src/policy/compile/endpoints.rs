//! Local endpoints and their programs. Never a rule: programs name chains.

use super::policies::Policies;
use super::slab::{Slab, Slot};
use crate::model::{Endpoint, EndpointId, InterfaceName};
use crate::policy::model::{Direction, Mode, Order, Policy, Tier, TierEnd, WorkloadId};
use crate::policy::program::{ChainId, DirectionProgram, EndpointProgram, TierProgram};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// An attachment of this node, as policy sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// Which.
    pub id: EndpointId,
    /// The host's end of its veth.
    pub host_interface: InterfaceName,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The pod's namespace and name; `None` for a container that is no pod.
    pub pod: Option<(Arc<str>, Arc<str>)>,
}

impl From<&Endpoint> for LocalEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let pod = endpoint.pod.as_ref();
        Self {
            id: endpoint.id.clone(),
            host_interface: endpoint.host_interface.clone(),
            addresses: endpoint.addresses.clone(),
            pod: pod.map(|pod| (pod.namespace.as_str().into(), pod.name.as_str().into())),
        }
    }
}

impl LocalEndpoint {
    pub(super) fn workload(&self) -> Option<WorkloadId> {
        let (namespace, name) = self.pod.as_ref()?;
        Some(WorkloadId::pod(namespace, name))
    }
}

/// An endpoint and what is about it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) endpoint: LocalEndpoint,
    /// What it is for selectors; `None` while nobody has told: it is closed.
    pub(super) identity: Option<Slot>,
    /// Policies that are about it.
    pub(super) policies: BTreeSet<Slot>,
}

/// All local endpoints.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    pub(super) known: Slab<Attached>,
    by_id: HashMap<EndpointId, Slot>,
    /// Endpoints by their pod, whether it is known or not.
    by_pod: HashMap<WorkloadId, BTreeSet<Slot>>,
    by_address: HashMap<IpAddr, Slot>,
    /// What engines were told.
    told: HashMap<EndpointId, EndpointProgram>,
    /// Endpoints whose program may have changed since.
    stirred: BTreeSet<EndpointId>,
}

/// News of endpoints.
#[derive(Debug, Default)]
pub(super) struct EndpointNews {
    pub(super) put: Vec<EndpointProgram>,
    pub(super) gone: Vec<EndpointId>,
}

impl Endpoints {
    pub(super) fn find(&self, id: &EndpointId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    /// Adds an endpoint that is not there.
    pub(super) fn insert(&mut self, endpoint: LocalEndpoint) -> Slot {
        let (id, pod, addresses) = (endpoint.id.clone(), endpoint.workload(), endpoint.addresses.clone());
        let slot = self.known.insert(Attached { endpoint, identity: None, policies: BTreeSet::new() });
        self.stirred.insert(id.clone());
        self.by_id.insert(id, slot);
        self.by_address.extend(addresses.into_iter().map(|address| (address, slot)));
        if let Some(pod) = pod {
            self.by_pod.entry(pod).or_default().insert(slot);
        }
        slot
    }

    /// Forgets an endpoint that no policy is about any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        let Some(attached) = self.known.remove(slot) else { return };
        if let Some(pod) = attached.endpoint.workload()
            && let Some(slots) = self.by_pod.get_mut(&pod)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_pod.remove(&pod);
            }
        }
        self.by_id.remove(&attached.endpoint.id);
        for address in &attached.endpoint.addresses {
            if self.by_address.get(address) == Some(&slot) {
                self.by_address.remove(address);
            }
        }
        self.stirred.insert(attached.endpoint.id);
    }

    /// The endpoint that has an address.
    pub(super) fn at(&self, address: IpAddr) -> Option<&LocalEndpoint> {
        self.by_address.get(&address).map(|slot| &self.known[*slot].endpoint)
    }

    /// The endpoints of a pod.
    pub(super) fn of(&self, pod: &WorkloadId) -> BTreeSet<Slot> {
        self.by_pod.get(pod).cloned().unwrap_or_default()
    }

    pub(super) fn stir(&mut self, slot: Slot) {
        self.stirred.insert(self.known[slot].endpoint.id.clone());
    }

    pub(super) fn stir_all(&mut self) {
        self.stirred.extend(self.by_id.keys().cloned());
    }

    pub(super) fn news(&mut self, policies: &Policies, tiers: &BTreeMap<Arc<str>, Tier>) -> EndpointNews {
        let mut news = EndpointNews::default();
        for id in std::mem::take(&mut self.stirred) {
            let Some(slot) = self.find(&id) else {
                if self.told.remove(&id).is_some() {
                    news.gone.push(id);
                }
                continue;
            };
            let program = self.known[slot].program(policies, tiers);
            if self.told.get(&id) != Some(&program) {
                self.told.insert(id, program.clone());
                news.put.push(program);
            }
        }
        news
    }
}

impl Attached {
    fn program(&self, policies: &Policies, tiers: &BTreeMap<Arc<str>, Tier>) -> EndpointProgram {
        let placed = self.policies.iter().map(|slot| Place::of(&policies.known[*slot].policy, tiers));
        let mut walked: Vec<Place<'_>> = placed.collect();
        walked.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        let direction = |direction| match self.identity {
            Some(_) => program(&walked, direction),
            None => closed(),
        };
        EndpointProgram {
            endpoint: self.endpoint.id.clone(),
            host_interface: self.endpoint.host_interface.clone(),
            addresses: self.endpoint.addresses.clone(),
            ingress: direction(Direction::Ingress),
            egress: direction(Direction::Egress),
        }
    }
}

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

/// Of an endpoint that nobody has told the labels of: which policies are about it is not known, so nothing passes.
fn closed() -> DirectionProgram {
    let tier = TierProgram { tier: Tier::CLOSED.into(), chains: Vec::new(), end: TierEnd::Deny };
    DirectionProgram { enforced: vec![tier], staged: None }
}

fn program(walked: &[Place<'_>], direction: Direction) -> DirectionProgram {
    let is_staged = |Place { policy, .. }: &Place<'_>| policy.mode == Mode::Staged && policy.rules(direction).is_some();
    let staged = walked.iter().any(is_staged).then(|| tier_programs(walked, direction, Mode::Staged));
    DirectionProgram { enforced: tier_programs(walked, direction, Mode::Enforced), staged }
}

/// The tiers; `mode` says whether staged policies count.
fn tier_programs(walked: &[Place<'_>], direction: Direction, mode: Mode) -> Vec<TierProgram> {
    let mut programs: Vec<TierProgram> = Vec::new();
    for Place { end, policy, .. } in walked {
        let counts = policy.mode == Mode::Enforced || mode == Mode::Staged;
        let Some(rules) = policy.rules(direction).filter(|_| counts) else { continue };
        if programs.last().is_none_or(|program| program.tier != policy.tier) {
            programs.push(TierProgram { tier: policy.tier.clone(), chains: Vec::new(), end: TierEnd::Pass });
        }
        let program = programs.last_mut().expect("one was there or has been pushed");
        program.chains.push(ChainId { policy: policy.id.clone(), direction });
        if rules.isolates && *end == TierEnd::Deny {
            program.end = TierEnd::Deny;
        }
    }
    programs
}
