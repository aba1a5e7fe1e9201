//! Local endpoints and their programs. Never a rule: programs name chains.

use super::hosts::{HostMember, HostNews, Hosts, Idle};
use super::policies::Policies;
use super::slab::{Slab, Slot};
use super::walk::Walk;
use crate::model::{Endpoint, EndpointId, InterfaceName};
use crate::policy::model::{Direction, Stage, Tier, TierEnd, WorkloadId};
use crate::policy::program::{DirectionProgram, EndpointProgram, TierProgram};
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

/// What policies may be about here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// An attachment.
    Endpoint(LocalEndpoint),
    /// The node, or a host endpoint of it.
    Host(HostMember),
}

impl What {
    pub(super) fn workload(&self) -> Option<WorkloadId> {
        match self {
            Self::Endpoint(endpoint) => endpoint.workload(),
            Self::Host(member) => Some(member.id.clone()),
        }
    }

    pub(super) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Endpoint(endpoint) => &endpoint.addresses,
            Self::Host(member) => &member.addresses,
        }
    }
}

/// An endpoint and what is about it.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) what: What,
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
    /// Endpoints by their pod, whether it is known or not; the node and its host endpoints by themselves.
    by_workload: HashMap<WorkloadId, BTreeSet<Slot>>,
    by_address: HashMap<IpAddr, Slot>,
    /// Those that are no attachments.
    members: BTreeSet<Slot>,
    pub(super) hosts: Hosts,
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
    pub(super) fn insert(&mut self, what: What) -> Slot {
        let workload = what.workload();
        let slot = self.known.insert(Attached { what, identity: None, policies: BTreeSet::new() });
        match &self.known[slot].what {
            What::Endpoint(endpoint) => {
                self.by_id.insert(endpoint.id.clone(), slot);
                self.by_address.extend(endpoint.addresses.iter().map(|address| (*address, slot)));
            }
            What::Host(_) => _ = self.members.insert(slot),
        }
        self.stir(slot);
        if let Some(workload) = workload {
            self.by_workload.entry(workload).or_default().insert(slot);
        }
        slot
    }

    /// Forgets an endpoint that no policy is about any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.stir(slot);
        let Some(attached) = self.known.remove(slot) else { return };
        if let Some(workload) = attached.what.workload()
            && let Some(slots) = self.by_workload.get_mut(&workload)
        {
            slots.remove(&slot);
            if slots.is_empty() {
                self.by_workload.remove(&workload);
            }
        }
        match &attached.what {
            What::Endpoint(endpoint) => {
                self.by_id.remove(&endpoint.id);
                for address in &endpoint.addresses {
                    if self.by_address.get(address) == Some(&slot) {
                        self.by_address.remove(address);
                    }
                }
            }
            What::Host(_) => _ = self.members.remove(&slot),
        }
    }

    /// The endpoint that has an address.
    pub(super) fn at(&self, address: IpAddr) -> Option<&LocalEndpoint> {
        match &self.known[*self.by_address.get(&address)?].what {
            What::Endpoint(endpoint) => Some(endpoint),
            What::Host(_) => None,
        }
    }

    /// The endpoints of a pod; of the node or a host endpoint, itself.
    pub(super) fn of(&self, workload: &WorkloadId) -> BTreeSet<Slot> {
        self.by_workload.get(workload).cloned().unwrap_or_default()
    }

    pub(super) fn stir(&mut self, slot: Slot) {
        match &self.known[slot].what {
            What::Endpoint(endpoint) => _ = self.stirred.insert(endpoint.id.clone()),
            What::Host(_) => self.hosts.stir(),
        }
    }

    pub(super) fn stir_all(&mut self) {
        self.stirred.extend(self.by_id.keys().cloned());
        self.hosts.stir();
    }

    pub(super) fn host_news(&mut self, policies: &Policies, tiers: &BTreeMap<Arc<str>, Tier>) -> HostNews {
        let members: Vec<&Attached> = self.members.iter().map(|slot| &self.known[*slot]).collect();
        self.hosts.news(&members, policies, tiers)
    }

    /// Host endpoints that are not enforced.
    pub(super) fn idle(&self) -> Vec<Idle> {
        let members: Vec<&Attached> = self.members.iter().map(|slot| &self.known[*slot]).collect();
        self.hosts.idle(&members)
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
            let Some(program) = self.known[slot].program(policies, tiers) else { continue };
            if self.told.get(&id) != Some(&program) {
                self.told.insert(id, program.clone());
                news.put.push(program);
            }
        }
        news
    }
}

impl Attached {
    /// The node or host endpoint, if it is one.
    pub(super) fn host(&self) -> Option<&HostMember> {
        match &self.what {
            What::Host(member) => Some(member),
            What::Endpoint(_) => None,
        }
    }

    fn program(&self, policies: &Policies, tiers: &BTreeMap<Arc<str>, Tier>) -> Option<EndpointProgram> {
        let What::Endpoint(endpoint) = &self.what else { return None };
        let walk = Walk::of(&self.policies, policies, tiers, |policy| policy.stage == Stage::Tracked);
        let direction = |direction| match self.identity {
            Some(_) => walk.program(direction),
            None => closed(),
        };
        Some(EndpointProgram {
            endpoint: endpoint.id.clone(),
            host_interface: endpoint.host_interface.clone(),
            addresses: endpoint.addresses.clone(),
            ingress: direction(Direction::Ingress),
            egress: direction(Direction::Egress),
        })
    }
}

/// Of an endpoint that nobody has told the labels of: which policies are about it is not known, so nothing passes.
fn closed() -> DirectionProgram {
    let tier = TierProgram { tier: Tier::CLOSED.into(), chains: Vec::new(), end: TierEnd::Deny };
    DirectionProgram { enforced: vec![tier], staged: None }
}
