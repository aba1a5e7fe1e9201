//! A node: a namespace on a segment, and the backend opened in it as an agent would. Never a store, never a socket of an
//! agent's: the test stages what the node learns.

use super::pod::Pod;
use super::underlay::{Underlays, v4_of, v6_of};
use super::wait::block_on;
use cni_core::backend::{
    Backend, Change, CommitReport, Gauge, Inspect, Meter, NetworkChange, OpenRequest, Plan, Result,
};
use cni_core::model::{
    Attributes, Endpoint, EndpointId, InterfaceName, LocalBlock, NetworkItem, NodeContext, NodeName, Peer, PeerPrefix,
    Underlay,
};
use cni_core::policy::model::Direction;
use net_linux::attach::{AttachRequest, Attacher};
use net_linux::netns::NetNs;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

enum Command {
    Stage(Vec<NetworkChange>, oneshot::Sender<CommitReport>),
    /// Another section, and the one to go back to.
    Propose([Value; 2], oneshot::Sender<Result<Plan>>),
}

/// A node with an agent's loop: stage, commit, and resync when the watch wakes.
pub struct Node {
    /// From 1 up; from 9 up on the second segment.
    pub number: u8,
    /// The node's namespace, with `eth0` on the segment.
    pub netns: NetNs,
    /// What the backend said when it was opened last.
    pub pod_mtu_bytes: u32,
    /// What peers get of it, as the backend said when it was opened last.
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// What the backend wanted the operator to know when it was opened last.
    pub notices: Vec<String>,
    /// The backend's section of the configuration, from the next start on.
    pub section: Value,
    pub(super) labels: Attributes,
    /// The pod's endpoint, once it is attached.
    pub(super) attached: Option<Endpoint>,
    backend: &'static dyn Backend,
    inspect: Option<Arc<dyn Inspect>>,
    meter: Option<Arc<dyn Meter>>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    agent: Option<JoinHandle<()>>,
    state_dir: tempfile::TempDir,
}

impl Node {
    /// A node without labels on the segment of its number, with the backend opened.
    pub fn new(underlays: &Underlays, number: u8, backend: &'static dyn Backend, section: &Value) -> Self {
        Self::labelled(underlays, number, backend, section, Attributes::default())
    }

    pub(super) fn labelled(
        underlays: &Underlays,
        number: u8,
        backend: &'static dyn Backend,
        section: &Value,
        labels: Attributes,
    ) -> Self {
        let netns = NetNs::new().unwrap();
        underlays.plug(number, &netns);
        let mut node = Self {
            number,
            netns,
            pod_mtu_bytes: 0,
            attributes: BTreeMap::new(),
            notices: Vec::new(),
            section: section.clone(),
            labels,
            attached: None,
            backend,
            inspect: None,
            meter: None,
            commands: None,
            agent: None,
            state_dir: tempfile::tempdir().unwrap(),
        };
        node.start();
        node
    }

    /// `node-` and the number.
    pub fn name(&self) -> NodeName {
        NodeName::new(&format!("node-{}", self.number)).unwrap()
    }

