//! Connections that are over, from the map that the meter counts to who reads flows. Never in the way of either: where there is no
//! room for more they stay in the map until the next time.

use super::ledger::Ledger;
use super::refused;
use crate::kernel::{Over, Sweep, UsedMaps};
use cni_core::backend::Result;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::Socket;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// How many are kept for who reads: about 2 MiB, and what the agent hears in a second and a half.
const MOST: usize = 16 * 1024;

/// What is told.
#[derive(Debug)]
pub(crate) enum Ending {
    /// A connection.
    Over(Over),
    /// So many had to make room before they were read.
    Lost(u64),
}

/// From which epoch on verdicts have numbers of this process.
#[derive(Debug, Clone)]
pub(crate) struct OwnEpoch(Arc<AtomicU32>);

impl OwnEpoch {
    /// All of them.
    pub(crate) fn all() -> Self {
        Self(Arc::new(AtomicU32::new(0)))
    }

    /// None, until it is known.
    fn unknown() -> Self {
        Self(Arc::new(AtomicU32::new(u32::MAX)))
    }

    pub(crate) fn has(&self, epoch: u32) -> bool {
        epoch >= self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u32::MAX
    }

    pub(crate) fn set(&self, epoch: u32) {
        self.0.store(epoch, Ordering::Relaxed);
    }
}

/// Where they are taken from the map.
#[derive(Clone)]
pub(super) struct Endings {
    /// Whether somebody wants to know.
    wanted: Arc<AtomicBool>,
    pub(super) own_epoch: OwnEpoch,
    sweeper: Arc<Mutex<Option<Sweeper>>>,
}

struct Sweeper {
    told: Sender<Ending>,
    /// In the network namespace of the endpoints' interfaces.
    links: Socket,
    ledger: Ledger,
    lost: u64,
}

impl Default for Endings {
    fn default() -> Self {
        Self { wanted: Arc::default(), own_epoch: OwnEpoch::unknown(), sweeper: Arc::default() }
    }
}

impl Endings {
    /// The reading end. There is one. The calling thread is in the network namespace of the interfaces.
    pub(super) fn reader(&self) -> Result<Receiver<Ending>> {
        let (told, reader) = mpsc::channel(MOST);
        let sweeper = Sweeper { told, links: Socket::route()?, ledger: Ledger::default(), lost: 0 };
        *self.sweeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(sweeper);
        Ok(reader)
    }

    /// Whether connections that are over are wanted from now on.
    pub(super) fn want(&self, wanted: bool) {
        self.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Counts what is in the maps, and takes connections that are over out of theirs where somebody wants to know of them.
    pub(super) fn count(&self, maps: &UsedMaps, now_seconds: u32) -> Result<Vec<crate::kernel::Used>> {
        let mut sweeper = self.sweeper.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.wanted.load(Ordering::Relaxed);
        match sweeper.as_mut().filter(|sweeper| wanted && !sweeper.told.is_closed()) {
            Some(sweeper) => sweeper.count(maps, now_seconds),
            None => {
                if let Some(sweeper) = &mut *sweeper {
                    // Whoever wants to know again begins anew.
                    sweeper.ledger = Ledger::default();
                }
                maps.used(now_seconds, None).map_err(refused)
            }
        }
    }
}

impl Sweeper {
    fn count(&mut self, maps: &UsedMaps, now_seconds: u32) -> Result<Vec<crate::kernel::Used>> {
        let Self { told, links, ledger, lost } = self;
        let mut gone = HashMap::new();
        let mut is_gone =
            |index| *gone.entry(index).or_insert_with(|| matches!(Link::get(links, &LinkId::Index(index)), Ok(None)));
        // One place is for what was lost.
        let mut sweep = Sweep::new(told.capacity().saturating_sub(1), &mut is_gone);
        let before = maps.begun().map_err(refused)?;
        let used = maps.used(now_seconds, Some(&mut sweep)).map_err(refused)?;
        let after = maps.begun().map_err(refused)?;
        let taken = u64::try_from(sweep.over.len()).unwrap_or(u64::MAX);
        *lost += ledger.look(maps.connections_id().map_err(refused)?, [before, after], sweep.present, taken);
        if *lost > 0 && told.try_send(Ending::Lost(*lost)).is_ok() {
            *lost = 0;
        }
        for over in sweep.over {
            // There is room, or nobody reads any more.
            let _ = told.try_send(Ending::Over(over));
        }
        Ok(used)
    }
}
