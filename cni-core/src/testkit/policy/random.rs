//! Random workloads and selectors, out of few values so that they meet. Never a policy.

use crate::policy::model::{
    Attribute, Family, HostInterfaces, HostPart, Identity, LabelMap, NamedPort, Protocol, Selector, Workload,
    WorkloadId, WorkloadKind,
};
use crate::testkit::dice::Dice;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const NAMESPACES: [&str; 3] = ["red", "green", "blue"];
const ACCOUNTS: [&str; 2] = ["default", "builder"];
const APPS: [&str; 3] = ["web", "worker", "db"];
const STAGES: [&str; 2] = ["dev", "prod"];

/// Prefixes that rules and groups name: around pods, nodes and outside.
const NETWORKS: [&str; 16] = [
    "10.0.0.0/28",
    "10.0.0.0/27",
    "10.0.0.8/29",
    "10.0.0.4/32",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "192.168.0.0/24",
    "192.168.0.1/32",
    "198.51.100.0/24",
    "198.51.100.128/25",
    "198.51.100.7/32",
    "fd00::/64",
    "fd00::4/126",
    "::/0",
    "fd01::/64",
    "2001:db8::/32",
];

/// Addresses that belong to nobody.
pub(super) const OUTSIDE: [&str; 6] =
    ["198.51.100.7", "198.51.100.200", "203.0.113.9", "10.0.0.200", "2001:db8::1", "fd00::4:4"];

/// Labels out of few.
fn labels(dice: &mut Dice) -> LabelMap {
    let mut labels = std::collections::BTreeMap::new();
    if !dice.once_in(5) {
        labels.insert("app".into(), Arc::from(*dice.pick(&APPS)));
    }
    if dice.once_in(2) {
        labels.insert("stage".into(), Arc::from(*dice.pick(&STAGES)));
    }
    Arc::new(labels)
}

/// Labels of a namespace: always the same for one name.
fn namespace_labels(namespace: &str) -> LabelMap {
    let stage = if namespace == "red" { "prod" } else { "dev" };
    Arc::new([("name".into(), Arc::from(namespace)), ("stage".into(), stage.into())].into())
}

fn account_labels(account: &str) -> LabelMap {
    Arc::new([("role".into(), Arc::from(account))].into())
}

/// A pod's addresses by its number: IPv4, IPv6 or both.
fn pod_addresses(number: u8) -> Vec<IpAddr> {
    let v4 = Ipv4Addr::new(10, 0, 0, number).into();
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into()).into();
    match number % 4 {
        0 => vec![v6],
        1 => vec![v4],
        _ => vec![v4, v6],
    }
}

pub(super) fn pod(dice: &mut Dice, number: u8, node: &str) -> Workload {
    let (namespace, account) = (NAMESPACES[usize::from(number) % NAMESPACES.len()], *dice.pick(&ACCOUNTS));
    let identity = Identity {
        labels: labels(dice),
        namespace: Some(namespace.into()),
        namespace_labels: namespace_labels(namespace),
        service_account: Some(account.into()),
        service_account_labels: account_labels(account),
        ..Identity::new(WorkloadKind::Pod)
    };
    let mut ports = Vec::new();
    if dice.once_in(2) {
        ports.push(NamedPort { name: "http".into(), protocol: Protocol::TCP, port: *dice.pick(&[80, 8080]) });
    }
    if dice.once_in(3) {
        let protocol = *dice.pick(&[Protocol::UDP, Protocol::TCP]);
        ports.push(NamedPort { name: "dns".into(), protocol, port: *dice.pick(&[53, 5353]) });
    }
    Workload {
        id: WorkloadId::pod(namespace, &format!("pod-{number}")),
        identity: Arc::new(identity),
        addresses: pod_addresses(number),
        networks: Vec::new(),
        node: Some(node.into()),
        ports,
        host_network: false,
        host: None,
    }
}

/// A node's addresses by its number.
pub(super) fn node_addresses(number: u8) -> Vec<IpAddr> {
    let v6 = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, number.into());
    vec![Ipv4Addr::new(192, 168, 0, number).into(), v6.into()]
}

