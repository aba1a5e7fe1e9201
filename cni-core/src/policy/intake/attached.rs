//! What nodes say of the addresses of their pods, for pods whose objects name none. Never believes a node about an address
//! that is not its own: one of a block or prefix that belongs to another, or to nobody.

use super::Intake;
use super::problems::Cause;
use crate::ipam::pools::{Claim, IpBlockSpec};
use crate::model::NodeName;
use crate::policy::model::{Effect, Problem, Workload};
use crate::policy::world::ModelChange;
use crate::store::resources::{Node, NodeEndpoints};
use crate::store::{InvalidObject, Kind, Object, ObjectKey};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// Records of pods by node, and which addresses are whose.
#[derive(Debug, Default)]
pub(super) struct Attached {
    records: BTreeMap<NodeName, BTreeMap<ObjectKey, Vec<IpAddr>>>,
    /// Nodes that have a record of a pod.
    nodes: BTreeMap<ObjectKey, BTreeSet<NodeName>>,
    /// Who holds what of each block.
    blocks: HashMap<IpNet, Box<[Claim]>>,
    block_of: BTreeMap<ObjectKey, IpNet>,
    /// `podCIDRs`.
    prefixes: BTreeMap<NodeName, Vec<IpNet>>,
}

impl Attached {
    /// The addresses of a pod that is on this node, or wherever it is.
    pub(super) fn addresses(&self, pod: &ObjectKey, node: Option<&str>) -> Vec<IpAddr> {
        let nodes = self.nodes.get(pod).into_iter().flatten();
        let nodes = nodes.filter(|name| node.is_none_or(|node| name.as_str() == node));
        let mut addresses: Vec<IpAddr> = Vec::new();
        for node in nodes {
            let recorded = self.records.get(node).and_then(|pods| pods.get(pod)).into_iter().flatten();
            addresses.extend(recorded.filter(|address| self.owns(node, **address)));
        }
        let mut seen = BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        addresses
    }

    /// A block says of each address whose it is, so it comes before the prefixes that nodes have.
    fn owns(&self, node: &NodeName, address: IpAddr) -> bool {
        match self.holder(address) {
            Some(holder) => holder == node,
            None => self.prefixes.get(node).into_iter().flatten().any(|prefix| prefix.contains(&address)),
        }
    }

