//! What a service's addresses depend on besides its own object: nodes, the API server, pods. Never a service itself.

use super::super::settings::ServiceSettings;
use crate::model::ServiceName;
use crate::store::resources::Node;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label with a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    addresses: BTreeSet<IpAddr>,
    zone: Option<Arc<str>>,
}

/// What changed with a node.
#[derive(Debug, Default)]
pub(super) struct NodeChange {
    /// Addresses that are a node's now, or are no longer.
    pub(super) addresses: Vec<IpAddr>,
    /// The addresses of our own node are others.
    pub(super) own_addresses: bool,
    /// Our zone is another.
    pub(super) own_zone: bool,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) settings: ServiceSettings,
    /// Our node's name.
    pub(super) own: Arc<str>,
    /// Where pods have addresses; empty: nobody said.
    pub(super) pods: Vec<IpNet>,
    /// Where the API server is.
    pub(super) api_server: BTreeSet<IpAddr>,
    /// Addresses of load balancers, as the record has them.
    pub(super) given: BTreeMap<ServiceName, Vec<IpAddr>>,
    nodes: BTreeMap<Arc<str>, Facts>,
    /// How many nodes have an address.
    holders: BTreeMap<IpAddr, usize>,
}

impl Surroundings {
    pub(super) fn new(own: &str, settings: ServiceSettings) -> Self {
        Self {
            settings,
            own: own.into(),
            pods: Vec::new(),
            api_server: BTreeSet::new(),
            given: BTreeMap::new(),
            nodes: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    /// A node is there, or is this now; `None`: it is gone.
    pub(super) fn set_node(&mut self, name: &str, node: Option<&Node>) -> NodeChange {
        let new = node.map(|node| {
            let underlay = node.v4.map(IpAddr::from).into_iter().chain(node.v6.map(IpAddr::from));
            let addresses = underlay.chain(node.addresses.iter().map(|found| found.address)).collect();
            Facts { addresses, zone: node.labels.get(ZONE).map(|zone| zone.as_str().into()) }
        });
        let old = self.nodes.get(name).cloned().unwrap_or_default();
        match &new {
            Some(facts) => drop(self.nodes.insert(name.into(), facts.clone())),
            None => drop(self.nodes.remove(name)),
        }
        let new = new.unwrap_or_default();
        for address in new.addresses.difference(&old.addresses) {
            *self.holders.entry(*address).or_default() += 1;
        }
        for address in old.addresses.difference(&new.addresses) {
            if let Some(count) = self.holders.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    self.holders.remove(address);
                }
            }
        }
        let own = *name == *self.own;
        NodeChange {
            addresses: old.addresses.symmetric_difference(&new.addresses).copied().collect(),
            own_addresses: own && old.addresses != new.addresses,
            own_zone: own && old.zone != new.zone,
        }
    }

    pub(super) fn is_of_node(&self, address: IpAddr) -> bool {
        self.holders.contains_key(&address)
    }

    /// Whether an address lies outside of all that pods and nodes have.
    pub(super) fn is_strange(&self, address: IpAddr) -> bool {
        !self.pods.is_empty() && !self.is_of_pods(address)
    }

    pub(super) fn is_of_pods(&self, address: IpAddr) -> bool {
        self.pods.iter().any(|prefix| prefix.contains(&address))
    }

    pub(super) fn own_zone(&self) -> Option<&str> {
        self.nodes.get(&self.own)?.zone.as_deref()
    }

    /// The addresses of our node that have node ports.
    pub(super) fn node_port_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.own_addresses().filter(|address| self.settings.has_node_ports(*address))
    }

    /// Addresses that the record gives a service.
    pub(super) fn given(&self, service: &ServiceName) -> &[IpAddr] {
        self.given.get(service).map_or(&[], Vec::as_slice)
    }

    /// All addresses of nodes.
    pub(super) fn of_nodes(&self) -> impl Iterator<Item = IpAddr> {
        self.holders.keys().copied()
    }

    /// The addresses of our node, where it is known.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.nodes.get(&self.own).into_iter().flat_map(|facts| &facts.addresses).copied()
    }

    /// Names of the nodes that are known.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<str>> {
        self.nodes.keys()
    }
}
