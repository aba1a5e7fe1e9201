//! A random cluster with policies, the attachments of one of its nodes, and connections to try. Never two pods with one
//! address: what such pods may do depends on the packet's way, which the evaluator does not know.

use super::interpret::{Items, Packet};
use super::random::{OUTSIDE, group, host_endpoint, node, node_addresses, pod};
use super::rules::{PORTS, PROTOCOLS, icmp, policy, tier};
use crate::model::{EndpointId, InterfaceName};
use crate::policy::compile::{Compiler, LocalEndpoint};
use crate::policy::evaluate::{Connection, Party, Verdict};
use crate::policy::model::{Direction, Icmp, Protocol, Tier, Workload, WorkloadKind};
use crate::policy::program::HostInterface;
use crate::policy::world::{ModelChange, World};
use crate::testkit::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A cluster, and what is attached to one node of it.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Workloads, tiers and policies.
    pub world: World,
    /// The name of the node.
    pub node: Arc<str>,
    /// Its attachments: one for each of its pods with a network of their own.
    pub endpoints: BTreeMap<EndpointId, LocalEndpoint>,
}

/// What compiled items say of a connection at the ends that are local: the verdict, and with staged policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decisions {
    /// At the source.
    pub egress: Option<(Verdict, Option<Verdict>)>,
    /// At the destination.
    pub ingress: Option<(Verdict, Option<Verdict>)>,
}

impl Scene {
    /// A cluster of three nodes, up to 100 pods, some groups, and about so many policies.
    #[must_use]
    pub fn random(dice: &mut Dice, pods: u8, policies: usize) -> Self {
        let mut scene = Self { world: World::default(), node: "node-0".into(), endpoints: BTreeMap::new() };
        for number in 0..3 {
            scene.world.apply(put(node(dice, number)));
        }
        for _ in 0..pods.div_ceil(2).max(3) {
            let change = scene.workload_change(dice, pods);
            scene.apply(change);
        }
        for number in 1..=pods.min(100) {
            let node = *dice.pick(&["node-0", "node-1"]);
            scene.apply(put(pod(dice, number, node)));
        }
        for _ in 0..2 {
            scene.apply(ModelChange::PutTier(tier(dice)));
        }
        for _ in 0..policies {
            let change = scene.policy_change(dice, policies, false);
            scene.apply(change);
        }
        scene
    }

    /// Takes a change in, and attaches or detaches what it brings or takes.
    pub fn apply(&mut self, change: ModelChange) {
        self.world.apply(change);
        let ours = self.world.workloads.values().filter(|workload| {
            workload.identity.kind == WorkloadKind::Pod
                && workload.node.as_ref() == Some(&self.node)
                && !workload.host_network
        });
        self.endpoints =
            ours.map(|workload| endpoint(workload)).map(|endpoint| (endpoint.id.clone(), endpoint)).collect();
    }

    /// A change of a pod, a host endpoint or a group.
    pub fn workload_change(&self, dice: &mut Dice, pods: u8) -> ModelChange {
        let number = u8::try_from(dice.below(usize::from(pods.clamp(1, 100)))).unwrap_or(0) + 1;
        let mut workload = match dice.below(6) {
            0 => group(dice, number % 4),
            1 => host_endpoint(dice, number % 3),
            _ => {
                let node = *dice.pick(&["node-0", "node-0", "node-1"]);
                pod(dice, number, node)
            }
        };
        if workload.identity.kind == WorkloadKind::Pod && dice.once_in(8) {
            workload.host_network = true;
            workload.addresses = node_addresses(if workload.node == Some("node-0".into()) { 0 } else { 1 });
        }
        if dice.once_in(4) { ModelChange::RemoveWorkload(workload.id) } else { put(workload) }
    }

    /// A change of a policy or, where `tiers`, of a tier.
    pub fn policy_change(&self, dice: &mut Dice, policies: usize, tiers: bool) -> ModelChange {
        if tiers && dice.once_in(8) {
            return ModelChange::PutTier(tier(dice));
        }
        let known: Vec<_> = self.world.tiers.keys().filter(|name| ***name != *Tier::CLOSED).cloned().collect();
        let number = dice.below(policies.max(1));
        let policy = policy(dice, number, &known);
        if dice.once_in(4) { ModelChange::RemovePolicy(policy.id) } else { ModelChange::PutPolicy(Arc::new(policy)) }
    }

