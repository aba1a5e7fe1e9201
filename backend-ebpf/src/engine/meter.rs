//! What the programs drop, and how full their maps are, for monitors. Never writes, but takes out connections that are over where
//! somebody wants to hear of them.

use super::endings::Endings;
use super::refused;
use crate::flows;
use crate::kernel::{UsedMaps, Way};
use cni_core::backend::{Dropped, Meter, Result, TableUse, WhenFull};
use cni_core::policy::model::Direction;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts for monitors.
#[derive(Clone, Default)]
pub(super) struct Metered {
    /// The maps of the generation in force, which the engine puts here. `None`: there is none yet.
    maps: Arc<Mutex<Option<Arc<UsedMaps>>>>,
    /// What becomes of connections that are over.
    pub(super) endings: Endings,
}

impl Metered {
    pub(super) fn set(&self, maps: UsedMaps) {
        *self.maps.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(maps));
    }

    /// The lock is not held while the maps are read: the engine does not wait for who counts.
    fn get(&self) -> Option<Arc<UsedMaps>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Meter for Metered {
    /// Since the first agent of this node, unless sizes were changed.
    fn dropped(&self) -> Result<Vec<Dropped>> {
        let Some(maps) = self.get() else { return Ok(Vec::new()) };
        let mut all = BTreeMap::new();
        for way in Way::EVERY {
            let direction = match way {
                Way::FromPod | Way::FromHost => Direction::Egress,
                Way::ToPod | Way::ToHost => Direction::Ingress,
            };
            for (told, packets) in maps.packets(way).map_err(refused)? {
                if !told.passes() {
                    *all.entry((direction, flows::reason(told))).or_default() += packets;
                }
            }
        }
        let dropped = |((direction, reason), packets)| Dropped::told(Some(direction), reason, packets);
        Ok(all.into_iter().map(dropped).collect())
    }

    fn tables(&self) -> Result<Vec<TableUse>> {
        let Some(maps) = self.get() else { return Ok(Vec::new()) };
        let now = u32::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(u32::MAX);
        let used = self.endings.count(&maps, now)?.into_iter().map(|used| TableUse {
            table: used.map,
            entries: used.entries,
            room: used.room.into(),
            when_full: match used.map {
                "CONNECTIONS" | "FRAGMENTS" => WhenFull::ForgetsOldest,
                _ => WhenFull::Refuses,
            },
        });
        Ok(used.collect())
    }
}
