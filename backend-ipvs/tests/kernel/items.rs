//! Frontends as the model of services gives them. Never a namespace.

use cni_core::model::{
    BackendUse, Conditions, FrontendKind, Scheduler, ServiceBackend, ServiceItem, ServiceKey, ServiceName, TrafficScope,
};
use cni_core::policy::model::Protocol;
use std::net::SocketAddr;

/// A backend on this node that gets new connections.
pub(crate) fn backend(place: &str) -> ServiceBackend {
    let place: SocketAddr = place.parse().unwrap();
    ServiceBackend {
        address: place.ip(),
        port: place.port(),
        usage: BackendUse::Active,
        weight: 1,
        conditions: Conditions { ready: true, serving: true, terminating: false },
        local: true,
        node: Some("node-1".into()),
        zone: None,
    }
}

/// A frontend over TCP, by turns.
pub(crate) fn item(kind: FrontendKind, place: &str, backends: &[&str]) -> ServiceItem {
    let place: SocketAddr = place.parse().unwrap();
    ServiceItem {
        key: ServiceKey { address: place.ip(), port: place.port(), protocol: Protocol::TCP },
        service: ServiceName { namespace: "default".into(), name: "web".into() },
        port_name: "".into(),
        kind,
        scope: TrafficScope::Cluster,
        scheduler: Scheduler::RoundRobin,
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: backends.iter().map(|place| backend(place)).collect(),
    }
}

/// The same over another protocol.
pub(crate) fn over(protocol: Protocol, mut item: ServiceItem) -> ServiceItem {
    item.key.protocol = protocol;
    item
}

pub(crate) const PODS: [&str; 3] = ["10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080"];
pub(crate) const PODS6: [&str; 3] = ["[fd00:1::1]:8080", "[fd00:1::2]:8080", "[fd00:1::3]:8080"];
