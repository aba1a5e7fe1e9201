//! What the policy compiler costs on one node of a cluster: everything at once, one pod, one label, one policy; and bytes.
//! Without an engine, so the kernel's share is not in here.
//!
//! `cargo run --release -p benches --bin policy`
#![forbid(unsafe_code)]

use benches::stats::{Table, millis, quantile};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::evaluate::{Connection, Evaluator, Party};
use cni_core::policy::model::*;
use cni_core::policy::program::PolicyChange;
use cni_core::policy::world::{ModelChange, World};
use cni_core::store::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

type AnyError = Box<dyn std::error::Error>;

const SAMPLES: usize = 200;
/// Applications, each a deployment of some replicas in one namespace.
const REPLICAS: usize = 5;
const APPS_PER_NAMESPACE: usize = 20;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    pods: usize,
    policies: usize,
    nodes: usize,
}

impl Size {
    fn apps(self) -> usize {
        self.pods / REPLICAS
    }

    /// The application of a pod: replicas are on different nodes.
    fn app_of_pod(self, number: usize) -> usize {
        number / REPLICAS % self.apps()
    }

    /// The application that a policy is about: of each the same number.
    fn app_of_policy(self, number: usize) -> usize {
        number * (self.apps() / self.policies) % self.apps()
    }

    /// Every so many policies one is about a pod of the first node.
    fn local_policies(self) -> usize {
        self.nodes / REPLICAS / (self.apps() / self.policies)
    }
}

/// A pod of a dual stack deployment, with the labels that Kubernetes and Helm give one.
fn pod(size: Size, number: usize, tier: Option<&str>) -> Workload {
    let app = size.app_of_pod(number);
    let namespace: Arc<str> = format!("team-{}", app / APPS_PER_NAMESPACE).into();
    let name: Arc<str> = format!("app-{app}-5d4f8c7b9-{number}").into();
    let label = |key: &str, value: String| (Arc::from(key), Arc::from(value));
    let labels = BTreeMap::from([
        label("app.kubernetes.io/name", format!("app-{}", app % APPS_PER_NAMESPACE)),
        label("app.kubernetes.io/instance", format!("app-{app}")),
        label("app.kubernetes.io/managed-by", "Helm".into()),
        label("pod-template-hash", format!("5d4f8c7b9-{app}")),
        label("tier", tier.unwrap_or(["frontend", "backend", "data"][app % 3]).into()),
        label("version", "1".into()),
    ]);
    let namespace_labels = BTreeMap::from([
        label("kubernetes.io/metadata.name", namespace.to_string()),
        label("environment", ["dev", "prod"][(app / APPS_PER_NAMESPACE) % 2].into()),
    ]);
    let identity = Identity {
        labels: Arc::new(labels),
        namespace: Some(namespace.clone()),
        namespace_labels: Arc::new(namespace_labels),
        service_account: Some("default".into()),
        ..Identity::new(WorkloadKind::Pod)
    };
    let address = u32::try_from(number).unwrap_or_default();
    Workload {
        id: WorkloadId { kind: WorkloadKind::Pod, namespace: Some(namespace), name },
        identity: Arc::new(identity),
        addresses: vec![
            Ipv4Addr::from(0x0a00_0001 + address).into(),
            Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(address) + 1).into(),
        ],
        networks: Vec::new(),
        node: Some(format!("node-{}", number % size.nodes).into()),
        ports: vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }],
        host_network: false,
        host: None,
    }
}

