//! The node's own program on real packets. Never a pod's program but where the two meet.

mod early;
mod fixed;
mod oracle;

use crate::node::Node;
use cni_core::model::InterfaceName;
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{
    HostInterfaces, HostPart, Identity, Kinds, LabelMap, Mode, Order, Policy, PolicyId, Rules, Selector, Stage,
    Subject, Tier, Workload, WorkloadId, WorkloadKind,
};
use cni_core::policy::program::EndpointProgram;
use cni_core::policy::world::{ModelChange, World};
use cni_core::store::{Kind, ObjectKey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// The node of [`Node`] in the model: itself, its two pods, what it may have of host endpoints, and what is outside.
struct Cluster {
    node: Node,
    world: World,
    compiler: Compiler,
}

fn workload(kind: WorkloadKind, name: &str, node: Option<&str>, addresses: &[IpAddr]) -> Workload {
    let namespace = (kind == WorkloadKind::Pod).then(|| Arc::from("shop"));
    let labels: LabelMap = Arc::new([("app".into(), Arc::from(name))].into());
    let identity = Identity { labels, namespace: namespace.clone(), ..Identity::new(kind) };
    Workload {
        id: WorkloadId { kind, namespace, name: name.into() },
        identity: Arc::new(identity),
        addresses: addresses.to_vec(),
        networks: Vec::new(),
        node: node.map(Arc::from),
        ports: Vec::new(),
        host_network: false,
        host: None,
    }
}

/// A host endpoint of the node; with its addresses where `interfaces` is one interface.
fn host_endpoint(name: &str, interfaces: HostInterfaces, open: bool, addresses: &[IpAddr]) -> Workload {
    let host = Some(HostPart { interfaces, open });
    Workload { host, ..workload(WorkloadKind::HostEndpoint, name, Some("n1"), addresses) }
}

/// A policy about some kinds, all of them, in the tier `default`.
fn policy(name: &str, kinds: Kinds, ingress: Option<Rules>, egress: Option<Rules>) -> Policy {
    let object = ObjectKey::cluster(Kind::new("projectcalico.org/v3", "GlobalNetworkPolicy"), name);
    Policy {
        id: PolicyId { object, part: 0 },
        tier: Tier::DEFAULT.into(),
        order: Order::at(1),
        subject: Subject { kinds, selector: Selector::Everything },
        ingress,
        egress,
        mode: Mode::Enforced,
        stage: Stage::Tracked,
        on_forward: false,
    }
}

impl Cluster {
    /// Without host endpoints and policies, and with 81/TCP as failsafe port both ways.
    fn new() -> Self {
        let open = vec!["81/TCP".parse().unwrap()];
        let world = World { failsafe: Failsafe { ingress: open.clone(), egress: open }, ..World::default() };
        let node = Node::new();
        let compiler = Compiler::new("n1");
        let mut cluster = Self { node, world, compiler };
        let Node { node, a, b, .. } = &cluster.node;
        let workloads = [
            workload(WorkloadKind::Node, "n1", Some("n1"), &node.addresses),
            workload(WorkloadKind::Pod, "a", Some("n1"), &a.addresses),
            workload(WorkloadKind::Pod, "b", Some("n1"), &b.addresses),
        ];
        for workload in workloads {
            cluster.world.apply(ModelChange::PutWorkload(Arc::new(workload)));
        }
        cluster.compiler = cluster.fresh();
        cluster.commit();
        cluster
    }

    /// A compiler that was told everything.
    fn fresh(&self) -> Compiler {
        let mut compiler = Compiler::with_failsafe("n1", self.world.failsafe.clone());
        let eth0 = InterfaceName::new("eth0").unwrap();
        compiler.set_interfaces([(eth0, BTreeSet::from(self.node.node.addresses))].into());
        for workload in self.world.workloads.values() {
            compiler.apply(ModelChange::PutWorkload(workload.clone()));
        }
        for policy in self.world.policies.values() {
            compiler.apply(ModelChange::PutPolicy(policy.clone()));
        }
        for (name, program) in [("a", self.node.endpoint_a()), ("b", self.node.endpoint_b())] {
            let EndpointProgram { endpoint: id, host_interface, addresses, .. } = program;
            let pod = Some(("shop".into(), name.into()));
            compiler.put_endpoint(LocalEndpoint { id, host_interface, addresses, pod });
        }
        compiler
    }

    fn apply(&mut self, change: ModelChange) {
        self.world.apply(change.clone());
        self.compiler.apply(change);
    }

    fn put(&mut self, workload: Workload) {
        self.apply(ModelChange::PutWorkload(Arc::new(workload)));
    }

    fn put_policy(&mut self, policy: Policy) {
        self.apply(ModelChange::PutPolicy(Arc::new(policy)));
    }

    fn remove_policies(&mut self) {
        for id in self.world.policies.keys().cloned().collect::<Vec<_>>() {
            self.apply(ModelChange::RemovePolicy(id));
        }
    }

    fn remove_host_endpoints(&mut self) {
        let all = self.world.workloads.keys().filter(|id| id.kind == WorkloadKind::HostEndpoint);
        for id in all.cloned().collect::<Vec<_>>() {
            self.apply(ModelChange::RemoveWorkload(id));
        }
    }

    fn commit(&mut self) {
        let changes = self.compiler.drain();
        self.node.change(changes);
    }
}
