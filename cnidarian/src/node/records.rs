//! The attachments of this node in memory: a mirror of the database's records, and of those on their way there. Never
//! durable by itself.

use super::error::NodeError;
use super::record::Record;
use cni_core::model::EndpointId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records by endpoint. Clones are handles of the same.
#[derive(Clone, Default)]
pub(crate) struct Records {
    map: Arc<Mutex<BTreeMap<EndpointId, Arc<Record>>>>,
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
    }

    pub(crate) fn remove(&self, id: &EndpointId) {
        self.map().remove(id);
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
        Ok(())
    }
}
