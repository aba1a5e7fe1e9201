//! Nodes in namespaces on two segments with a router between them, each with the backend opened as an agent would.
//!
//! ```text
//!   segment A 192.0.2.0/24, 2001:db8:a::/64        segment B 198.51.100.0/24, 2001:db8:b::/64
//!     node 1   node 2   ..            router              node 9   (numbers from 9 up)
//! ```

use crate::bed::{block_on, ip_batch, run};
use backend_bgp::Bgp;
use cni_core::backend::{Backend, Change, CommitReport, Inspect, NetworkChange, OpenRequest, Result};
use cni_core::model::{
    Attributes, Endpoint, EndpointId, InterfaceName, LocalBlock, NetworkItem, NodeContext, NodeName, Peer, PeerPrefix,
    Underlay,
};
use net_linux::attach::{AttachRequest, Attacher};
use net_linux::netns::NetNs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(30);

/// The segments and their router.
pub(crate) struct Underlays {
    router: NetNs,
}

impl Underlays {
    pub(crate) fn new() -> Self {
        let router = NetNs::new().expect("the tests need root, to make network namespaces");
        router
            .run(|| {
                let lines = [
                    "link set lo up",
                    "link add seg-a type bridge",
                    "link add seg-b type bridge",
                    "address add 192.0.2.254/24 dev seg-a",
                    "address add 198.51.100.254/24 dev seg-b",
                    "address add 2001:db8:a::fe/64 dev seg-a nodad",
                    "address add 2001:db8:b::fe/64 dev seg-b nodad",
                    "link set seg-a up",
                    "link set seg-b up",
                ];
                ip_batch(&lines.map(str::to_owned));
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
                std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            })
            .unwrap();
        Self { router }
    }

    /// Plugs a node in: a veth between the router's namespace and the node's, moved by a pinned name of the test's own.
    fn plug(&self, number: u8, node: &NetNs) {
        let pin = std::env::temp_dir().join(format!("cnidarian-test-{}-{}", std::process::id(), node.id().inode));
        node.pin(&pin).unwrap();
        let segment = if number < 9 { "seg-a" } else { "seg-b" };
        let path = pin.display();
        self.router
            .run(|| {
                ip_batch(&[
                    format!("link add port{number} type veth peer name eth0"),
                    format!("link set port{number} master {segment} up"),
                    format!("link set eth0 netns {path}"),
                ]);
            })
            .unwrap();
        NetNs::unpin(&pin).unwrap();
    }
}

pub(crate) fn v4_of(number: u8) -> Ipv4Addr {
    if number < 9 { Ipv4Addr::new(192, 0, 2, number) } else { Ipv4Addr::new(198, 51, 100, number) }
}

pub(crate) fn v6_of(number: u8) -> Ipv6Addr {
    let segment = if number < 9 { 0xa } else { 0xb };
    Ipv6Addr::new(0x2001, 0xdb8, segment, 0, 0, 0, 0, number.into())
}

enum Command {
    Stage(Vec<NetworkChange>, oneshot::Sender<CommitReport>),
}

/// A node with an agent's loop: stage, commit, and resync when the watch wakes.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) netns: NetNs,
    pub(crate) pod_mtu_bytes: u32,
    pub(crate) attributes: BTreeMap<Arc<str>, Arc<str>>,
    pub(crate) labels: Attributes,
    /// The pod's endpoint, once it is attached.
    attached: Option<Endpoint>,
    inspect: Option<Arc<dyn Inspect>>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    agent: Option<JoinHandle<()>>,
    state_dir: tempfile::TempDir,
    pub(crate) section: Value,
}

impl Node {
    pub(crate) fn new(underlays: &Underlays, number: u8, section: &Value, labels: Attributes) -> Self {
        let netns = NetNs::new().unwrap();
        underlays.plug(number, &netns);
        netns
            .run(|| {
                let gateway =
                    if number < 9 { ("192.0.2.254", "2001:db8:a::fe") } else { ("198.51.100.254", "2001:db8:b::fe") };
                ip_batch(&[
                    "link set lo up".to_owned(),
                    "link set eth0 up".to_owned(),
                    format!("address add {}/24 dev eth0", v4_of(number)),
                    format!("address add {}/64 dev eth0 nodad", v6_of(number)),
                    format!("route add default via {}", gateway.0),
                    format!("route add ::/0 via {}", gateway.1),
                ]);
            })
            .unwrap();
        let mut node = Self {
            number,
            netns,
            pod_mtu_bytes: 0,
            attributes: BTreeMap::new(),
            labels,
            attached: None,
            inspect: None,
            commands: None,
            agent: None,
            state_dir: tempfile::tempdir().unwrap(),
            section: section.clone(),
        };
        node.start();
        node
    }

