//! Events of a store, read and checked, into a [`PeerTable`]. Pure; keeps no objects but its own node and the pools.

use super::{ClusterProblem, PeerTable};
use crate::backend::NetworkChange;
use crate::ipam::IpamError;
use crate::ipam::pools::{IpBlockSpec, IpPool, block_key, block_of};
use crate::model::{NodeName, Peer, overlap};
use crate::store::resources::Node;
use crate::store::{Event, InvalidObject, Kind, Object, ObjectKey};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Where pods' addresses come from, so what of the store speaks of their prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNetwork {
    /// From blocks of pools. `podCIDRs` of nodes are ignored: Kubernetes gives them to nodes unasked.
    Pools,
    /// From the nodes' `podCIDRs`. Blocks are ignored.
    PodCidrs,
}

/// The cluster as one node sees it.
///
/// An object that cannot be read is reported, and what was known of it before stays: a slip in a manifest is no reason
/// to cut pods off.
#[derive(Debug)]
pub struct ClusterView {
    local: NodeName,
    network: PodNetwork,
    table: PeerTable,
    own_node: Option<Node>,
    pools: BTreeMap<Arc<str>, IpPool>,
    invalid: BTreeMap<ObjectKey, InvalidObject>,
}

impl ClusterView {
    /// An empty view of the node with this name and these underlay addresses, each with the length of its segment's prefix.
    #[must_use]
    pub fn new(local: NodeName, network: PodNetwork, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) -> Self {
        let table = PeerTable::new(local.clone(), v4, v6);
        Self { local, network, table, own_node: None, pools: BTreeMap::new(), invalid: BTreeMap::new() }
    }

    /// Takes an event of a watch over all objects of `kind` in: Node, IPBlock or IPPool. Others are ignored.
    /// [`changes`](Self::changes) then has what follows. Answers what of the event could not be read.
    pub fn take(&mut self, kind: &Kind, event: &Event) -> Vec<InvalidObject> {
        match event {
            Event::Put(object) => self.put(object).err().into_iter().collect(),
            Event::Delete(key) => {
                self.remove(key);
                Vec::new()
            }
            Event::Resynced(list) => {
                let listed: BTreeSet<&ObjectKey> = list.objects.iter().map(|object| &object.key).collect();
                for key in self.keys_of(kind).into_iter().filter(|key| !listed.contains(key)) {
                    self.remove(&key);
                }
                list.objects.iter().filter_map(|object| self.put(object).err()).collect()
            }
        }
    }

    /// What changed for the datapath since the last call.
    #[must_use = "the changes are given once"]
    pub fn changes(&mut self) -> Vec<NetworkChange> {
        self.table.changes()
    }

    /// Our own underlay addresses changed.
    pub fn set_underlay(&mut self, v4: Option<Ipv4Net>, v6: Option<Ipv6Net>) {
        self.table.set_underlay(v4, v6);
    }

    /// The node's own address in one of its blocks, see [`crate::model::LocalBlock::node_address`].
    pub fn set_node_address(&mut self, block: IpNet, address: Option<IpAddr>) {
        self.table.set_node_address(block, address);
    }

    /// Our own Node object.
    #[must_use]
    pub fn own_node(&self) -> Option<&Node> {
        self.own_node.as_ref()
    }

    /// The pools, by name.
    #[must_use]
    pub fn pools(&self) -> &BTreeMap<Arc<str>, IpPool> {
        &self.pools
    }