pub(super) fn node(dice: &mut Dice, number: u8) -> Workload {
    let name = format!("node-{number}");
    let identity =
        Identity { labels: labels(dice), name: Some(name.as_str().into()), ..Identity::new(WorkloadKind::Node) };
    Workload {
        id: WorkloadId::node(&name),
        identity: Arc::new(identity),
        addresses: node_addresses(number),
        networks: Vec::new(),
        node: Some(name.into()),
        ports: Vec::new(),
        host_network: false,
        host: None,
    }
}

/// Calico's name for the interface of a node, or for all of its interfaces.
pub(super) fn host_endpoint(dice: &mut Dice, number: u8) -> Workload {
    let (interfaces, name) = match dice.below(3) {
        0 => (HostInterfaces::All, format!("all-of-{number}")),
        1 => (HostInterfaces::ByAddress, format!("addresses-of-{number}")),
        _ => (HostInterfaces::Named("eth0".into()), format!("eth0-of-{number}")),
    };
    let identity = Identity { labels: labels(dice), ..Identity::new(WorkloadKind::HostEndpoint) };
    let ports = vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }];
    Workload {
        id: WorkloadId { kind: WorkloadKind::HostEndpoint, namespace: None, name: name.into() },
        identity: Arc::new(identity),
        ports,
        host: Some(HostPart { interfaces, open: dice.once_in(2) }),
        ..node(dice, number)
    }
}

pub(super) fn group(dice: &mut Dice, number: u8) -> Workload {
    use WorkloadKind::{CidrGroup, NetworkSet, Service};
    let (kind, name) = (*dice.pick(&[NetworkSet, CidrGroup, Service]), Arc::from(format!("group-{number}")));
    let namespace = (kind == Service).then(|| Arc::from(*dice.pick(&NAMESPACES)));
    let identity = Identity {
        labels: labels(dice),
        namespace: namespace.clone(),
        namespace_labels: namespace.as_deref().map(namespace_labels).unwrap_or_default(),
        name: Some(Arc::clone(&name)),
        ..Identity::new(kind)
    };
    Workload {
        id: WorkloadId { kind, namespace, name },
        identity: Arc::new(identity),
        addresses: Vec::new(),
        networks: (0..dice.below(4)).map(|_| network(dice)).collect(),
        node: None,
        ports: Vec::new(),
        host_network: false,
        host: None,
    }
}

pub(super) fn network(dice: &mut Dice) -> IpNet {
    dice.pick(&NETWORKS).parse().expect("the table holds prefixes")
}

pub(super) fn family(dice: &mut Dice) -> Family {
    *dice.pick(&[Family::V4, Family::V6])
}

/// A condition on labels, namespaces, accounts or names.
pub(super) fn selector(dice: &mut Dice, depth: usize) -> Selector {
    let (attribute, values): (Attribute, &[&str]) = match dice.below(10) {
        0..4 => (Attribute::Label("app".into()), &APPS),
        4 => (Attribute::Label("stage".into()), &STAGES),
        5 => (Attribute::NamespaceLabel("stage".into()), &STAGES),
        6 => (Attribute::ServiceAccountLabel("role".into()), &ACCOUNTS),
        7 => (Attribute::Namespace, &NAMESPACES),
        8 => (Attribute::ServiceAccount, &ACCOUNTS),
        _ => (Attribute::Name, &["group-1", "node-0", "group-2"]),
    };
    let value = |dice: &mut Dice| Arc::<str>::from(*dice.pick(values));
    let several = |dice: &mut Dice| (0..dice.below(4)).map(|_| selector(dice, depth - 1)).collect();
    match dice.below(if depth == 0 { 13 } else { 18 }) {
        0..3 => Selector::Everything,
        3..7 => Selector::Is(attribute, value(dice)),
        7 => Selector::In(attribute, (0..dice.below(3)).map(|_| value(dice)).collect()),
        8 => Selector::Has(attribute),
        9 => Selector::StartsWith(attribute, value(dice)[..1].into()),
        10 => Selector::EndsWith(attribute, value(dice)[1..].into()),
        11 => Selector::Contains(attribute, value(dice)[1..2].into()),
        12 => {
            if dice.once_in(4) {
                Selector::Nothing
            } else {
                Selector::Everything
            }
        }
        13 | 14 => Selector::Not(Box::new(selector(dice, depth - 1))),
        15 | 16 => Selector::All(several(dice)),
        _ => Selector::Any(several(dice)),
    }
}
