//! Services of the cluster: what of them this node's datapath and its service proxy have to know, and what is wrong with them.
//! Never translates one.

use crate::config::ServicesConfig;
use crate::node::status::Problem;
use cni_core::backend::{NetworkChange, ServiceChange};
use cni_core::model::{HealthChange, NodeName, ServiceItem};
use cni_core::policy::model::{Effect, Problem as ModelProblem};
use cni_core::service::{ServiceSettings, ServiceTable};
use cni_core::store::{Event, Kind};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// What follows from an event.
pub(super) struct ServiceChanges {
    /// For the datapath.
    pub(super) addresses: Vec<NetworkChange>,
    /// For the proxy.
    pub(super) items: Vec<ServiceChange>,
    /// For who answers balancers outside.
    pub(super) checks: Vec<HealthChange>,
}

/// The table of services, kept up to date.
pub(super) struct Services {
    table: ServiceTable,
    /// Where node ports are to be; empty: everywhere.
    node_port_addresses: Vec<IpNet>,
    /// Why some services have no address of a load balancer.
    unbalanced: Vec<ModelProblem>,
    /// What was said in the log.
    told: BTreeSet<String>,
}

impl Services {
    pub(super) fn new(node: &NodeName, config: &ServicesConfig) -> Self {
        let settings = ServiceSettings {
            external_ips: config.external_ips.clone(),
            announce: config.announce.clone(),
            node_port_addresses: config.node_port_addresses.clone(),
            ..ServiceSettings::default()
        };
        let node_port_addresses = config.node_port_addresses.clone();
        let table = ServiceTable::new(node.as_str(), settings);
        Self { table, node_port_addresses, unbalanced: Vec::new(), told: BTreeSet::new() }
    }

    /// Kinds that a watch must bring besides nodes.
    pub(super) fn kinds() -> [Kind; 4] {
        [Kind::SERVICE, Kind::ENDPOINT_SLICE, Kind::BALANCER_POOL, Kind::BALANCER_ADDRESSES]
    }

    /// Takes an event of a watch over a kind in. Answers what follows.
    pub(super) fn take(&mut self, kind: &Kind, event: &Event, pods: &[IpNet]) -> ServiceChanges {
        self.table.set_pod_prefixes(pods);
        if ServiceTable::kinds().contains(kind) {
            match event {
                Event::Put(object) => self.table.put(object),
                Event::Delete(key) => self.table.remove(key),
                Event::Resynced(list) => {
                    let mut gone = self.table.keys_of(kind);
                    for object in &list.objects {
                        gone.remove(&object.key);
                        self.table.put(object);
                    }
                    gone.iter().for_each(|key| self.table.remove(key));
                }
            }
        }
        let items = self.table.drain();
        self.tell();
        let (addresses, checks) = (self.table.drain_addresses(), self.table.drain_health_checks());
        ServiceChanges { addresses, items, checks }
    }

    /// All frontends with their backends.
    pub(super) fn items(&self) -> Vec<ServiceItem> {
        self.table.items().cloned().collect()
    }

    /// What counts less than it is written, without what is merely noteworthy.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let problems = self.table.problems().into_iter().chain(self.unbalanced.iter().cloned());
        let problems = problems.filter(|problem| problem.effect != Effect::Warning);
        // What is wrong with nodes is reported by the view of the cluster.
        problems
            .filter(|problem| problem.object.kind != Kind::NODE)
            .map(|problem| Problem {
                object: problem.object.to_string(),
                error: format!("{}: {}", problem.path, problem.detail),
                state: "left out".to_owned(),
            })
            .chain(self.nowhere())
    }

    /// Node ports that are nowhere on this node.
    fn nowhere(&self) -> Option<Problem> {
        let own = self.table.without_node_ports().filter(|_| !self.node_port_addresses.is_empty())?;
        let list = |all: Vec<String>| all.join(", ");
        let ranges = list(self.node_port_addresses.iter().map(ToString::to_string).collect());
        let own = list(own.iter().map(ToString::to_string).collect());
        Some(Problem {
            object: "services.nodePortAddresses".to_owned(),
            error: format!("no address of this node ({own}) is in {ranges}, so nobody reaches a node port here"),
            state: "left out".to_owned(),
        })
    }

    /// Whether something changed since the last call that addresses of load balancers depend on.
    pub(super) fn take_unbalanced(&mut self) -> bool {
        self.table.take_unbalanced()
    }

    /// Whether the record of the load balancers' addresses should be another one, by what is known here. Notes why some services
    /// have none.
    pub(super) fn wants_another_record(&mut self) -> bool {
        if !self.table.is_balancing() {
            self.unbalanced.clear();
            return false;
        }
        let balance = self.table.balance(false);
        self.unbalanced = balance.problems;
        balance.record != self.table.balancer_record()
    }

    /// Says in the log what is wrong since the last call.
    fn tell(&mut self) {
        let problems: BTreeSet<String> = self.table.problems().iter().map(ToString::to_string).collect();
        for problem in problems.difference(&self.told) {
            tracing::warn!(%problem, "an object of a service does not count as it is written");
        }
        self.told = problems;
    }
}
