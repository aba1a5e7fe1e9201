//! How full the maps of forwarding are, for monitors. Never writes.

use super::kernel_error;
use crate::kernel::ForwardMaps;
use crate::object::Key;
use cni_core::backend::{Dropped, Meter, Result, TableUse, WhenFull};
use std::sync::{Arc, Mutex, PoisonError};

/// The maps that the driver last saw, which it puts here. `None`: there are none.
#[derive(Clone, Default)]
pub(crate) struct Metered(Arc<Mutex<Option<Arc<ForwardMaps>>>>);

impl Metered {
    pub(super) fn set(&self, maps: Option<ForwardMaps>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = maps.map(Arc::new);
    }

    /// The lock is not held while the maps are read: the driver does not wait for who counts.
    fn get(&self) -> Option<Arc<ForwardMaps>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Meter for Metered {
    /// What these programs do not know they leave to the host's stack.
    fn dropped(&self) -> Result<Vec<Dropped>> {
        Ok(Vec::new())
    }

    fn tables(&self) -> Result<Vec<TableUse>> {
        let Some(maps) = self.get() else { return Ok(Vec::new()) };
        let used = maps.used().map_err(|error| kernel_error("read", &Key::Programs, error))?;
        let table = |used: crate::kernel::Used| TableUse {
            table: used.map,
            entries: used.entries,
            room: used.room.into(),
            when_full: WhenFull::Refuses,
        };
        Ok(used.into_iter().map(table).collect())
    }
}
