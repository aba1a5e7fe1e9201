//! A node, one of its pods and a host outside, in namespaces, with the engine on the node. Never a policy of its own.

use crate::attached::{CLIENT, pod};
use crate::conformance::config;
use crate::place::{block_on, in_own_place, run};
use backend_ebpf::engine;
use cni_core::backend::{Change, CommitReport};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{
    Action, HostInterfaces, HostPart, Identity, Kinds, Mode, Order, Peer, Policy, PolicyId, PortRange, Ports, Protocol,
    Rule, Rules, Selector, Stage, Subject, Tier, Traffic, Workload, WorkloadId, WorkloadKind,
};
use cni_core::policy::program::PolicyEngine;
use cni_core::policy::world::ModelChange;
use cni_core::store::{Kind, ObjectKey};
use cni_core::testkit::policy::Items;
use net_linux::netns::NetNs;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use testlab::bed::{Pod, cable};

/// Where all echo, over TCP and UDP.
pub(super) const ECHO: u16 = 7;
/// How long to wait for what must not come.
const SOON: Duration = Duration::from_millis(300);
/// For how many times as long to wait for what must come: longer than on any busy machine.
const PATIENCE: usize = 100;

pub(super) const HOSTS: Kinds = Kinds::of(WorkloadKind::HostEndpoint);

/// The node is the calling thread's namespace.
pub(super) struct Node {
    pub(super) node: Pod,
    pub(super) pod: Pod,
    pub(super) outside: Pod,
    pub(super) compiler: Compiler,
    pub(super) engine: Box<dyn PolicyEngine>,
    told: Items,
}

fn addresses(texts: [&str; 2]) -> Vec<IpAddr> {
    texts.map(|text| text.parse().unwrap()).to_vec()
}

fn workload(kind: WorkloadKind, name: &str, addresses: &[IpAddr], host: Option<HostPart>) -> Workload {
    let namespace = (kind == WorkloadKind::Pod).then(|| Arc::from("shop"));
    Workload {
        id: WorkloadId { kind, namespace: namespace.clone(), name: name.into() },
        identity: Arc::new(Identity { namespace, ..Identity::new(kind) }),
        addresses: addresses.to_vec(),
        networks: Vec::new(),
        node: Some("n1".into()),
        ports: Vec::new(),
        host_network: false,
        host,
    }
}

