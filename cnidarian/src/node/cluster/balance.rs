//! The record of who has which address of a load balancer, kept right in the store by every node. Never decided by one of them: each
//! reads the record, then all objects, and writes what follows by compare-and-swap, so that whoever comes second begins again.

use super::{Cluster, lock};
use crate::node::error::NodeError;
use cni_core::model::NodeName;
use cni_core::service::{BalancerRecord, ServiceSettings, ServiceTable};
use cni_core::store::{Error, Kind, Object, Store, StoreExt};
use ipnet::IpNet;

/// How often somebody else may be faster.
const RACES: u32 = 64;
/// The label with the service of a slice, and the service whose endpoints are the API server.
const OF_SERVICE: &str = "kubernetes.io/service-name";
const API_SERVER: (&str, &str) = ("default", "kubernetes");

impl Cluster {
    /// Waits until addresses of load balancers may have to be others.
    pub(in crate::node) async fn unbalanced(&self) {
        self.unbalanced.notified().await;
    }

    /// Asks for another look.
    pub(in crate::node) fn look_at_balance(&self) {
        self.unbalanced.notify_one();
    }

    /// How many nodes come before this one, by name.
    pub(in crate::node) fn rank(&self) -> usize {
        lock(&self.view).peers().filter(|peer| peer.node.as_str() < self.config.name.as_str()).count()
    }

    /// Whether the record should be another one, by what is known here.
    pub(in crate::node) fn wants_another_record(&self) -> bool {
        self.services.as_ref().is_some_and(|services| lock(services).wants_another_record())
    }

    /// Writes the record as it should be. With `keep_gone` nobody loses an address: for who cannot read all objects.
    pub(in crate::node) async fn balance(&self, keep_gone: bool) -> Result<(), NodeError> {
        let pods = lock(&self.view).pod_prefixes();
        if write_record(&*self.store, &self.config.name, &pods, keep_gone).await? {
            tracing::info!("addresses of load balancers are recorded anew");
        }
        Ok(())
    }

    /// Writes the pools of the configuration where the store has none of their names. One that is there stays as it is, and a
    /// difference is said in the log: the store is what the cluster agrees on.
    pub(in crate::node) async fn bring_balancer_pools(&self) -> Result<(), NodeError> {
        for pool in self.config.services.iter().flat_map(|services| &services.balancer_pools) {
            let object = pool.to_object();
            match self.store.create(&object).await {
                Ok(_) => tracing::info!(pool = %pool.name, "pool of load balancers' addresses written to the store"),
                Err(Error::AlreadyExists { .. }) => {
                    let there = self.store.find(&object.key).await?;
                    if there.is_some_and(|there| there.field("spec") != object.field("spec")) {
                        tracing::warn!(pool = %pool.name, "the store has another pool of this name; the store's is in force");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Reads the record, then what it follows from, and writes it if it should be another one. Answers whether it was written.
///
/// In this order what is read is not older than what the record's writer knew, so nobody takes a service for gone that is only new.
///
/// # Errors
/// The store failed, or others were faster all the time.
pub(in crate::node) async fn write_record(
    store: &dyn Store,
    node: &NodeName,
    pods: &[IpNet],
    keep_gone: bool,
) -> Result<bool, NodeError> {
    let key = BalancerRecord::key();
    let mut races_left = RACES;
    loop {
        let known = store.find(&key).await?;
        let mut table = ServiceTable::new(node.as_str(), ServiceSettings::default());
        table.set_pod_prefixes(pods);
        for kind in ServiceTable::kinds().into_iter().filter(|kind| *kind != Kind::BALANCER_ADDRESSES) {
            let list = store.list_kind(kind.clone()).await?;
            let matters = |object: &Object| kind != Kind::ENDPOINT_SLICE || is_of_api_server(object);
            list.objects.iter().filter(|object| matters(object)).for_each(|object| table.put(object));
        }
        if let Some(known) = &known {
            table.put(known);
        }
        let wanted = table.balance(keep_gone).record;
        if wanted == table.balancer_record() {
            return Ok(false);
        }
        let written = match known {
            None => store.create(&wanted.to_object()).await,
            Some(known) => {
                let mut object = Object::clone(&known);
                wanted.write(&mut object);
                store.update(&object).await
            }
        };
        match written {
            Ok(_) => return Ok(true),
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }) if races_left > 0 => {
                races_left -= 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_of_api_server(object: &Object) -> bool {
    let (namespace, name) = API_SERVER;
    object.key.namespace.as_deref() == Some(namespace)
        && object.metadata.labels.get(OF_SERVICE).is_some_and(|service| service == name)
}

#[cfg(test)]
mod tests;
