//! Nodes of one backend that know each other, with a pod on each. Never a store: each node is told what it would learn.

use super::node::Node;
use super::pod::Pod;
use super::underlay::Underlays;
use cni_core::backend::{Backend, Change};
use cni_core::model::NetworkItem;
use serde_json::Value;

/// Nodes that know each other, with a pod on each.
pub struct Cluster {
    /// In the order of their numbers as given.
    pub nodes: Vec<Node>,
    /// In the order of the nodes.
    pub pods: Vec<Pod>,
    /// What the nodes are plugged into.
    pub underlays: Underlays,
}

impl Cluster {
    /// Nodes with these numbers, each with the section of the configuration and without labels.
    pub fn new(backend: &'static dyn Backend, numbers: &[u8], section: &Value) -> Self {
        Self::on(Underlays::new(), backend, numbers, section)
    }

    /// The same on these segments.
    pub fn on(underlays: Underlays, backend: &'static dyn Backend, numbers: &[u8], section: &Value) -> Self {
        let node = |number: &u8| Node::new(&underlays, *number, backend, section);
        let nodes = numbers.iter().map(node).collect();
        Self::acquainted(underlays, nodes)
    }

    /// Nodes of which some have labels.
    pub fn labelled(backend: &'static dyn Backend, numbers: &[u8], section: &Value, labels: &[(u8, &str)]) -> Self {
        let underlays = Underlays::new();
        let node = |number: &u8| {
            let own = labels.iter().filter(|(of, _)| of == number).map(|(_, label)| ((*label).into(), "".into()));
            Node::labelled(&underlays, *number, backend, section, own.collect())
        };
        let nodes = numbers.iter().map(node).collect();
        Self::acquainted(underlays, nodes)
    }

    fn acquainted(underlays: Underlays, nodes: Vec<Node>) -> Self {
        let mut cluster = Self { nodes, pods: Vec::new(), underlays };
        cluster.nodes.iter().for_each(|node| cluster.introduce(node));
        cluster.pods = cluster.nodes.iter_mut().map(Node::attach).collect();
        cluster
    }

    /// Tells a node of its blocks, its pod and the others, as after a start.
    pub fn introduce(&self, node: &Node) {
        let peers = self.nodes.iter().filter(|peer| peer.number != node.number);
        let peers = peers.map(|peer| Change::Put(NetworkItem::Peer(peer.peer())));
        let pod = node.attached.iter().cloned().map(|endpoint| Change::Put(NetworkItem::Endpoint(endpoint)));
        node.stage_all(node.blocks().into_iter().chain(pod).chain(peers).chain([Change::InSync]).collect());
    }

    /// Gives a node other labels, as everybody learns.
    pub fn label(&mut self, at: usize, labels: &[&str]) {
        self.nodes[at].labels = labels.iter().map(|label| ((*label).into(), "".into())).collect();
        let relabelled = &self.nodes[at];
        relabelled.stage_all(vec![Change::Node(relabelled.context())]);
        for node in self.nodes.iter().filter(|node| node.number != relabelled.number) {
            node.stage_all(vec![Change::Put(NetworkItem::Peer(relabelled.peer()))]);
        }
    }

    /// Every pod reaches every other over TCP, UDP and ICMP, v4 and v6.
    pub fn all_pairs_talk(&self) {
        for from in &self.pods {
            for to in &self.pods {
                for address in &to.addresses {
                    from.talks_to(*address);
                }
            }
        }
    }
}