/// A policy about some kinds, all of them, in the tier `default`.
pub(super) fn policy(name: &str, kinds: Kinds, ingress: Option<Rules>, egress: Option<Rules>) -> Policy {
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

/// Only this is allowed.
pub(super) fn allow(peer: Peer, port: Option<(Protocol, u16)>) -> Option<Rules> {
    let traffic = port.map_or_else(Traffic::any, |(protocol, port)| {
        Traffic::to_ports(protocol, Ports { ranges: vec![PortRange::one(port)], ..Ports::default() })
    });
    let rule = Rule { source: peer, traffic: vec![traffic], ..Rule::new("spec.ingress[0]", Action::Allow) };
    Some(Rules { rules: vec![rule], isolates: true })
}

pub(super) fn named() -> HostInterfaces {
    HostInterfaces::Named("eth0".into())
}

impl Node {
    /// Runs `work` on a node without host endpoints, with this failsafe port both ways.
    pub(super) fn run(failsafe: &str, work: impl FnOnce(&mut Self) + Send) {
        in_own_place(|| work(&mut Self::new(failsafe)));
    }

    fn new(failsafe: &str) -> Self {
        let (node, outside) = (NetNs::current().unwrap(), NetNs::new().unwrap());
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
        }
        let attached = pod(&node, CLIENT);
        cable((&node, "eth0"), (&outside, "eth0"));
        let plug = |v4: &str, v6: &str| {
            run("ip link set lo up");
            run("ip link set eth0 up");
            run(&format!("ip address add {v4}/24 dev eth0"));
            run(&format!("ip address add {v6}/64 dev eth0 nodad"));
        };
        plug("192.0.2.1", "2001:db8::1");
        outside
            .run(|| {
                plug("192.0.2.9", "2001:db8::9");
                run("ip route add 10.9.0.0/16 via 192.0.2.1");
                run("ip -6 route add fd00::/16 via 2001:db8::1");
            })
            .unwrap();
        let open = vec![failsafe.parse().unwrap()];
        let mut all = Self {
            node: Pod::serving(node, addresses(["192.0.2.1", "2001:db8::1"])),
            pod: Pod::serving(attached, addresses(CLIENT.1)),
            outside: Pod::serving(outside, addresses(["192.0.2.9", "2001:db8::9"])),
            compiler: Compiler::with_failsafe("n1", Failsafe { ingress: open.clone(), egress: open }),
            engine: engine::open(&config()).unwrap(),
            told: Items::default(),
        };
        let (node, pod) = (all.node.addresses.clone(), all.pod.addresses.clone());
        let eth0 = InterfaceName::new("eth0").unwrap();
        all.compiler.set_interfaces([(eth0, BTreeSet::from_iter(node.clone()))].into());
        all.put(workload(WorkloadKind::Node, "n1", &node, None));
        all.put(workload(WorkloadKind::Pod, "client", &pod, None));
        all.compiler.put_endpoint(LocalEndpoint {
            id: EndpointId::of("client", "eth0").unwrap(),
            host_interface: InterfaceName::new(CLIENT.0).unwrap(),
            addresses: pod,
            pod: Some(("shop".into(), "client".into())),
        });
        all.commit();
        all
    }

    pub(super) fn put(&mut self, workload: Workload) {
        self.compiler.apply(ModelChange::PutWorkload(Arc::new(workload)));
    }

    /// The one host endpoint; `None`: none. An open one has a profile that allows.
    pub(super) fn host_endpoint(&mut self, part: Option<(HostInterfaces, bool)>) {
        let host = part.map(|(interfaces, open)| HostPart { interfaces, open });
        let endpoint = workload(WorkloadKind::HostEndpoint, "hep", &[], host);
        match endpoint.host {
            Some(_) => self.put(endpoint),
            None => self.compiler.apply(ModelChange::RemoveWorkload(endpoint.id)),
        }
    }

    pub(super) fn policy(&mut self, policy: Policy) {
        self.compiler.apply(ModelChange::PutPolicy(Arc::new(policy)));
    }

    pub(super) fn remove_policy(&mut self, policy: &Policy) {
        self.compiler.apply(ModelChange::RemovePolicy(policy.id.clone()));
    }

    /// Another process takes over, and is told everything.
    pub(super) fn successor(&mut self) {
        self.engine = engine::open(&config()).unwrap();
        self.told.0.values().for_each(|item| self.engine.stage(Change::Put(item.clone())).unwrap());
    }

    /// Commits what was said; what is left undone is in the report.
    pub(super) fn report(&mut self) -> CommitReport {
        for change in self.compiler.drain() {
            self.told.apply(change.clone());
            self.engine.stage(change).unwrap();
        }
        self.engine.stage(Change::InSync).unwrap();
        block_on(self.engine.commit())
    }

    pub(super) fn commit(&mut self) {
        let report = self.report();
        assert!(report.is_complete() && report.blocked.is_empty(), "{report:#?}");
    }
}

/// Whether datagrams come back, of both families alike.
pub(super) fn udp(from: &Pod, to: &Pod) -> bool {
    let each: Vec<bool> = to.addresses.iter().map(|address| passes(|| from.reaches(*address))).collect();
    assert!(each.iter().all(|one| *one == each[0]), "IPv4, then IPv6: {each:?}");
    each[0]
}

/// Whether TCP connections are answered, of both families alike.
pub(super) fn tcp(from: &Pod, to: &Pod) -> bool {
    let each: Vec<bool> = to.addresses.iter().map(|address| passes(|| connect(from, *address).is_some())).collect();
    assert!(each.iter().all(|one| *one == each[0]), "IPv4, then IPv6: {each:?}");
    each[0]
}

/// What must not pass fails a few times; what must may be late once on a busy machine.
fn passes(mut once: impl FnMut() -> bool) -> bool {
    (0..3).any(|_| once())
}

/// An open connection that echoes.
pub(super) fn connect(from: &Pod, to: IpAddr) -> Option<TcpStream> {
    let to = SocketAddr::new(to, ECHO);
    let mut stream = from.netns.run(|| TcpStream::connect_timeout(&to, SOON).ok()).unwrap()?;
    stream.set_read_timeout(Some(SOON)).unwrap();
    echoes(&mut stream).then_some(stream)
}

/// Whether a connection goes on.
pub(super) fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && (0..PATIENCE).any(|_| stream.read_exact(&mut [0]).is_ok())
}