    pub(crate) fn name(&self) -> NodeName {
        NodeName::new(&format!("node-{}", self.number)).unwrap()
    }

    pub(crate) fn context(&self) -> NodeContext {
        NodeContext {
            labels: self.labels.clone(),
            name: self.name(),
            underlay: Underlay {
                interface: InterfaceName::new("eth0").unwrap(),
                index: 2,
                mtu_bytes: 1500,
                v4: Some(format!("{}/24", v4_of(self.number)).parse().unwrap()),
                v6: Some(format!("{}/64", v6_of(self.number)).parse().unwrap()),
            },
            masquerade: None,
        }
    }

    /// Starts the agent's loop in the node's namespace.
    pub(crate) fn start(&mut self) {
        let (commands, mut inbox) = mpsc::unbounded_channel();
        let (opened, open) = std::sync::mpsc::channel();
        let request = OpenRequest {
            node: self.context(),
            config: self.section.clone(),
            state_dir: self.state_dir.path().to_owned(),
        };
        let netns = self.netns.clone();
        let agent = std::thread::spawn(move || {
            netns.enter().unwrap();
            block_on(async move {
                let mut parts = Bgp.open(request).await.unwrap();
                let mut drift = parts.drift.take().unwrap();
                opened.send((parts.pod_mtu_bytes, parts.attributes, parts.inspect.take())).unwrap();
                loop {
                    tokio::select! {
                        command = inbox.recv() => match command {
                            None => return,
                            Some(Command::Stage(changes, reply)) => {
                                for change in changes {
                                    // What is not acceptable is in the report.
                                    let _ = parts.datapath.stage(change);
                                }
                                let _ = reply.send(parts.datapath.commit().await);
                            }
                        },
                        changed = drift.changed() => {
                            changed.unwrap();
                            parts.datapath.resync().await.unwrap();
                        }
                    }
                }
            });
        });
        (self.pod_mtu_bytes, self.attributes, self.inspect) = open.recv().expect("the backend did not open");
        (self.commands, self.agent) = (Some(commands), Some(agent));
    }

    /// Ends the agent's loop and leaves the kernel as it is.
    pub(crate) fn stop(&mut self) {
        self.commands = None;
        if let Some(agent) = self.agent.take() {
            agent.join().unwrap();
        }
    }

    /// Stages and commits.
    pub(crate) fn stage(&self, changes: Vec<NetworkChange>) -> CommitReport {
        let (reply, answer) = oneshot::channel();
        self.commands.as_ref().unwrap().send(Command::Stage(changes, reply)).ok().unwrap();
        answer.blocking_recv().unwrap()
    }

    pub(crate) fn stage_all(&self, changes: Vec<NetworkChange>) {
        let report = self.stage(changes);
        assert!(report.is_complete(), "{report:#?}");
    }

    /// This node as the others see it.
    pub(crate) fn peer(&self) -> Peer {
        let prefix = |text: String| PeerPrefix { prefix: text.parse().unwrap(), encapsulation: None };
        Peer {
            node: self.name(),
            v4: Some(v4_of(self.number)),
            v6: Some(v6_of(self.number)),
            prefixes: vec![
                prefix(format!("10.244.{}.0/24", self.number)),
                prefix(format!("fd00:{}::/64", self.number)),
            ],
            labels: self.labels.clone(),
            attributes: self.attributes.clone().into(),
        }
    }

    /// This node's blocks; the first address of each is the node's own.
    pub(crate) fn blocks(&self) -> Vec<NetworkChange> {
        let blocks = self.peer().prefixes.into_iter().map(|prefix| LocalBlock {
            prefix: prefix.prefix,
            pool: None,
            encapsulation: None,
            node_address: Some(prefix.prefix.network()),
        });
        blocks.map(|block| Change::Put(NetworkItem::Block(block))).collect()
    }

    /// Attaches a pod as the agent would.
    fn attach(&mut self) -> Pod {
        let netns = NetNs::new().unwrap();
        let id = EndpointId::of(&format!("pod{}", self.number), "eth0").unwrap();
        let addresses: Vec<IpAddr> = vec![
            Ipv4Addr::new(10, 244, self.number, 2).into(),
            Ipv6Addr::new(0xfd00, u16::from_str_radix(&self.number.to_string(), 16).unwrap(), 0, 0, 0, 0, 0, 2).into(),
        ];
        let request = AttachRequest::new(id.clone(), addresses.clone(), self.pod_mtu_bytes);
        self.netns.run(|| Attacher::open().unwrap().attach(&netns, &request).unwrap()).unwrap();
        let endpoint = Endpoint {
            id,
            pod: None,
            host_interface: request.host_interface(),
            host_mac: request.host_mac(),
            pod_mac: request.pod_mac(),
            addresses: addresses.clone(),
        };
        self.attached = Some(endpoint.clone());
        self.stage_all(vec![Change::Put(NetworkItem::Endpoint(endpoint))]);
        Pod::new(netns, addresses)
    }

