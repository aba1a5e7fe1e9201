//! The attachments of this node in memory: a mirror of the database's records. Never durable by itself.

use super::record::Record;
use cni_core::model::EndpointId;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records by endpoint.
#[derive(Default)]
pub(crate) struct Records {
    map: Mutex<BTreeMap<EndpointId, Arc<Record>>>,
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

    /// Which other endpoint has one of these addresses.
    pub(crate) fn holder(&self, addresses: &[IpAddr], besides: &EndpointId) -> Option<(IpAddr, EndpointId)> {
        let map = self.map();
        let others = map.values().filter(|record| record.endpoint.id != *besides);
        others
            .flat_map(|record| record.endpoint.addresses.iter().map(move |address| (*address, record)))
            .find_map(|(address, record)| addresses.contains(&address).then(|| (address, record.endpoint.id.clone())))
    }
}
