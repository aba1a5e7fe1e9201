//! What we tell the cluster of ourselves: annotations of our Node, our pods' addresses, and the pools of the configuration. Never overwrites
//! what others wrote.

use super::{Cluster, NodeError, lock};
use cni_core::model::NodeName;
use cni_core::store::resources::{Node, NodeEndpoints, PodAddresses};
use cni_core::store::{Error, Kind, Object, ObjectKey, StoreExt};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Cluster {
    /// Writes our underlay addresses and the backend's attributes into our Node, making it where there is none.
    pub(in crate::node) async fn publish(&self, attributes: &BTreeMap<Arc<str>, Arc<str>>) -> Result<(), NodeError> {
        let underlay = lock(&self.underlay).clone();
        let (v4, v6) = (underlay.v4.map(|net| net.addr()), underlay.v6.map(|net| net.addr()));
        let backend = &self.config.backend;
        let key = ObjectKey::cluster(Kind::NODE, NodeName::as_str(&self.config.name));
        loop {
            match self
                .store
                .modify(&key, |object| {
                    Node::publish(object, v4, v6, backend, attributes);
                    Ok(())
                })
                .await
            {
                Ok(_) => return Ok(()),
                Err(Error::NotFound { .. }) => {
                    let mut object = Object::new(key.clone());
                    Node::publish(&mut object, v4, v6, backend, attributes);
                    match self.store.create(&object).await {
                        Ok(_) => return Ok(()),
                        // Somebody made it in between: put our annotations into theirs.
                        Err(Error::AlreadyExists { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Writes which addresses our pods have into our NodeEndpoints: other nodes' policies look there when a pod's object does
    /// not say it. The object has all of them, so what a predecessor left is corrected by the first write.
    pub(in crate::node) async fn publish_endpoints(&self, pods: &[PodAddresses]) -> Result<(), NodeError> {
        let key = NodeEndpoints::key(&self.config.name);
        let write = |object: &mut Object| {
            NodeEndpoints::write(object, pods);
            Ok(())
        };
        match self.store.modify(&key, write).await {
            Err(Error::NotFound { .. }) if pods.is_empty() => Ok(()),
            Err(Error::NotFound { .. }) => {
                let mut object = Object::new(key);
                NodeEndpoints::write(&mut object, pods);
                Ok(self.store.create(&object).await.map(drop)?)
            }
            written => Ok(written.map(drop)?),
        }
    }

    /// Writes the pools of the configuration where the store has none of their names. One that is there stays as it is,
    /// and a difference is said in the log: the store is what the cluster agrees on.
    pub(in crate::node) async fn bring_pools(&self) -> Result<(), NodeError> {
        for pool in &self.config.ipam.pools {
            let mut spec = Map::new();
            spec.insert("cidr".to_owned(), json!(pool.cidr));
            let mut set = |key: &str, value: Option<Value>| value.map(|value| spec.insert(key.to_owned(), value));
            set("blockSize", pool.block_size.map(Value::from));
            set("encapsulation", pool.encapsulation.map(|value| json!(value)));
            set("strictAffinity", self.config.ipam.strict_affinity.then_some(Value::Bool(true)));
            set("maxBlocksPerNode", self.config.ipam.max_blocks_per_node.map(Value::from));
            let key = ObjectKey::cluster(Kind::IP_POOL, &pool.name);
            let mut object = Object::new(key.clone());
            object.fields.insert("spec".to_owned(), Value::Object(spec));
            match self.store.create(&object).await {
                Ok(_) => tracing::info!(pool = %pool.name, cidr = %pool.cidr, "pool written to the store"),
                Err(Error::AlreadyExists { .. }) => {
                    let there = self.store.find(&key).await?;
                    let cidr = there.as_ref().and_then(|object| object.field("spec.cidr"));
                    if cidr.and_then(Value::as_str) != Some(&pool.cidr.to_string()) {
                        tracing::warn!(pool = %pool.name, configured = %pool.cidr, store = ?cidr,
                            "the store has another pool of this name; the store's is in force");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
