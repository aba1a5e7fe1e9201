//! Laws of the compiler: history does not count, changes cost what they touch, programs decide as the evaluator does, and
//! the usual rules become few lookups.

mod cost;
mod shapes;
mod walks;

use crate::model::{EndpointId, InterfaceName};
use crate::policy::compile::LocalEndpoint;
use crate::policy::model::*;
use crate::policy::world::ModelChange;
use crate::store::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod `ns/NAME` with a label `app`, and the port `http` = TCP 8080.
fn pod(name: &str, app: &str, address: &str, node: &str) -> Workload {
    let identity = Identity {
        labels: Arc::new(BTreeMap::from([("app".into(), app.into())])),
        namespace: Some("ns".into()),
        ..Identity::new(WorkloadKind::Pod)
    };
    Workload {
        id: WorkloadId::pod("ns", name),
        identity: Arc::new(identity),
        addresses: vec![address.parse().unwrap()],
        networks: Vec::new(),
        node: Some(node.into()),
        ports: vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }],
        host_network: false,
        host: None,
    }
}

fn put(workload: Workload) -> ModelChange {
    ModelChange::PutWorkload(Arc::new(workload))
}

/// The attachment of a pod of this name.
fn endpoint(name: &str, address: &str) -> LocalEndpoint {
    LocalEndpoint {
        id: EndpointId::of(name, "eth0").unwrap(),
        host_interface: InterfaceName::new(name).unwrap(),
        addresses: vec![address.parse().unwrap()],
        pod: Some(("ns".into(), name.into())),
    }
}

fn app(value: &str) -> Selector {
    Selector::Is(Attribute::Label("app".into()), value.into())
}

/// A policy about the pods `server`, in one direction.
fn policy(name: &str, direction: Direction, rules: Vec<Rule>) -> Policy {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "ns", name);
    let rules = Some(Rules { rules, isolates: true });
    let (ingress, egress) = if direction == Direction::Ingress { (rules, None) } else { (None, rules) };
    Policy {
        id: PolicyId { object, part: 0 },
        tier: Tier::DEFAULT.into(),
        order: Order::at(1),
        subject: Subject { kinds: Kinds::PODS, selector: app("server") },
        ingress,
        egress,
        mode: Mode::Enforced,
        stage: Stage::Tracked,
        on_forward: false,
    }
}

fn networks(texts: &[&str]) -> Peer {
    Peer::Networks(texts.iter().map(|text| text.parse().unwrap()).collect())
}