    /// Gives a compiler everything.
    pub fn load(&self, compiler: &mut Compiler) {
        for tier in self.world.tiers.values() {
            compiler.apply(ModelChange::PutTier(tier.clone()));
        }
        for workload in self.world.workloads.values() {
            compiler.apply(ModelChange::PutWorkload(workload.clone()));
        }
        for policy in self.world.policies.values() {
            compiler.apply(ModelChange::PutPolicy(policy.clone()));
        }
        for endpoint in self.endpoints.values() {
            compiler.put_endpoint(endpoint.clone());
        }
        compiler.set_interfaces(Self::interfaces());
    }

    /// The node's own interface, which has all its addresses.
    #[must_use]
    pub fn interfaces() -> BTreeMap<InterfaceName, BTreeSet<IpAddr>> {
        let eth0 = InterfaceName::new("eth0").expect("short enough");
        [(eth0, node_addresses(0).into_iter().collect())].into()
    }

    /// A connection between two of the addresses of one family, usually to or from a pod of the node.
    pub fn connection(&self, dice: &mut Dice) -> Connection {
        let outside = OUTSIDE.iter().map(|text| text.parse::<IpAddr>().expect("the table holds addresses"));
        let of_workloads = self.world.workloads.values().flat_map(|workload| workload.addresses.iter().copied());
        let all: Vec<IpAddr> = of_workloads.chain(outside).collect();
        let pods = self.endpoints.values().flat_map(|endpoint| endpoint.addresses.clone());
        let own = node_addresses(0);
        let local: Vec<IpAddr> = if dice.once_in(3) { own } else { pods.collect() };
        let one = *dice.pick(if local.is_empty() { &all } else { &local });
        let same: Vec<IpAddr> = all.into_iter().filter(|other| other.is_ipv4() == one.is_ipv4()).collect();
        let other = *dice.pick(&same);
        let (from, to) = if dice.once_in(2) { (one, other) } else { (other, one) };
        let protocol = *dice.pick(&PROTOCOLS);
        let port = |dice: &mut Dice| protocol.has_ports().then(|| *dice.pick(&PORTS));
        let is_icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        Connection {
            from: Party::Address(from),
            to: Party::Address(to),
            protocol,
            source_port: if dice.once_in(2) { None } else { port(dice) },
            destination_port: port(dice),
            icmp: is_icmp.then(|| Icmp { code: Some(0), ..icmp(dice) }),
        }
    }

    /// What items say of a connection between addresses.
    #[must_use]
    pub fn decide(&self, items: &Items, connection: &Connection) -> Decisions {
        let (Party::Address(source), Party::Address(destination)) = (&connection.from, &connection.to) else {
            return Decisions { egress: None, ingress: None };
        };
        let own = node_addresses(0);
        let pod = |address: &IpAddr| self.endpoints.values().find(|endpoint| endpoint.addresses.contains(address));
        let at = |address: IpAddr, other: IpAddr, direction| {
            let packet = Packet {
                source: *source,
                destination: *destination,
                protocol: connection.protocol,
                source_port: connection.source_port,
                destination_port: connection.destination_port,
                icmp: connection.icmp,
                own_node: own.contains(&other),
            };
            if own.contains(&address) {
                if own.contains(&other) {
                    return None;
                }
                let eth0 = HostInterface::Named(InterfaceName::new("eth0").expect("short enough"));
                let interface = if pod(&other).is_some() { HostInterface::Pods } else { eth0 };
                return Some(items.decide_at_host(&interface, direction, &packet));
            }
            let endpoint = pod(&address)?;
            items.decide(&endpoint.id, direction, &packet)
        };
        Decisions {
            egress: at(*source, *destination, Direction::Egress),
            ingress: at(*destination, *source, Direction::Ingress),
        }
    }
}

fn put(workload: Workload) -> ModelChange {
    ModelChange::PutWorkload(Arc::new(workload))
}

/// The attachment of a pod.
fn endpoint(pod: &Workload) -> LocalEndpoint {
    let name = &*pod.id.name;
    LocalEndpoint {
        id: EndpointId::of(name, "eth0").expect("names of pods are names of containers here"),
        host_interface: InterfaceName::new(&format!("cni{name}")).expect("short enough"),
        addresses: pod.addresses.clone(),
        pod: pod.id.namespace.clone().map(|namespace| (namespace, pod.id.name.clone())),
    }
}
