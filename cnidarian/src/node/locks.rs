//! One operation per endpoint at a time, and GC alone. Never makes operations of different endpoints wait for each other.

use cni_core::model::EndpointId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The locks of all endpoints that are being worked on.
#[derive(Default)]
pub(crate) struct Locks {
    endpoints: Arc<Mutex<HashMap<EndpointId, Lock>>>,
    everything: Arc<RwLock<()>>,
}

/// Holds one endpoint.
pub(crate) struct Held {
    id: EndpointId,
    guard: Option<OwnedMutexGuard<()>>,
    endpoints: Arc<Mutex<HashMap<EndpointId, Lock>>>,
    shared: Option<OwnedRwLockReadGuard<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        self.shared = None;
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's own reference is the last one when nobody waits.
        if endpoints.get(&self.id).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            endpoints.remove(&self.id);
        }
    }
}

impl Locks {
    /// Waits for one endpoint, and for a GC to end.
    pub(crate) async fn endpoint(&self, id: &EndpointId) -> Held {
        let shared = self.everything.clone().read_owned().await;
        let mut held = self.endpoint_in_gc(id).await;
        held.shared = Some(shared);
        held
    }

    /// Waits for one endpoint, for the holder of [`Self::all`].
    pub(crate) async fn endpoint_in_gc(&self, id: &EndpointId) -> Held {
        let lock = {
            let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
            endpoints.entry(id.clone()).or_default().clone()
        };
        let guard = lock.lock_owned().await;
        Held { id: id.clone(), guard: Some(guard), endpoints: self.endpoints.clone(), shared: None }
    }

    /// Waits until nothing else is being done: CNI wants GC alone (1.1.0, section 2, GC).
    pub(crate) async fn all(&self) -> OwnedRwLockWriteGuard<()> {
        self.everything.clone().write_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const MOMENT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn one_endpoint_is_worked_on_once_and_others_beside_it() {
        let locks = Locks::default();
        let (a, b) = (EndpointId::of("a", "eth0").unwrap(), EndpointId::of("b", "eth0").unwrap());
        let held = locks.endpoint(&a).await;
        assert!(timeout(MOMENT, locks.endpoint(&a)).await.is_err());
        let other = timeout(MOMENT, locks.endpoint(&b)).await.unwrap();
        assert!(timeout(MOMENT, locks.all()).await.is_err());
        drop((held, other));
        assert!(locks.endpoints.lock().unwrap().is_empty());
        let all = timeout(MOMENT, locks.all()).await.unwrap();
        assert!(timeout(MOMENT, locks.endpoint(&a)).await.is_err());
        let inside = timeout(MOMENT, locks.endpoint_in_gc(&a)).await.unwrap();
        drop((inside, all));
        assert!(timeout(MOMENT, locks.endpoint(&a)).await.is_ok());
    }
}
