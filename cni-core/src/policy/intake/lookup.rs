//! Who has an address, and which tier a policy is in: for people who look at traffic. Never for a verdict, which is about
//! identities.

use super::{Intake, kinds};
use crate::policy::model::Workload;
use crate::store::{Kind, ObjectKey};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

/// Objects that have an address.
pub(super) fn holders(index: &BTreeSet<(IpAddr, ObjectKey)>, address: IpAddr) -> impl Iterator<Item = &ObjectKey> {
    let least = ObjectKey { kind: Kind::new("", ""), namespace: None, name: Arc::default() };
    index.range((address, least)..).take_while(move |(other, _)| *other == address).map(|(_, holder)| holder)
}

impl Intake {
    /// The workload that an object makes.
    #[must_use]
    pub fn workload_of(&self, object: &ObjectKey) -> Option<&Arc<Workload>> {
        self.workloads.get(object)
    }

    /// The pod that has an address, else the node; of several the first by name.
    #[must_use]
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        let object = holders(&self.holders, address).next().or_else(|| holders(&self.nodes, address).next())?;
        self.workload_of(object)
    }

    /// The tier of a policy as it is shown, `NetworkPolicy shop/web`. Of two objects of one name the one that people write
    /// first.
    #[must_use]
    pub fn tier_of(&self, policy: &str) -> Option<Arc<str>> {
        let (kind, rest) = policy.split_once(' ')?;
        let key = |kind| match rest.split_once('/') {
            Some((namespace, name)) => ObjectKey::namespaced(kind, namespace, name),
            None => ObjectKey::cluster(kind, rest),
        };
        kinds::policies(kind).find_map(|kind| self.policies.tier_of(&key(kind)))
    }

    /// Keeps the index of nodes' addresses.
    pub(super) fn node_addresses_changed(&mut self, key: &ObjectKey, old: Option<&Workload>, new: Option<&Workload>) {
        for address in old.into_iter().flat_map(|node| &node.addresses) {
            self.nodes.remove(&(*address, key.clone()));
        }
        for address in new.into_iter().flat_map(|node| &node.addresses) {
            self.nodes.insert((*address, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Object;
    use serde_json::json;

    #[test]
    fn a_pod_and_a_node_are_found_by_address_and_a_policy_by_its_text() {
        let mut intake = Intake::new();
        let object = |value| Object::from_value(value).unwrap();
        let node = object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}));
        let pod = object(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1"}, "status": {"podIPs": [{"ip": "10.42.0.7"}]}}));
        let policy = object(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"podSelector": {}}}));
        let admin = object(json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "all"}, "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}}}));
        let nowhere = object(json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
            "metadata": {"name": "lost", "namespace": "shop"}, "spec": {"tier": "not-there", "selector": "all()"}}));
        for object in [&node, &pod, &policy, &admin, &nowhere] {
            intake.put(object);
        }
        let at = |intake: &Intake, address: &str| {
            intake.workload_at(address.parse().unwrap()).map(|workload| workload.id.to_string())
        };
        assert_eq!(at(&intake, "10.42.0.7").as_deref(), Some("pod shop/web"));
        assert_eq!(at(&intake, "192.0.2.1").as_deref(), Some("node n1"));
        assert_eq!(at(&intake, "192.0.2.2"), None);
        let tier = |policy: &str| intake.tier_of(policy);
        assert_eq!(tier(&policy.key.to_string()).as_deref(), Some("default"));
        assert_eq!(tier(&admin.key.to_string()).as_deref(), Some("kube-admin"));
        assert_eq!(tier("NetworkPolicy shop/lost").as_deref(), Some("cnidarian-closed"));
        assert_eq!([tier("NetworkPolicy shop/other"), tier("spoofed source")], [None, None]);
        intake.remove(&pod.key);
        intake.remove(&node.key);
        assert_eq!([at(&intake, "10.42.0.7"), at(&intake, "192.0.2.1")], [None, None]);
    }
}