/// A policy of a team: its application is reached by some others of the namespace and by a tier of the prod namespaces, and
/// reaches a backend and a block outside. Of another port, one of the others is another too.
fn policy(size: Size, number: usize, port: u16) -> Policy {
    let app = size.app_of_policy(number);
    let namespace: Arc<str> = format!("team-{}", app / APPS_PER_NAMESPACE).into();
    let own = || Selector::Is(Attribute::Namespace, namespace.clone());
    let is = |key: &str, value: String| Selector::Is(Attribute::Label(key.into()), value.into());
    let name = |app: usize| is("app.kubernetes.io/name", format!("app-{}", app % APPS_PER_NAMESPACE));
    let prod = Selector::Is(Attribute::NamespaceLabel("environment".into()), "prod".into());
    let tcp = |port| Traffic::to_ports(Protocol::TCP, Ports { ranges: vec![PortRange::one(port)], ..Ports::default() });
    let named = Ports { names: ["http".into()].into(), ..Ports::default() };
    let from = Peer::AnyOf(vec![
        Peer::pods(own().and(name(app + usize::from(port)))),
        Peer::pods(own().and(name(app + 2))),
        Peer::pods(prod.and(is("tier", "frontend".into())).and(name(app + 3))),
    ]);
    let block = |text: &str| Peer::Networks(vec![text.parse().expect("a prefix")]);
    let outside = Peer::AllOf(vec![block("203.0.0.0/8"), block("203.0.113.0/24").negated()]);
    let rule = |path: &str, source, destination, traffic| Rule {
        source,
        destination,
        traffic,
        ..Rule::new(path, Action::Allow)
    };
    let any = || Peer::Anything;
    let ingress = vec![rule(
        "spec.ingress[0]",
        from,
        any(),
        vec![tcp(port), tcp(9_090), Traffic::to_ports(Protocol::TCP, named)],
    )];
    let egress = vec![
        rule("spec.egress[0]", any(), Peer::pods(own().and(name(app + 5))), vec![tcp(5432)]),
        rule("spec.egress[1]", any(), outside, vec![tcp(443)]),
    ];
    let kind = Kind::new("networking.k8s.io/v1", "NetworkPolicy");
    Policy {
        id: PolicyId { object: ObjectKey::namespaced(kind, &namespace, &format!("policy-{number}")), part: 0 },
        tier: Tier::DEFAULT.into(),
        order: Order::at(1_000),
        subject: Subject { kinds: Kinds::PODS, selector: own().and(name(app)) },
        ingress: Some(Rules { rules: ingress, isolates: true }),
        egress: Some(Rules { rules: egress, isolates: true }),
        mode: Mode::Enforced,
        stage: Stage::Tracked,
        on_forward: false,
    }
}

fn endpoint(pod: &Workload, number: usize) -> Result<LocalEndpoint, AnyError> {
    Ok(LocalEndpoint {
        id: EndpointId::of(&format!("c{number}"), "eth0")?,
        host_interface: InterfaceName::new(&format!("cni{number}"))?,
        addresses: pod.addresses.clone(),
        pod: pod.id.namespace.clone().map(|namespace| (namespace, pod.id.name.clone())),
    })
}

