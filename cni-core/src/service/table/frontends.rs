//! Which frontends a service wants, and which of its addresses it cannot have. Never who else wants them.

use super::super::read::{Kind, Placed, ServiceSpec};
use super::claims::{Claim, Claimant};
use super::surroundings::Surroundings;
use crate::model::{FrontendKind, ServiceKey, TrafficScope};
use crate::policy::model::{Effect, Problem, Protocol};
use crate::store::ObjectKey;
use std::net::IpAddr;

/// Where addresses of load balancers come from besides the object itself, for problems.
const GIVEN: &str = "LoadBalancerAddresses";

/// A frontend that a service wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: ServiceKey,
    pub(super) kind: FrontendKind,
    /// The place of its port in the spec that was read.
    pub(super) port: usize,
    /// Where in the object it comes from, for problems.
    pub(super) path: String,
}

/// What a service wants, and what it cannot have.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) frontends: Vec<Wanted>,
    /// Ports of all nodes, with their paths.
    pub(super) node_ports: Vec<(Claim, String)>,
    /// The port of all nodes at which they say whether they have endpoints of it, with its path.
    pub(super) health_check: Option<(Claim, String)>,
    pub(super) problems: Vec<Problem>,
}

impl ServiceSpec {
    /// As a claimant.
    pub(super) fn claimant(&self, kind: FrontendKind) -> Claimant {
        let created = self.created.clone();
        Claimant { kind, undated: created.is_none(), created, service: self.name.clone() }
    }

    /// Whose backends a frontend of a kind uses.
    pub(super) fn scope(&self, kind: FrontendKind) -> TrafficScope {
        if kind == FrontendKind::ClusterIp { self.internal } else { self.external }
    }

    /// Addresses that others might have.
    pub(super) fn outer_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.external_ips.iter().chain(&self.ingress).map(|placed| placed.address)
    }
}

/// What a service wants here.
pub(super) fn wishes(object: &ObjectKey, spec: &ServiceSpec, around: &Surroundings) -> Wishes {
    let mut wishes = Wishes::default();
    if spec.kind == Kind::ExternalName {
        return wishes;
    }
    let mut problem = |path: String, detail: String, effect: Effect| {
        wishes.problems.push(Problem { object: object.clone(), path, detail, effect });
    };
    if spec.headless {
        if let Some(placed) = spec.external_ips.first() {
            let path = format!("spec.externalIPs[{}]", placed.index);
            problem(path, "stands beside clusterIP None, so nobody answers there".to_owned(), Effect::Warning);
        }
        return wishes;
    }
    let mut addresses: Vec<(FrontendKind, Placed, &str)> = Vec::new();
    addresses.extend(spec.cluster_ips.iter().map(|placed| (FrontendKind::ClusterIp, *placed, "spec.clusterIPs")));
    for placed in &spec.ingress {
        let path = "status.loadBalancer.ingress";
        match refusal(around, placed.address, false) {
            Some(detail) => problem(format!("{path}[{}].ip", placed.index), detail, Effect::LeftOut),
            None => addresses.push((FrontendKind::LoadBalancer, *placed, path)),
        }
    }
    let given = if spec.placement.ours { around.given(&spec.name) } else { &[] };
    for (index, address) in given.iter().enumerate() {
        let placed = Placed { index, address: *address };
        match refusal(around, placed.address, false).or_else(|| occupied(around, placed.address)) {
            Some(detail) => problem(format!("{GIVEN}[{}]", placed.index), detail, Effect::LeftOut),
            None => addresses.push((FrontendKind::LoadBalancer, placed, GIVEN)),
        }
    }
    for placed in &spec.external_ips {
        match refusal(around, placed.address, true) {
            Some(detail) => problem(format!("spec.externalIPs[{}]", placed.index), detail, Effect::LeftOut),
            None => addresses.push((FrontendKind::ExternalIp, *placed, "spec.externalIPs")),
        }
    }
    let mut node_ports = Vec::new();
    let mut frontends: Vec<Wanted> = Vec::with_capacity(addresses.len() * spec.ports.len());
    let mut want = |wanted: Wanted| {
        // One address as several kinds: the first kind counts.
        if !frontends.iter().any(|earlier| earlier.key == wanted.key) {
            frontends.push(wanted);
        }
    };
    for (kind, placed, path) in &addresses {
        for (port, of) in spec.ports.iter().enumerate() {
            let key = ServiceKey { address: placed.address, port: of.port, protocol: of.protocol };
            want(Wanted { key, kind: *kind, port, path: format!("{path}[{}]", placed.index) });
        }
    }
    for (port, of) in spec.ports.iter().enumerate() {
        let Some(number) = of.node_port else { continue };
        let path = of.path("nodePort");
        let range = &around.settings.node_ports;
        if !range.contains(&number) {
            let detail = format!("{number} is no node port; write {} to {}", range.start(), range.end());
            problem(path, detail, Effect::LeftOut);
            continue;
        }
        for address in around.node_port_addresses() {
            let key = ServiceKey { address, port: number, protocol: of.protocol };
            want(Wanted { key, kind: FrontendKind::NodePort, port, path: path.clone() });
        }
        node_ports.push((Claim { address: None, port: number, protocol: of.protocol }, path));
    }
    if let Some(number) = spec.health_check_port {
        let (path, range) = ("spec.healthCheckNodePort".to_owned(), &around.settings.node_ports);
        let claim = Claim { address: None, port: number, protocol: Protocol::TCP };
        if !range.contains(&number) {
            let detail = format!("{number} is no node port; write {} to {}", range.start(), range.end());
            problem(path, detail, Effect::LeftOut);
        } else if node_ports.iter().any(|(other, _)| *other == claim) {
            problem(path, format!("{number} is a node port of the service itself; choose another"), Effect::LeftOut);
        } else {
            wishes.health_check = Some((claim, path));
        }
    }
    (wishes.frontends, wishes.node_ports) = (frontends, node_ports);
    wishes
}

/// Why nobody can have an address that somebody may have written.
fn occupied(around: &Surroundings, address: IpAddr) -> Option<String> {
    if around.api_server.contains(&address) {
        return Some(format!("{address} is the API server's; a service there would take its clients over"));
    }
    let detail = || format!("{address} is a node's; use a node port, or an address that no node has");
    around.is_of_node(address).then(detail)
}

/// Why a service cannot have an address that the API server did not give it. `written`: whoever made the service wrote it.
fn refusal(around: &Surroundings, address: IpAddr, written: bool) -> Option<String> {
    if around.is_of_pods(address) {
        return Some(format!("{address} is an address of pods; use one outside of their pools"));
    }
    if !written {
        return None;
    }
    if let Some(occupied) = occupied(around, address) {
        return Some(occupied);
    }
    if !around.settings.allows_external(address) {
        let ranges: Vec<String> = around.settings.external_ips.iter().map(ToString::to_string).collect();
        return Some(if ranges.is_empty() {
            format!("{address}: external addresses are off; the operator allows ranges with `services.externalIPs`")
        } else {
            format!("{address} is in none of the ranges that the operator allows: {}", ranges.join(", "))
        });
    }
    None
}
