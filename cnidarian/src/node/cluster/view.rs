//! Between the store's events and the peer table. Pure; never keeps what the table keeps.

use cni_core::backend::{Change, NetworkChange};
use cni_core::cluster::PeerTable;
use cni_core::ipam::pools::{IpBlockSpec, IpPool};
use cni_core::model::{NetworkItem, NetworkKey, NodeName, Peer};
use cni_core::store::resources::Node;
use cni_core::store::{Event, InvalidObject, Kind, Object, ObjectKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The objects that are in force, by kind and name, in as few words as removing them again needs.
pub(super) struct View {
    own: NodeName,
    /// Whether pods live in nodes' `podCIDRs`, not in blocks of pools.
    pod_cidrs: bool,
    table: PeerTable,
    own_node: Option<Node>,
    nodes: BTreeMap<NodeName, Box<[IpNet]>>,
    blocks: BTreeMap<Arc<str>, IpNet>,
    pools: BTreeMap<Arc<str>, IpNet>,
    /// What the datapath was told last.
    peers: BTreeMap<NodeName, Peer>,
    invalid: BTreeMap<ObjectKey, String>,
}

impl View {
    pub(super) fn new(own: NodeName, pod_cidrs: bool, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Self {
        Self {
            table: PeerTable::new(own.clone(), v4, v6),
            own,
            pod_cidrs,
            own_node: None,
            nodes: BTreeMap::new(),
            blocks: BTreeMap::new(),
            pools: BTreeMap::new(),
            peers: BTreeMap::new(),
            invalid: BTreeMap::new(),
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub(super) fn own_node(&self) -> Option<&Node> {
        self.own_node.as_ref()
    }

    /// What of the store cannot be followed: object and reason.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        let invalid = self.invalid.iter().map(|(key, error)| (key.to_string(), error.clone()));
        let table = self.table.problems().into_iter().map(|problem| ("cluster".to_owned(), problem.to_string()));
        invalid.chain(table).collect()
    }

    /// Every prefix that pods of the cluster have, sorted.
    pub(super) fn pod_prefixes(&self) -> Vec<IpNet> {
        let all: BTreeSet<IpNet> = if self.pod_cidrs {
            self.nodes.values().flat_map(|cidrs| cidrs.iter().copied()).collect()
        } else {
            self.pools.values().copied().collect()
        };
        all.into_iter().collect()
    }

    /// Takes an event in and answers what changed for the datapath.
    pub(super) fn take(&mut self, kind: &Kind, event: &Event) -> Vec<NetworkChange> {
        match event {
            Event::Put(object) => self.put(object),
            Event::Delete(key) => self.remove(key),
            Event::Resynced(list) => {
                let listed: BTreeSet<&ObjectKey> = list.objects.iter().map(|object| &object.key).collect();
                for key in self.keys_of(kind).into_iter().filter(|key| !listed.contains(key)) {
                    self.remove(&key);
                }
                for object in &list.objects {
                    self.put(object);
                }
            }
        }
        self.changes()
    }

    pub(super) fn set_underlay(&mut self, v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>) -> Vec<NetworkChange> {
        self.table.set_underlay(v4, v6);
        self.changes()
    }

    /// The node's own addresses in its blocks.
    pub(super) fn set_node_addresses(&mut self, addresses: &[(IpNet, IpAddr)]) -> Vec<NetworkChange> {
        for (block, address) in addresses {
            self.table.set_node_address(*block, Some(*address));
        }
        self.changes()
    }

    fn keys_of(&self, kind: &Kind) -> Vec<ObjectKey> {
        let key = |name: &str| ObjectKey::cluster(kind.clone(), name);
        let invalid = self.invalid.keys().filter(|key| key.kind == *kind).cloned();
        let known: Vec<ObjectKey> = match kind {
            kind if *kind == Kind::NODE => self.nodes.keys().map(|name| key(name.as_str())).collect(),
            kind if *kind == Kind::IP_BLOCK => self.blocks.keys().map(|name| key(name)).collect(),
            _ => self.pools.keys().map(|name| key(name)).collect(),
        };
        known.into_iter().chain(invalid).collect()
    }

    fn put(&mut self, object: &Object) {
        let invalid = |error: cni_core::ipam::IpamError| InvalidObject::new(&object.key, "spec", error);
        let read = match &object.key.kind {
            kind if *kind == Kind::NODE => Node::try_from(object).map(|node| self.put_node(node)),
            kind if *kind == Kind::IP_BLOCK => {
                IpBlockSpec::from_object(object).map_err(invalid).map(|block| self.put_block(&object.key.name, &block))
            }
            _ => IpPool::from_object(object).map_err(invalid).map(|pool| {
                self.table.set_pool(&object.key.name, pool.encapsulation);
                self.pools.insert(object.key.name.clone(), pool.cidr);
            }),
        };
        match read {
            Ok(()) => {
                self.invalid.remove(&object.key);
            }
            // What was known of it before stays: a slip in a manifest is no reason to cut pods off.
            Err(error) => {
                tracing::warn!(%error, "an object of the store is not acceptable; what was known of it stays");
                self.invalid.insert(object.key.clone(), error.to_string());
            }
        }
    }

    fn put_node(&mut self, mut node: Node) {
        if !self.pod_cidrs {
            // Addresses come from pools, so nobody has an address of these.
            node.pod_cidrs.clear();
        }
        self.table.put_node(&node);
        self.nodes.insert(node.name.clone(), node.pod_cidrs.clone().into());
        if node.name == self.own {
            self.own_node = Some(node);
        }
    }

    fn put_block(&mut self, name: &Arc<str>, block: &IpBlockSpec) {
        if self.pod_cidrs {
            return;
        }
        if let Some(old) = self.blocks.insert(name.clone(), block.cidr).filter(|old| *old != block.cidr) {
            self.table.remove_block(old);
        }
        self.table.put_block(block.cidr, Some(&block.pool), &block.routes());
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.invalid.remove(key);
        match &key.kind {
            kind if *kind == Kind::NODE => {
                if let Ok(name) = NodeName::new(&key.name) {
                    self.nodes.remove(&name);
                    self.table.remove_node(&name);
                    if name == self.own {
                        self.own_node = None;
                    }
                }
            }
            kind if *kind == Kind::IP_BLOCK => {
                if let Some(block) = self.blocks.remove(&key.name) {
                    self.table.remove_block(block);
                }
            }
            _ => {
                self.pools.remove(&key.name);
                self.table.set_pool(&key.name, None);
            }
        }
    }

    fn changes(&mut self) -> Vec<NetworkChange> {
        let mut changes = self.table.changes();
        // A borrowed address alone is no block: the route to its pod is all that it needs here.
        let alone = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
        changes.retain(|change| match change {
            Change::Put(NetworkItem::Block(block)) => !alone(&block.prefix),
            Change::Remove(NetworkKey::Block(prefix)) => !alone(prefix),
            _ => true,
        });
        for change in &changes {
            match change {
                Change::Put(NetworkItem::Peer(peer)) => drop(self.peers.insert(peer.node.clone(), peer.clone())),
                Change::Remove(NetworkKey::Peer(name)) => drop(self.peers.remove(name)),
                _ => {}
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: &str, api: &str, name: &str, body: serde_json::Value) -> Event {
        let mut value = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}});
        for (key, part) in body.as_object().unwrap() {
            match key.as_str() {
                "annotations" => value["metadata"]["annotations"] = part.clone(),
                _ => value[key] = part.clone(),
            }
        }
        Event::Put(Arc::new(Object::from_value(value).unwrap()))
    }

    fn node(name: &str, v4: &str) -> Event {
        object("Node", "v1", name, json!({"annotations": {Node::V4_ADDRESS: v4}}))
    }

    fn block(cidr: &str, owner: &str) -> Event {
        let claim = json!({"node": owner, "range": cidr});
        let spec = json!({"pool": "p", "cidr": cidr, "owner": owner, "claims": [claim]});
        object("IPBlock", "cnidarian.io/v1", &cidr.replace(['.', '/'], "-"), json!({"spec": spec}))
    }

    fn view() -> View {
        View::new(NodeName::new("own").unwrap(), false, None, None)
    }

    /// The order in which nodes and blocks come does not matter.
    #[test]
    fn a_peer_is_its_node_and_its_blocks_whichever_comes_first() {
        let events = [(Kind::NODE, node("a", "192.0.2.1")), (Kind::IP_BLOCK, block("10.1.0.0/26", "a"))];
        let (mut one, mut other) = (view(), view());
        for (kind, event) in &events {
            one.take(kind, event);
        }
        for (kind, event) in events.iter().rev() {
            other.take(kind, event);
        }
        assert_eq!(one.peers, other.peers);
        assert_eq!(one.peers.len(), 1);
        let peer = one.peers().next().unwrap();
        assert_eq!(peer.prefixes.len(), 1);
        assert_eq!(peer.v4, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn the_same_event_again_changes_nothing() {
        let mut view = view();
        view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a"));
        assert_eq!(view.take(&Kind::NODE, &node("a", "192.0.2.1")).len(), 1);
        assert_eq!(view.take(&Kind::NODE, &node("a", "192.0.2.1")).len(), 0);
        assert_eq!(view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a")).len(), 0);
    }

    #[test]
    fn a_block_that_moves_touches_both_nodes_and_our_own_is_no_peer() {
        let mut view = view();
        view.take(&Kind::NODE, &node("a", "192.0.2.1"));
        view.take(&Kind::NODE, &node("own", "192.0.2.9"));
        view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a"));
        let changes = view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "own"));
        assert_eq!(changes.len(), 2, "our block comes, and the peer loses it");
        assert!(view.peers().all(|peer| peer.prefixes.is_empty()));
    }

    #[test]
    fn what_is_missing_after_a_resync_is_gone_and_what_is_broken_stays() {
        let mut view = view();
        view.take(&Kind::NODE, &node("a", "192.0.2.1"));
        view.take(&Kind::NODE, &node("b", "192.0.2.2"));
        view.take(&Kind::NODE, &node("b", "nonsense"));
        assert_eq!(view.peers().count(), 2);
        assert_eq!(view.invalid.len(), 1);
        let list = cni_core::store::List { objects: Vec::new(), version: cni_core::store::Version::new("1") };
        let changes = view.take(&Kind::NODE, &Event::Resynced(list));
        assert_eq!(changes.len(), 2);
        assert_eq!((view.peers().count(), view.invalid.len()), (0, 0));
    }
}