    /// What the backend gets to know of its own node.
    pub fn context(&self) -> NodeContext {
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
    pub fn start(&mut self) {
        let (commands, mut inbox) = mpsc::unbounded_channel();
        let (opened, open) = std::sync::mpsc::channel();
        let request = OpenRequest {
            node: self.context(),
            config: self.section.clone(),
            state_dir: self.state_dir.path().to_owned(),
            host_stack_for: Vec::new(),
        };
        let (netns, backend) = (self.netns.clone(), self.backend);
        let agent = std::thread::spawn(move || {
            netns.enter().unwrap();
            block_on(async move {
                let mut parts = backend.open(request).await.unwrap();
                let mut drift = parts.drift.take().unwrap();
                opened
                    .send((parts.pod_mtu_bytes, parts.attributes, parts.notices, parts.inspect, parts.meter))
                    .unwrap();
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
                            Some(Command::Propose([section, back], reply)) => {
                                let staged = parts.datapath.stage(Change::Config(section));
                                let plan = staged.map(|()| parts.datapath.plan());
                                parts.datapath.stage(Change::Config(back)).unwrap();
                                let _ = reply.send(plan);
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
        (self.pod_mtu_bytes, self.attributes, self.notices, self.inspect, self.meter) =
            open.recv().expect("the backend did not open");
        (self.commands, self.agent) = (Some(commands), Some(agent));
    }

    /// Ends the agent's loop and leaves the kernel as it is.
    pub fn stop(&mut self) {
        self.commands = None;
        if let Some(agent) = self.agent.take() {
            agent.join().unwrap();
        }
    }

    /// Stages and commits.
    pub fn stage(&self, changes: Vec<NetworkChange>) -> CommitReport {
        let (reply, answer) = oneshot::channel();
        self.commands.as_ref().unwrap().send(Command::Stage(changes, reply)).ok().unwrap();
        answer.blocking_recv().unwrap()
    }

    /// What another section of the configuration would write.
    ///
    /// # Errors
    /// The backend's refusal.
    pub fn plan_for(&self, section: &Value) -> Result<Plan> {
        let (reply, answer) = oneshot::channel();
        let sections = [section.clone(), self.section.clone()];
        self.commands.as_ref().unwrap().send(Command::Propose(sections, reply)).ok().unwrap();
        answer.blocking_recv().unwrap()
    }

    /// Stages and commits what has to get through whole.
    pub fn stage_all(&self, changes: Vec<NetworkChange>) {
        let report = self.stage(changes);
        assert!(report.is_complete(), "{report:#?}");
    }

    /// This node as the others see it.
    pub fn peer(&self) -> Peer {
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
    pub fn blocks(&self) -> Vec<NetworkChange> {
        let blocks = self.peer().prefixes.into_iter().map(|prefix| LocalBlock {
            prefix: prefix.prefix,
            pool: None,
            encapsulation: None,
            node_address: Some(prefix.prefix.network()),
        });
        blocks.map(|block| Change::Put(NetworkItem::Block(block))).collect()
    }

    /// Attaches a pod as the agent would.
    pub(super) fn attach(&mut self) -> Pod {
        let (pod, report) = self.try_attach();
        assert!(report.is_complete(), "{report:#?}");
        pod
    }

    /// The id of this node's pod.
    pub fn endpoint(&self) -> EndpointId {
        EndpointId::of(&format!("pod{}", self.number), "eth0").unwrap()
    }

    /// Attaches a pod, and what the commit said.
    pub fn try_attach(&mut self) -> (Pod, CommitReport) {
        let (pod, endpoint, report) = self.attach_as(self.endpoint(), 2);
        self.attached = Some(endpoint);
        (pod, report)
    }

    /// Attaches a second pod, which goes with the test: an agent that starts is not told of it.
    pub fn attach_another(&mut self) -> Pod {
        let id = EndpointId::of(&format!("pod{}-another", self.number), "eth0").unwrap();
        let (pod, _, report) = self.attach_as(id, 3);
        assert!(report.is_complete(), "{report:#?}");
        pod
    }

    /// With the address of this number in the node's blocks.
    fn attach_as(&self, id: EndpointId, last: u8) -> (Pod, Endpoint, CommitReport) {
        let netns = NetNs::new().unwrap();
        let block = u16::from_str_radix(&self.number.to_string(), 16).unwrap();
        let addresses: Vec<IpAddr> = vec![
            Ipv4Addr::new(10, 244, self.number, last).into(),
            Ipv6Addr::new(0xfd00, block, 0, 0, 0, 0, 0, last.into()).into(),
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
        let report = self.stage(vec![Change::Put(NetworkItem::Endpoint(endpoint.clone()))]);
        (Pod::serving(netns, addresses), endpoint, report)
    }

    /// What the backend answers.
    ///
    /// # Errors
    /// The backend's.
    pub fn ask(&self, question: &str, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        block_on(self.inspect.as_ref().unwrap().ask(question, &arguments))
    }

    /// Numbers for monitors.
    pub fn gauges(&self) -> Vec<Gauge> {
        block_on(self.inspect.as_ref().unwrap().gauges())
    }

    /// Packets that the backend dropped, by direction and the reason's word, where there are any.
    pub fn dropped(&self) -> BTreeMap<(Option<Direction>, &'static str), u64> {
        let all = self.meter.as_ref().unwrap().dropped().unwrap();
        all.into_iter().filter(|one| one.packets > 0).map(|one| ((one.direction, one.word()), one.packets)).collect()
    }

    /// The pod's endpoint with one more address.
    pub fn endpoint_with(&self, address: IpAddr) -> Endpoint {
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