    /// All peers as they are now, by name.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.table.peers()
    }

    /// Every prefix that pods of the cluster may have, sorted: of all pools that can be used here, or of all nodes.
    #[must_use]
    pub fn pod_prefixes(&self) -> Vec<IpNet> {
        match self.network {
            PodNetwork::Pools => self
                .pools
                .values()
                .filter(|pool| self.on_underlay(pool).is_none())
                .map(|pool| pool.cidr)
                .collect::<BTreeSet<_>>(),
            PodNetwork::PodCidrs => self.table.pod_cidrs(),
        }
        .into_iter()
        .collect()
    }

    /// What is wrong now: objects that cannot be read, then what does not fit together.
    #[must_use]
    pub fn problems(&self) -> Vec<ClusterProblem> {
        let invalid = self.invalid.values().cloned().map(ClusterProblem::Invalid);
        let pools = self.pools.values().filter_map(|pool| {
            let (pool_name, cidr, segment) = (pool.name.clone(), pool.cidr, self.on_underlay(pool)?);
            Some(ClusterProblem::PoolOnUnderlay { pool: pool_name, cidr, segment })
        });
        invalid.chain(pools).chain(self.table.problems()).collect()
    }

    /// The prefix of our underlay that a pool overlaps.
    fn on_underlay(&self, pool: &IpPool) -> Option<IpNet> {
        self.table.segments().find(|segment| overlap(segment, &pool.cidr))
    }

    fn put(&mut self, object: &Object) -> Result<(), InvalidObject> {
        let read = match (&object.key.kind, self.network) {
            (kind, _) if *kind == Kind::NODE => self.put_node(object),
            (kind, PodNetwork::Pools) if *kind == Kind::IP_BLOCK => self.put_block(object),
            (kind, _) if *kind == Kind::IP_POOL => self.put_pool(object),
            _ => return Ok(()),
        };
        match &read {
            Ok(()) => drop(self.invalid.remove(&object.key)),
            Err(error) => drop(self.invalid.insert(object.key.clone(), error.clone())),
        }
        read
    }

    fn put_node(&mut self, object: &Object) -> Result<(), InvalidObject> {
        let mut node = Node::try_from(object)?;
        if node.name == self.local {
            self.own_node = Some(node.clone());
        }
        if self.network == PodNetwork::Pools {
            node.pod_cidrs.clear();
        }
        self.table.put_node(&node);
        Ok(())
    }

    fn put_block(&mut self, object: &Object) -> Result<(), InvalidObject> {
        let block = IpBlockSpec::from_object(object).map_err(|error| invalid(object, &error))?;
        self.table.put_block(block.cidr, Some(&block.pool), &block.routes());
        Ok(())
    }

    fn put_pool(&mut self, object: &Object) -> Result<(), InvalidObject> {
        let pool = IpPool::from_object(object).map_err(|error| invalid(object, &error))?;
        self.table.set_pool(&pool.name, pool.encapsulation);
        self.pools.insert(pool.name.clone(), pool);
        Ok(())
    }

    fn remove(&mut self, key: &ObjectKey) {
        self.invalid.remove(key);
        if key.kind == Kind::NODE {
            let Ok(name) = NodeName::new(&key.name) else { return };
            if name == self.local {
                self.own_node = None;
            }
            self.table.remove_node(&name);
        } else if key.kind == Kind::IP_BLOCK {
            if let Some(block) = block_of(key) {
                self.table.remove_block(block);
            }
        } else if key.kind == Kind::IP_POOL {
            self.table.set_pool(&key.name, None);
            self.pools.remove(&key.name);
        }
    }

    /// The objects of a kind that we know, also those that cannot be read.
    fn keys_of(&self, kind: &Kind) -> BTreeSet<ObjectKey> {
        let mut keys: BTreeSet<_> = self.invalid.keys().filter(|key| key.kind == *kind).cloned().collect();
        if *kind == Kind::NODE {
            keys.extend(self.table.nodes().map(|name| ObjectKey::cluster(Kind::NODE, name.as_str())));
        } else if *kind == Kind::IP_BLOCK {
            keys.extend(self.table.blocks().into_iter().map(block_key));
        } else if *kind == Kind::IP_POOL {
            keys.extend(self.pools.keys().map(|name| ObjectKey::cluster(Kind::IP_POOL, name)));
        }
        keys
    }
}

