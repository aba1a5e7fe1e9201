//! The attachments of this node in memory: a mirror of the database's records, and of those on their way there. Never
//! durable by itself.

use super::error::NodeError;
use super::record::Record;
use cni_core::model::EndpointId;
use cni_core::store::resources::PodAddresses;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Records by endpoint. Clones are handles of the same.
#[derive(Clone, Default)]
pub(crate) struct Records {
    map: Arc<Mutex<BTreeMap<EndpointId, Arc<Record>>>>,
    changed: Arc<Notify>,
}

impl Records {
    fn map(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Arc<Record>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &EndpointId) -> Option<Arc<Record>> {
        self.map().get(id).cloned()
    }

    pub(crate) fn insert(&self, record: Record) {
        self.map().insert(record.endpoint.id.clone(), Arc::new(record));
        self.changed.notify_one();
    }

    pub(crate) fn remove(&self, id: &EndpointId) {
        if self.map().remove(id).is_some() {
            self.changed.notify_one();
        }
    }

    /// Waits for a change since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The addresses of pods that this node gave, sorted. Not those of other IPAM plugins: whether they are the pod's alone is
    /// not known.
    pub(crate) fn pods(&self) -> Vec<PodAddresses> {
        let mut pods: BTreeMap<(String, String), Vec<std::net::IpAddr>> = BTreeMap::new();
        for record in self.map().values().filter(|record| !record.delegated) {
            if let Some(pod) = &record.endpoint.pod {
                let addresses = pods.entry((pod.namespace.clone(), pod.name.clone())).or_default();
                addresses.extend(&record.endpoint.addresses);
            }
        }
        let pods = pods.into_iter();
        pods.map(|((namespace, name), addresses)| PodAddresses { namespace, name, addresses }).collect()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        self.map().values().cloned().collect()
    }

    /// Takes a record in unless another endpoint has one of its addresses, in one step.
    ///
    /// # Errors
    /// [`NodeError::AddressInUse`] with the other one.
    pub(crate) fn claim(&self, record: Record) -> Result<(), NodeError> {
        let mut map = self.map();
        let (id, addresses) = (&record.endpoint.id, &record.endpoint.addresses);
        for other in map.values().filter(|other| other.endpoint.id != *id) {
            if let Some(address) = other.endpoint.addresses.iter().find(|address| addresses.contains(address)) {
                let (endpoint, holder) = (id.clone(), other.endpoint.id.clone());
                return Err(NodeError::AddressInUse { endpoint, address: *address, holder });
            }
        }
        map.insert(id.clone(), Arc::new(record));
        self.changed.notify_one();
        Ok(())
    }
}