    /// The node that holds an address of a block.
    fn holder(&self, address: IpAddr) -> Option<&NodeName> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let around = (0..=longest).rev().filter_map(|length| Some(IpNet::new(address, length).ok()?.trunc()));
        let claims = around.filter_map(|prefix| self.blocks.get(&prefix));
        claims.flatten().find(|claim| claim.range.contains(address)).map(|claim| &claim.node)
    }

    /// A node's records are these now. Answers the pods whose addresses may be others.
    pub(super) fn records_changed(
        &mut self,
        key: &ObjectKey,
        object: Option<&Object>,
    ) -> Result<BTreeSet<ObjectKey>, (BTreeSet<ObjectKey>, InvalidObject)> {
        let read = object.map(NodeEndpoints::try_from).transpose();
        let Ok(node) = NodeName::new(&key.name) else {
            return read.map(|_| BTreeSet::new()).map_err(|error| (BTreeSet::new(), error));
        };
        let mut records: BTreeMap<ObjectKey, Vec<IpAddr>> = BTreeMap::new();
        for pod in read.iter().flatten().flat_map(|read| &read.pods) {
            let key = ObjectKey::namespaced(Kind::POD, &pod.namespace, &pod.name);
            records.entry(key).or_default().extend(&pod.addresses);
        }
        let old = self.records.remove(&node).unwrap_or_default();
        let differs = |pod: &&ObjectKey| old.get(*pod) != records.get(*pod);
        let touched: BTreeSet<ObjectKey> = old.keys().chain(records.keys()).filter(differs).cloned().collect();
        for pod in &touched {
            let nodes = self.nodes.entry(pod.clone()).or_default();
            if records.contains_key(pod) {
                nodes.insert(node.clone());
            } else {
                nodes.remove(&node);
            }
            if nodes.is_empty() {
                self.nodes.remove(pod);
            }
        }
        if !records.is_empty() {
            self.records.insert(node, records);
        }
        match read {
            Ok(_) => Ok(touched),
            Err(error) => Err((touched, error)),
        }
    }

    /// A block is this now, or gone. One that cannot be read is nobody's.
    pub(super) fn block_changed(&mut self, key: &ObjectKey, object: Option<&Object>) -> BTreeSet<ObjectKey> {
        let block = object.and_then(|object| IpBlockSpec::from_object(object).ok());
        let old = self.block_of.remove(key).and_then(|cidr| Some((cidr, self.blocks.remove(&cidr)?)));
        let new = block.map(|block| (block.cidr, block.claims.into_boxed_slice()));
        if let Some((cidr, claims)) = &new {
            self.block_of.insert(key.clone(), *cidr);
            self.blocks.insert(*cidr, claims.clone());
        }
        if old == new {
            return BTreeSet::new();
        }
        let claims = old.iter().chain(&new).flat_map(|(_, claims)| claims);
        let nodes: BTreeSet<&NodeName> = claims.map(|claim| &claim.node).chain(self.prefixes.keys()).collect();
        let within = |addresses: &[IpAddr]| {
            addresses.iter().any(|address| old.iter().chain(&new).any(|(cidr, _)| cidr.contains(address)))
        };
        nodes.into_iter().flat_map(|node| self.pods_of(node, within)).collect()
    }

    /// A Node is this now, or gone.
    pub(super) fn node_changed(&mut self, key: &ObjectKey, object: Option<&Object>) -> BTreeSet<ObjectKey> {
        let Ok(name) = NodeName::new(&key.name) else { return BTreeSet::new() };
        let prefixes = object.and_then(|object| Node::try_from(object).ok()).map(|node| node.pod_cidrs);
        let old = match prefixes.filter(|prefixes| !prefixes.is_empty()) {
            Some(prefixes) => self.prefixes.insert(name.clone(), prefixes),
            None => self.prefixes.remove(&name),
        };
        if old.as_ref() == self.prefixes.get(&name) { BTreeSet::new() } else { self.pods_of(&name, |_| true) }
    }

    fn pods_of(&self, node: &NodeName, wanted: impl Fn(&[IpAddr]) -> bool) -> BTreeSet<ObjectKey> {
        let pods = self.records.get(node).into_iter().flatten();
        pods.filter(|(_, addresses)| wanted(addresses)).map(|(pod, _)| pod.clone()).collect()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let Self { records, nodes, blocks, block_of, prefixes } = self;
        records.is_empty() && nodes.is_empty() && blocks.is_empty() && block_of.is_empty() && prefixes.is_empty()
    }
}

impl Intake {
    pub(super) fn note_bare(&mut self, key: &ObjectKey, bare: bool) {
        if bare {
            self.bare.insert(key.clone());
        } else {
            self.bare.remove(key);
        }
    }

    /// What a node says of its pods is this now.
    pub(super) fn records_changed(&mut self, key: &ObjectKey, object: Option<&Object>, out: &mut Vec<ModelChange>) {
        let (pods, problems) = match self.attached.records_changed(key, object) {
            Ok(pods) => (pods, Vec::new()),
            Err((pods, InvalidObject { field, detail, .. })) => {
                let problem = Problem { object: key.clone(), path: field, detail, effect: Effect::LeftOut };
                (pods, vec![problem])
            }
        };
        self.problems.set(key, Cause::Content, problems);
        self.attached_changed(pods, out);
    }

    /// Who holds what of a block is this now.
    pub(super) fn block_changed(&mut self, key: &ObjectKey, object: Option<&Object>, out: &mut Vec<ModelChange>) {
        let pods = self.attached.block_changed(key, object);
        self.attached_changed(pods, out);
    }

    /// The addresses that nodes gave to these pods may be others now.
    pub(super) fn attached_changed(&mut self, pods: impl IntoIterator<Item = ObjectKey>, out: &mut Vec<ModelChange>) {
        for key in pods {
            let Some(old) = self.workloads.get(&key).filter(|_| self.bare.contains(&key)).cloned() else { continue };
            let addresses = self.attached.addresses(&key, old.node.as_deref());
            if addresses != old.addresses {
                self.set(&key, Some(Arc::new(Workload { addresses, ..Workload::clone(&old) })), out);
            }
        }
    }
}
