//! From nodes, blocks and pools to what a datapath is told. Pure; a change costs what it touches, not the cluster.

use cni_core::backend::{Change, NetworkChange};
use cni_core::ipam::pools::{IpBlockSpec, IpPool};
use cni_core::model::{NetworkItem, NetworkKey, NodeName, Peer, PeerPrefix};
use cni_core::store::resources::Node;
use cni_core::store::{Event, InvalidObject, Kind, Object, ObjectKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the store says, in the form that changes are computed from.
pub(super) struct View {
    own: NodeName,
    /// Whether pods live in nodes' `podCIDRs`, not in blocks of pools.
    pod_cidrs: bool,
    nodes: BTreeMap<NodeName, Node>,
    blocks: BTreeMap<Arc<str>, IpBlockSpec>,
    pools: BTreeMap<Arc<str>, IpPool>,
    /// Which prefixes each node routes, and the pool of each: an index over `blocks`.
    routes: BTreeMap<NodeName, BTreeMap<IpNet, String>>,
    /// What the datapath was told last.
    peers: BTreeMap<NodeName, Peer>,
    /// Objects that cannot be read, by name.
    pub(super) invalid: BTreeMap<ObjectKey, String>,
}

impl View {
    pub(super) fn new(own: NodeName, pod_cidrs: bool) -> Self {
        Self {
            own,
            pod_cidrs,
            nodes: BTreeMap::new(),
            blocks: BTreeMap::new(),
            pools: BTreeMap::new(),
            routes: BTreeMap::new(),
            peers: BTreeMap::new(),
            invalid: BTreeMap::new(),
        }
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    pub(super) fn own_node(&self) -> Option<&Node> {
        self.nodes.get(&self.own)
    }

    /// Every prefix that pods of the cluster have, sorted.
    pub(super) fn pod_prefixes(&self) -> Vec<IpNet> {
        let pools = self.pools.values().map(|pool| pool.cidr);
        let cidrs = self.nodes.values().filter(|_| self.pod_cidrs).flat_map(|node| node.pod_cidrs.iter().copied());
        let all: BTreeSet<IpNet> = if self.pod_cidrs { cidrs.collect() } else { pools.collect() };
        all.into_iter().collect()
    }

    /// Takes an event in and answers what changed of peers, and whether our own prefixes may have changed.
    pub(super) fn take(&mut self, kind: &Kind, event: &Event) -> (Vec<NetworkChange>, bool) {
        let mut touched = BTreeSet::new();
        match event {
            Event::Put(object) => self.put(object, &mut touched),
            Event::Delete(key) => self.remove(key, &mut touched),
            Event::Resynced(list) => {
                let listed: BTreeSet<&ObjectKey> = list.objects.iter().map(|object| &object.key).collect();
                for key in self.keys_of(kind).into_iter().filter(|key| !listed.contains(key)) {
                    self.remove(&key, &mut touched);
                }
                for object in &list.objects {
                    self.put(object, &mut touched);
                }
            }
        }
        self.changes(&touched)
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

    fn put(&mut self, object: &Object, touched: &mut BTreeSet<NodeName>) {
        let read = match &object.key.kind {
            kind if *kind == Kind::NODE => Node::try_from(object).map(|node| {
                touched.insert(node.name.clone());
                self.nodes.insert(node.name.clone(), node);
            }),
            kind if *kind == Kind::IP_BLOCK => {
                IpBlockSpec::from_object(object).map_err(|error| invalid(object, &error)).map(|block| {
                    self.drop_block(&object.key.name, touched);
                    for (node, prefix) in block.routes() {
                        self.routes.entry(node.clone()).or_default().insert(prefix, block.pool.clone());
                        touched.insert(node);
                    }
                    self.blocks.insert(object.key.name.clone(), block);
                })
            }
            _ => IpPool::from_object(object).map_err(|error| invalid(object, &error)).map(|pool| {
                let changed =
                    self.pools.get(&object.key.name).is_none_or(|old| old.encapsulation != pool.encapsulation);
                self.pools.insert(object.key.name.clone(), pool);
                if changed {
                    self.touch_pool(&object.key.name, touched);
                }
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

    fn remove(&mut self, key: &ObjectKey, touched: &mut BTreeSet<NodeName>) {
        self.invalid.remove(key);
        match &key.kind {
            kind if *kind == Kind::NODE => {
                if let Ok(name) = NodeName::new(&key.name) {
                    self.nodes.remove(&name);
                    touched.insert(name);
                }
            }
            kind if *kind == Kind::IP_BLOCK => {
                self.drop_block(&key.name, touched);
            }
            _ => {
                self.pools.remove(&key.name);
                self.touch_pool(&key.name, touched);
            }
        }
    }

    fn drop_block(&mut self, name: &str, touched: &mut BTreeSet<NodeName>) {
        let Some(block) = self.blocks.remove(name) else { return };
        for (node, prefix) in block.routes() {
            if let Some(routes) = self.routes.get_mut(&node) {
                routes.remove(&prefix);
                if routes.is_empty() {
                    self.routes.remove(&node);
                }
            }
            touched.insert(node);
        }
    }

    fn touch_pool(&self, pool: &str, touched: &mut BTreeSet<NodeName>) {
        let nodes = self.routes.iter().filter(|(_, routes)| routes.values().any(|of| of == pool));
        touched.extend(nodes.map(|(node, _)| node.clone()));
    }

    /// The prefixes of one node.
    fn prefixes(&self, name: &NodeName) -> Vec<PeerPrefix> {
        if self.pod_cidrs {
            let cidrs = self.nodes.get(name).map(|node| node.pod_cidrs.as_slice()).unwrap_or_default();
            return cidrs.iter().map(|cidr| PeerPrefix { prefix: *cidr, encapsulation: None }).collect();
        }
        let routes = self.routes.get(name).into_iter().flatten();
        routes
            .map(|(prefix, pool)| {
                let encapsulation = self.pools.get(pool.as_str()).and_then(|pool| pool.encapsulation);
                PeerPrefix { prefix: *prefix, encapsulation }
            })
            .collect()
    }

    fn changes(&mut self, touched: &BTreeSet<NodeName>) -> (Vec<NetworkChange>, bool) {
        let mut changes = Vec::new();
        for name in touched.iter().filter(|name| **name != self.own) {
            let peer = self.nodes.get(name).map(|node| Peer {
                node: name.clone(),
                v4: node.v4,
                v6: node.v6,
                prefixes: self.prefixes(name),
                attributes: node.attributes.clone(),
            });
            // A node without an address cannot be reached, and is told of when it has one.
            let peer = peer.filter(|peer| peer.v4.is_some() || peer.v6.is_some());
            if self.peers.get(name) == peer.as_ref() {
                continue;
            }
            match peer {
                Some(peer) => {
                    self.peers.insert(name.clone(), peer.clone());
                    changes.push(Change::Put(NetworkItem::Peer(peer)));
                }
                None => {
                    self.peers.remove(name);
                    changes.push(Change::Remove(NetworkKey::Peer(name.clone())));
                }
            }
        }
        (changes, touched.contains(&self.own))
    }
}

fn invalid(object: &Object, error: &dyn std::fmt::Display) -> InvalidObject {
    InvalidObject::new(&object.key, "spec", error)
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
        View::new(NodeName::new("own").unwrap(), false)
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
        let peer = one.peers().next().unwrap();
        assert_eq!(peer.prefixes.len(), 1);
        assert_eq!(peer.v4, Some("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn the_same_event_again_changes_nothing() {
        let mut view = view();
        view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a"));
        assert_eq!(view.take(&Kind::NODE, &node("a", "192.0.2.1")).0.len(), 1);
        assert_eq!(view.take(&Kind::NODE, &node("a", "192.0.2.1")).0.len(), 0);
        assert_eq!(view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a")).0.len(), 0);
    }

    #[test]
    fn a_block_that_moves_touches_both_nodes_and_our_own_is_no_peer() {
        let mut view = view();
        view.take(&Kind::NODE, &node("a", "192.0.2.1"));
        view.take(&Kind::NODE, &node("own", "192.0.2.9"));
        view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "a"));
        let (changes, own) = view.take(&Kind::IP_BLOCK, &block("10.1.0.0/26", "own"));
        assert_eq!(changes.len(), 1);
        assert!(own);
        assert!(view.peers().next().unwrap().prefixes.is_empty());
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
        let (changes, _) = view.take(&Kind::NODE, &Event::Resynced(list));
        assert_eq!(changes.len(), 2);
        assert_eq!((view.peers().count(), view.invalid.len()), (0, 0));
    }
}
