//! `cnidarian.io/v1` NodeEndpoints: the addresses that a node gave to its pods, for a store in which nobody else says so.
//! Never a lease: those are in the node's own database.

use super::expect_kind;
use crate::model::NodeName;
use crate::store::{InvalidObject, Kind, Object, ObjectKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::net::IpAddr;

/// A pod of the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodAddresses {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its addresses on this node.
    pub addresses: Vec<IpAddr>,
}

/// All pods of a node. The object has the node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoints {
    /// The node.
    pub node: NodeName,
    /// Its pods, sorted.
    pub pods: Vec<PodAddresses>,
}

#[derive(Deserialize, Default)]
struct RawSpec {
    #[serde(default)]
    pods: Option<Vec<PodAddresses>>,
}

impl NodeEndpoints {
    /// The key of a node's object.
    #[must_use]
    pub fn key(node: &NodeName) -> ObjectKey {
        ObjectKey::cluster(Kind::NODE_ENDPOINTS, node.as_str())
    }

    /// Writes the pods into the object; fields of newer versions stay.
    pub fn write(object: &mut Object, pods: &[PodAddresses]) {
        let spec = object.fields.entry("spec").or_insert_with(|| Map::new().into());
        if !spec.is_object() {
            *spec = Map::new().into();
        }
        spec["pods"] = json!(pods);
    }
}

impl TryFrom<&Object> for NodeEndpoints {
    type Error = InvalidObject;

    fn try_from(object: &Object) -> Result<Self, InvalidObject> {
        expect_kind(object, &Kind::NODE_ENDPOINTS)?;
        let node = NodeName::new(&object.key.name)
            .map_err(|error| InvalidObject::new(&object.key, "metadata.name", error.to_string()))?;
        let spec = object.read::<Option<RawSpec>>("spec")?.unwrap_or_default();
        Ok(Self { node, pods: spec.pods.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yesterday's bytes: written by version 0.1.0.
    #[test]
    fn what_is_written_is_read_and_unknown_fields_stay() {
        let written = json!({"apiVersion": "cnidarian.io/v1", "kind": "NodeEndpoints", "metadata": {"name": "node-1"},
            "spec": {"pods": [{"namespace": "shop", "name": "web", "addresses": ["10.42.0.7", "fd42::7"]}], "new": 1}});
        let mut object = Object::from_value(written.clone()).unwrap();
        let read = NodeEndpoints::try_from(&object).unwrap();
        assert_eq!(NodeEndpoints::key(&read.node), object.key);
        assert_eq!(read.pods[0].addresses.len(), 2);
        NodeEndpoints::write(&mut object, &read.pods);
        assert_eq!(object.to_value()["spec"], written["spec"]);
        NodeEndpoints::write(&mut object, &[]);
        assert_eq!(object.to_value()["spec"], json!({"pods": [], "new": 1}));
        let mut empty = Object::new(object.key.clone());
        assert!(NodeEndpoints::try_from(&empty).unwrap().pods.is_empty());
        empty.fields.insert("spec".to_owned(), json!({"pods": [{"name": "web"}]}));
        assert!(NodeEndpoints::try_from(&empty).is_err());
    }
}
