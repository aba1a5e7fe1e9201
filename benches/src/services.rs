//! Frontends as the model of services gives them, for whoever measures a proxy. Never a proxy.

use cni_core::model::{
    BackendUse, Conditions, FrontendKind, Scheduler, ServiceBackend, ServiceItem, ServiceKey, ServiceName, TrafficScope,
};
use cni_core::policy::model::Protocol;
use std::net::{IpAddr, Ipv4Addr};

/// Endpoints of each service.
pub const ENDPOINTS: u32 = 10;

/// A ClusterIP of its own over TCP, with the first so many of its [`ENDPOINTS`].
#[must_use]
pub fn item(number: u32, endpoints: u32) -> ServiceItem {
    let address = |base: [u8; 4], number| IpAddr::from(Ipv4Addr::from(u32::from_be_bytes(base) + number));
    let backend = |at| ServiceBackend {
        address: address([10, 128, 0, 1], number * ENDPOINTS + at),
        port: 8080,
        usage: BackendUse::Active,
        weight: 1,
        conditions: Conditions { ready: true, serving: true, terminating: false },
        local: false,
        node: Some("node-2".into()),
        zone: None,
    };
    ServiceItem {
        key: ServiceKey { address: address([10, 96, 0, 1], number), port: 80, protocol: Protocol::TCP },
        service: ServiceName { namespace: "default".into(), name: format!("web-{number}").into() },
        port_name: "".into(),
        kind: FrontendKind::ClusterIp,
        scope: TrafficScope::Cluster,
        scheduler: Scheduler::RoundRobin,
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: (0..endpoints).map(backend).collect(),
    }
}