fn invalid(object: &Object, error: &IpamError) -> InvalidObject {
    match error {
        IpamError::Invalid { field, problem, .. } => InvalidObject::new(&object.key, *field, problem),
        other => InvalidObject::new(&object.key, "spec", other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Change, Item};
    use crate::model::{Encapsulation, NetworkItem, NetworkKey};
    use crate::store::{List, Version};
    use serde_json::{Value, json};

    fn put(value: Value) -> Event {
        Event::Put(Arc::new(Object::from_value(value).unwrap()))
    }

    fn node(name: &str, v4: &str, cidr: &str) -> Event {
        let metadata = json!({"name": name, "annotations": {Node::V4_ADDRESS: v4}});
        put(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"podCIDRs": [cidr]}}))
    }

    fn block(cidr: &str, owner: &str) -> Event {
        let key = block_key(cidr.parse().unwrap());
        let spec = json!({"pool": "p", "cidr": cidr, "owner": owner});
        put(json!({"apiVersion": "cnidarian.io/v1", "kind": "IPBlock", "metadata": {"name": &*key.name}, "spec": spec}))
    }

    fn pool(spec: &Value) -> Event {
        put(json!({"apiVersion": "cnidarian.io/v1", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec}))
    }

    fn view(network: PodNetwork, events: &[&Event]) -> ClusterView {
        let mut view = ClusterView::new(NodeName::new("own").unwrap(), network, None, None);
        for event in events {
            let Event::Put(object) = event else { panic!("not a put") };
            view.take(&object.key.kind, event);
        }
        view
    }

    fn puts(view: &mut ClusterView) -> Vec<NetworkItem> {
        let item = |change| match change {
            Change::Put(item) => item,
            other => panic!("not a put: {other:?}"),
        };
        view.changes().into_iter().map(item).collect()
    }

    #[test]
    fn a_peer_is_its_node_and_its_blocks_with_what_their_pool_says() {
        let events = [
            node("a", "192.0.2.1", "10.9.0.0/24"),
            block("10.1.0.0/26", "a"),
            pool(&json!({"cidr": "10.1.0.0/16", "encapsulation": "Never"})),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut view = view(PodNetwork::Pools, &order.map(|at| &events[at]));
            let items = puts(&mut view);
            let [NetworkItem::Peer(peer)] = &items[..] else { panic!("{items:?}") };
            let [prefix] = &peer.prefixes[..] else { panic!("{peer:?}") };
            assert_eq!(
                (prefix.prefix.to_string().as_str(), prefix.encapsulation),
                ("10.1.0.0/26", Some(Encapsulation::Never))
            );
            assert_eq!(view.pod_prefixes(), ["10.1.0.0/16".parse().unwrap()]);
        }
        let mut view = view(PodNetwork::PodCidrs, &[&events[0], &events[1]]);
        let items = puts(&mut view);
        let [NetworkItem::Peer(peer)] = &items[..] else { panic!("{items:?}") };
        assert_eq!(peer.prefixes[0].prefix, "10.9.0.0/24".parse().unwrap());
    }

    #[test]
    fn a_resync_removes_what_it_does_not_list() {
        let events =
            [node("a", "192.0.2.1", "10.9.0.0/24"), node("b", "192.0.2.2", "10.9.1.0/24"), block("10.1.0.0/26", "a")];
        let mut view = view(PodNetwork::Pools, &[&events[0], &events[1], &events[2]]);
        assert_eq!(puts(&mut view).len(), 2);
        let list = |objects| Event::Resynced(List { objects, version: Version::new("1") });
        view.take(&Kind::IP_BLOCK, &list(Vec::new()));
        let [NetworkItem::Peer(a)] = &puts(&mut view)[..] else { panic!("not one peer") };
        assert!(a.prefixes.is_empty());
        let Event::Put(b) = &events[1] else { panic!("not a put") };
        view.take(&Kind::NODE, &list(vec![b.clone()]));
        let changes = view.changes();
        assert!(
            matches!(&changes[..], [Change::Remove(key)] if *key == NetworkKey::Peer(NodeName::new("a").unwrap())),
            "{changes:?}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_reported_and_what_was_known_stays() {
        let good = node("a", "192.0.2.1", "10.9.0.0/24");
        let mut view = view(PodNetwork::PodCidrs, &[&good]);
        assert_eq!(puts(&mut view).len(), 1);
        view.take(&Kind::NODE, &node("a", "192.0.2.1", "10.9.0.7/24"));
        assert!(view.changes().is_empty());
        let problems: Vec<_> = view.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["Node a: spec.podCIDRs[0]: 10.9.0.7/24 has host bits; did you mean 10.9.0.0/24?"]);
        view.take(&Kind::NODE, &good);
        assert_eq!(view.problems(), []);
        let wrong = pool(&json!({"cidr": "10.1.0.0/16", "encapsulatoin": "Never"}));
        view.take(&Kind::IP_POOL, &wrong);
        assert_eq!(view.problems().len(), 1);
        view.take(&Kind::IP_POOL, &Event::Delete(ObjectKey::cluster(Kind::IP_POOL, "p")));
        assert_eq!(view.problems(), []);
    }

    #[test]
    fn own_blocks_come_as_blocks_and_carry_the_nodes_address() {
        let events = [block("10.1.0.0/26", "own")];
        let mut view = view(PodNetwork::Pools, &[&events[0]]);
        let first = puts(&mut view);
        let address = Some("10.1.0.0".parse().unwrap());
        view.set_node_address("10.1.0.0/26".parse().unwrap(), address);
        let second = puts(&mut view);
        let [NetworkItem::Block(block)] = &second[..] else { panic!("{second:?}") };
        assert_eq!((block.node_address, block.pool.as_deref(), first[0].key()), (address, Some("p"), second[0].key()));
    }

    #[test]
    fn a_pool_on_the_underlay_is_named_with_its_field_and_is_no_network_of_pods() {
        let own = Some("192.0.2.1/24".parse().unwrap());
        let mut view = ClusterView::new(NodeName::new("own").unwrap(), PodNetwork::Pools, own, None);
        view.take(&Kind::IP_POOL, &pool(&json!({"cidr": "192.0.0.0/16"})));
        let problems: Vec<String> = view.problems().iter().map(ToString::to_string).collect();
        let words = "pool p: spec.cidr: 192.0.0.0/16 overlaps 192.0.2.0/24 of this node's underlay; \
                     use a pool outside of 192.0.2.0/24";
        assert_eq!(problems, [words]);
        assert_eq!(view.pod_prefixes(), []);
        view.set_underlay(Some("198.51.100.1/24".parse().unwrap()), None);
        assert_eq!((view.problems().len(), view.pod_prefixes().len()), (0, 1));
    }
}