fn put(workload: Workload) -> ModelChange {
    ModelChange::PutWorkload(Arc::new(workload))
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

/// Times of a change with the drain after it, and the most items that one gave.
#[derive(Default)]
struct Samples {
    times: Vec<Duration>,
    items: usize,
}

impl Samples {
    fn add(&mut self, compiler: &mut Compiler, change: ModelChange) -> Vec<PolicyChange> {
        let start = Instant::now();
        compiler.apply(change);
        let changes = compiler.drain();
        self.times.push(start.elapsed());
        self.items = self.items.max(changes.len());
        changes
    }

    fn cell(&self) -> String {
        let micros = |share| quantile(&self.times, share).as_secs_f64() * 1e6;
        format!("{:.0} / {:.0} µs, ≤ {} items", micros(0.5), micros(0.99), self.items)
    }
}

/// One row, in a process of its own: memory that another size left behind would count as ours.
fn measure(size: Size, policies_first: bool) -> Result<Vec<String>, AnyError> {
    let pods: Vec<ModelChange> = (0..size.pods).map(|number| put(pod(size, number, None))).collect();
    let policies: Vec<ModelChange> =
        (0..size.policies).map(|number| ModelChange::PutPolicy(Arc::new(policy(size, number, 80)))).collect();
    let local = (0..size.pods).step_by(size.nodes);
    let endpoints: Vec<LocalEndpoint> =
        local.map(|number| endpoint(&pod(size, number, None), number)).collect::<Result<_, _>>()?;
    let attached = endpoints.len();
    let input = resident_bytes();
    let mut compiler = Compiler::new("node-0");
    let start = Instant::now();
    let (first, second) = if policies_first { (policies, pods) } else { (pods, policies) };
    for change in first.into_iter().chain(second) {
        compiler.apply(change);
    }
    for endpoint in endpoints {
        compiler.put_endpoint(endpoint);
    }
    let told = compiler.drain();
    let cold = start.elapsed();
    let items = told.len();
    drop(told);
    let bytes = resident_bytes();

    let (mut added, mut relabelled, mut changed) = (Samples::default(), Samples::default(), Samples::default());
    for sample in 0..SAMPLES {
        let number = size.pods + sample;
        added.add(&mut compiler, put(pod(size, number, None)));
        added.add(&mut compiler, ModelChange::RemoveWorkload(pod(size, number, None).id));
        let number = (sample * 7_919) % size.pods;
        relabelled.add(&mut compiler, put(pod(size, number, Some("other"))));
        relabelled.add(&mut compiler, put(pod(size, number, None)));
        // One that is about a pod of this node.
        let number = (sample * size.local_policies()) % size.policies;
        for port in [81, 80] {
            let told = changed.add(&mut compiler, ModelChange::PutPolicy(Arc::new(policy(size, number, port))));
            assert!(!told.is_empty(), "policy {number} is about nobody here");
        }
    }
    Ok(vec![
        format!("{attached}"),
        format!("{items}"),
        millis(cold),
        format!("{:.0} + {:.0}", input / 1e6, (bytes - input) / 1e6),
        added.cell(),
        relabelled.cell(),
        changed.cell(),
    ])
}

/// What the evaluator answers in a second, one connection after the other between random pods.
fn queries_per_second(size: Size) -> Result<f64, AnyError> {
    const QUERIES: usize = 100_000;
    let mut world = World::default();
    for number in 0..size.policies {
        world.apply(ModelChange::PutPolicy(Arc::new(policy(size, number, 80))));
    }
    let pods: Vec<Workload> = (0..size.pods).map(|number| pod(size, number, None)).collect();
    let party = |number: usize| Party::Workload(pods[number % pods.len()].id.clone());
    let connection =
        |query: usize| Connection::new(party(query * 7_919), party(query * 104_729 + 1), Protocol::TCP, 80);
    let connections: Vec<Connection> = (0..QUERIES).map(connection).collect();
    pods.iter().cloned().map(put).for_each(|change| world.apply(change));
    let start = Instant::now();
    let evaluator = Evaluator::new(&world);
    for connection in &connections {
        evaluator.decide(connection)?;
    }
    Ok(QUERIES as f64 / start.elapsed().as_secs_f64())
}

/// A row's name, its size, and whether policies come first.
const ROWS: &[(&str, Size, bool)] = &[
    ("10,000 pods, 1,000 policies, 100 nodes", Size { pods: 10_000, policies: 1_000, nodes: 100 }, false),
    ("the same, policies first", Size { pods: 10_000, policies: 1_000, nodes: 100 }, true),
    ("100,000 pods, 10,000 policies, 1,000 nodes", Size { pods: 100_000, policies: 10_000, nodes: 1_000 }, false),
];

fn main() -> Result<(), AnyError> {
    if let Some(row) = std::env::args().nth(1) {
        let (_, size, policies_first) = ROWS[row.parse::<usize>()?];
        println!("{}", measure(size, policies_first)?.join("\t"));
        return Ok(());
    }
    let mut table = Table::new(&[
        "",
        "local endpoints",
        "items",
        "cold, ms",
        "MB: model + compiler",
        "pod added or removed (p50 / p99)",
        "label changed",
        "policy changed",
    ]);
    for (index, (name, ..)) in ROWS.iter().enumerate() {
        let output = std::process::Command::new(std::env::current_exe()?).arg(index.to_string()).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let cells = String::from_utf8(output.stdout)?;
        let row: Vec<String> = std::iter::once(*name).chain(cells.trim().split('\t')).map(str::to_owned).collect();
        table.row(&row);
    }
    println!("{table}");
    for (name, size, _) in ROWS.iter().filter(|(_, _, policies_first)| !policies_first) {
        println!("evaluator, {name}: {:.0} queries/s over 100,000 of random pairs", queries_per_second(*size)?);
    }
    Ok(())
}
