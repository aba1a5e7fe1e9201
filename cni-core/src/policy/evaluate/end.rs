//! The two ends of a connection as workloads and addresses. Never a policy.

use super::{Connection, Evaluator, Party, UnknownParty};
use crate::policy::model::{Direction, Family, HostInterfaces, Workload, WorkloadKind};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A labelled set of prefixes.
#[derive(Debug)]
pub(super) struct Group<'w> {
    pub(super) workload: &'w Workload,
}

/// One end.
#[derive(Debug)]
pub(super) struct End<'w> {
    /// The workloads that have the address, for selectors and names of ports: usually one, none outside the cluster; a node
    /// and its host endpoint are two.
    pub(super) workloads: Vec<&'w Workload>,
    /// Whom policies are about: the same, but of hosts the node and the host endpoint that stands for the way.
    subjects: Vec<&'w Workload>,
    /// The address, where it has one.
    pub(super) address: Option<IpAddr>,
    /// The node that it is on.
    node: Option<Arc<str>>,
    /// It is the node itself, or a pod in the node's network.
    host: bool,
}

/// Both.
#[derive(Debug)]
pub(super) struct Ends<'w> {
    pub(super) source: End<'w>,
    pub(super) destination: End<'w>,
}

impl<'w> Ends<'w> {
    /// Whom policies of this direction are about. Host endpoints stand for the node's interfaces, not for those of its pods.
    pub(super) fn subject(&self, direction: Direction) -> Vec<&'w Workload> {
        let (subject, _) = self.by_subject(direction);
        let among_pods = self.between_node_and_own_pod();
        let counts = |workload: &&&Workload| !(among_pods && workload.identity.kind == WorkloadKind::HostEndpoint);
        subject.subjects.iter().filter(counts).copied().collect()
    }

    fn same_node(&self) -> bool {
        self.source.node.is_some() && self.source.node == self.destination.node
    }

    /// Whether it stays within one node, between the node itself and a pod of it.
    pub(super) fn between_node_and_own_pod(&self) -> bool {
        self.same_node() && self.source.host != self.destination.host
    }

    /// Whether a host talks to itself.
    pub(super) fn same_host(&self) -> bool {
        self.same_node() && self.source.host && self.destination.host
    }

    fn by_subject(&self, direction: Direction) -> (&End<'w>, &End<'w>) {
        match direction {
            Direction::Ingress => (&self.destination, &self.source),
            Direction::Egress => (&self.source, &self.destination),
        }
    }

    pub(super) fn same_pod(&self) -> bool {
        let is_pod = |workload: &&Workload| workload.identity.kind == WorkloadKind::Pod;
        let pod = |end: &End<'w>| end.workloads.iter().find(|workload| is_pod(workload)).map(|workload| &workload.id);
        pod(&self.source).is_some() && pod(&self.source) == pod(&self.destination)
    }

    /// Whether the other end is the node that the subject runs on.
    pub(super) fn other_is_own_node(&self, direction: Direction) -> bool {
        let (subject, other) = self.by_subject(direction);
        other.host && !subject.host && subject.node.is_some() && subject.node == other.node
    }

    pub(super) fn family(&self) -> Option<Family> {
        let address = self.source.address.or(self.destination.address)?;
        Some(if address.is_ipv4() { Family::V4 } else { Family::V6 })
    }
}

impl<'w> Evaluator<'w> {
    /// Resolves both ends, with addresses of one family where they have such.
    pub(super) fn ends(&self, connection: &Connection) -> Result<Ends<'w>, UnknownParty> {
        let (from, to) = (self.addresses(&connection.from)?, self.addresses(&connection.to)?);
        let pair = from.iter().find_map(|source| {
            let same = |address: &&IpAddr| address.is_ipv4() == source.is_ipv4();
            Some((*source, *to.iter().find(same)?))
        });
        let (source, destination) = match pair {
            Some((source, destination)) => (Some(source), Some(destination)),
            None => (from.first().copied(), to.first().copied()),
        };
        Ok(Ends { source: self.end(&connection.from, source)?, destination: self.end(&connection.to, destination)? })
    }

    fn addresses(&self, party: &Party) -> Result<Vec<IpAddr>, UnknownParty> {
        match party {
            Party::Address(address) => Ok(vec![*address]),
            Party::Workload(id) => Ok(self.workload(id)?.addresses.clone()),
        }
    }

    fn end(&self, party: &Party, address: Option<IpAddr>) -> Result<End<'w>, UnknownParty> {
        let workloads = match party {
            Party::Address(address) => self.holders.get(address).cloned().unwrap_or_default(),
            Party::Workload(id) => {
                let workload = self.workload(id)?;
                if workload.host_network {
                    return Ok(self.in_host_network(workload, address));
                }
                let beside = address.filter(|_| workload.identity.kind == WorkloadKind::Node);
                // A host endpoint of the same address is the same party.
                beside.and_then(|address| self.holders.get(&address)).cloned().unwrap_or_else(|| vec![workload])
            }
        };
        let node = workloads.iter().find_map(|workload| workload.node.clone());
        let is_host =
            |workload: &&Workload| matches!(workload.identity.kind, WorkloadKind::Node | WorkloadKind::HostEndpoint);
        let host = workloads.iter().any(is_host);
        let subjects = match &node {
            Some(node) if host => self.host_subjects(node, address),
            _ => workloads.clone(),
        };
        Ok(End { workloads, subjects, address, node, host })
    }

    /// The node, and its host endpoint: the one with the address, else the one of all interfaces. Of several the first by
    /// name; one that names its interface comes before one that has only addresses.
    fn host_subjects(&self, node: &str, address: Option<IpAddr>) -> Vec<&'w Workload> {
        let members = self.hosts.get(node).map(Vec::as_slice).unwrap_or_default();
        let all =
            |workload: &&&Workload| workload.host.as_ref().is_some_and(|host| host.interfaces == HostInterfaces::All);
        let endpoints = members.iter().filter(|workload| workload.host.is_some());
        let has = |workload: &&&Workload| address.is_some_and(|address| workload.addresses.contains(&address));
        let own = endpoints.clone().filter(|workload| !all(workload)).filter(has);
        let own = own.min_by_key(|workload| (workload.host.as_ref().map(|host| &host.interfaces), &workload.id));
        let endpoint = own.or_else(|| endpoints.filter(all).min_by_key(|workload| &workload.id));
        let itself = members.iter().filter(|workload| workload.identity.kind == WorkloadKind::Node);
        itself.chain(endpoint).copied().collect()
    }

    /// A pod in its node's network is the node, for policies.
    fn in_host_network(&self, pod: &'w Workload, address: Option<IpAddr>) -> End<'w> {
        let is_node = |workload: &&Workload| {
            workload.identity.kind == WorkloadKind::Node && Some(&*workload.id.name) == pod.node.as_deref()
        };
        let node = self.world.workloads.values().map(|workload| &**workload).find(|workload| is_node(workload));
        let subjects = pod.node.as_deref().map(|node| self.host_subjects(node, address)).unwrap_or_default();
        End { workloads: node.into_iter().collect(), subjects, address, node: pod.node.clone(), host: true }
    }

    /// The groups that an address is in.
    pub(super) fn groups_of(&self, address: IpAddr) -> Rc<Vec<usize>> {
        let find = || {
            let holds = |group: &Group<'w>| group.workload.networks.iter().any(|network| network.contains(&address));
            let groups = self.groups.iter().enumerate().filter(|(_, group)| holds(group));
            Rc::new(groups.map(|(index, _)| index).collect())
        };
        self.groups_of.borrow_mut().entry(address).or_insert_with(find).clone()
    }
}