    /// What the backend answers.
    pub(crate) fn ask(&self, question: &str, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        block_on(self.inspect.as_ref().unwrap().ask(question, &arguments))
    }

    /// Numbers for monitors.
    pub(crate) fn gauges(&self) -> Vec<cni_core::backend::Gauge> {
        block_on(self.inspect.as_ref().unwrap().gauges())
    }

    /// The pod's endpoint with one more address.
    pub(crate) fn endpoint_with(&self, address: IpAddr) -> Endpoint {
        let mut endpoint = self.attached.clone().unwrap();
        endpoint.addresses.push(address);
        endpoint
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(agent) = self.agent.take() {
            let ended = agent.join();
            if !std::thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

use crate::pod::Pod;

/// Nodes that know each other, with a pod on each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<Pod>,
    _underlays: Underlays,
}

impl Cluster {
    /// Nodes with these numbers, each with its section and labels.
    pub(crate) fn new(numbers: &[u8], section: &Value, labels: &[(u8, &str)]) -> Self {
        let underlays = Underlays::new();
        let node = |number: &u8| {
            let own = labels.iter().filter(|(of, _)| of == number).map(|(_, label)| ((*label).into(), "".into()));
            Node::new(&underlays, *number, section, own.collect())
        };
        let nodes: Vec<Node> = numbers.iter().map(node).collect();
        let mut cluster = Self { nodes, pods: Vec::new(), _underlays: underlays };
        cluster.nodes.iter().for_each(|node| cluster.introduce(node));
        cluster.pods = cluster.nodes.iter_mut().map(Node::attach).collect();
        cluster
    }

    /// Tells a node of its blocks, its pod and the others, as after a start.
    pub(crate) fn introduce(&self, node: &Node) {
        let peers = self.nodes.iter().filter(|peer| peer.number != node.number);
        let peers = peers.map(|peer| Change::Put(NetworkItem::Peer(peer.peer())));
        let pod = node.attached.iter().cloned().map(|endpoint| Change::Put(NetworkItem::Endpoint(endpoint)));
        node.stage_all(node.blocks().into_iter().chain(pod).chain(peers).chain([Change::InSync]).collect());
    }

    /// Gives a node other labels, as everybody learns.
    pub(crate) fn label(&mut self, at: usize, labels: &[&str]) {
        self.nodes[at].labels = labels.iter().map(|label| ((*label).into(), "".into())).collect();
        let relabelled = &self.nodes[at];
        relabelled.stage_all(vec![Change::Node(relabelled.context())]);
        for node in self.nodes.iter().filter(|node| node.number != relabelled.number) {
            node.stage_all(vec![Change::Put(NetworkItem::Peer(relabelled.peer()))]);
        }
    }

    /// Waits until every pod hears an answer of every other, in both families.
    pub(crate) fn all_pairs_talk(&self) {
        let deadline = Instant::now() + PATIENCE;
        for from in &self.pods {
            for to in self.pods.iter().flat_map(|pod| &pod.addresses) {
                while !from.reaches(*to) {
                    assert!(Instant::now() < deadline, "{:?} does not reach {to}: {}", from.addresses, self.survey());
                }
            }
        }
    }

    /// Sessions and learned routes of all nodes.
    pub(crate) fn survey(&self) -> String {
        let node = |node: &Node| {
            let look = || format!("{}{}", run("ss -Htn"), run("ip route show protocol 204"));
            format!("\nnode {}:\n{}", node.number, node.netns.run(look).unwrap())
        };
        self.nodes.iter().map(node).collect()
    }

    /// Waits until a node has so many sessions.
    pub(crate) fn wait_sessions(&self, at: usize, wanted: usize) {
        let sessions = || {
            let peers = self.nodes[at].ask("bgp peers", &[]).unwrap();
            peers.as_array().unwrap().iter().filter(|peer| peer["state"] == "Established").count()
        };
        let deadline = Instant::now() + PATIENCE;
        while sessions() != wanted {
            assert!(Instant::now() < deadline, "node {at} has not {wanted} sessions: {}", self.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether a node has learned a route for a prefix.
    pub(crate) fn learned(&self, at: usize, prefix: &str) -> bool {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        let found = self.nodes[at].netns.run(|| run(&format!("ip {family} route show {prefix} protocol 204"))).unwrap();
        !found.trim().is_empty()
    }

    pub(crate) fn wait_learned(&self, at: usize, prefix: &str, wanted: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.learned(at, prefix) != wanted {
            assert!(Instant::now() < deadline, "node {at}: {prefix} learned is not {wanted}: {}", self.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
