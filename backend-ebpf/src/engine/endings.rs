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

/// How many are kept for who reads: what the agent hears in thirteen seconds, so that all that it can hear until its next look is told
/// at once. Only while so many wait they take memory, about 16 MiB.
const MOST: usize = 128 * 1024;

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

    /// Verdicts are noted in other maps from now on, where this was the last epoch; 0: nobody noted any there. Whoever shares the old
    /// ones with a predecessor goes on to do so.
    pub(super) fn begin_after(&self, last: u32) {
        if self.is_known() {
            self.set(if last == 0 { 0 } else { last.saturating_add(1) });
        }
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
    /// In the network namespace of the endpoints' interfaces.
    links: Socket,
    teller: Teller,
}

/// What was counted of a map of connections: its number, how many began before and after its entries were counted, and how many are
/// there.
struct Counted {
    map: u32,
    begun: [u64; 2],
    present: u64,
}

/// Who tells of what was taken, and of what was lost.
struct Teller {
    told: Sender<Ending>,
    ledger: Ledger,
    /// Taken since the ledger looked last.
    taken: u64,
    /// Lost, and not told yet.
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
        let sweeper = Sweeper { links: Socket::route()?, teller: Teller::new(told) };
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
        match sweeper.as_mut().filter(|sweeper| wanted && !sweeper.teller.told.is_closed()) {
            Some(sweeper) => sweeper.count(maps, now_seconds),
            None => {
                if let Some(sweeper) = &mut *sweeper {
                    // Whoever wants to know again begins anew.
                    sweeper.teller.ledger = Ledger::default();
                }
                maps.used(now_seconds, None).map_err(refused)
            }
        }
    }
}

impl Sweeper {
    fn count(&mut self, maps: &UsedMaps, now_seconds: u32) -> Result<Vec<crate::kernel::Used>> {
        let Self { links, teller } = self;
        let mut gone = HashMap::new();
        let mut is_gone =
            |index| *gone.entry(index).or_insert_with(|| matches!(Link::get(links, &LinkId::Index(index)), Ok(None)));
        // One place is for what was lost.
        let mut sweep = Sweep::new(teller.told.capacity().saturating_sub(1), &mut is_gone);
        let counted = counted(maps, now_seconds, &mut sweep);
        let (counts, used) = counted.map_or_else(|error| (None, Err(error)), |(counts, used)| (Some(counts), Ok(used)));
        teller.tell(sweep.over, counts);
        used
    }
}

/// Counts, and takes what is over. After an error, what was taken until then is in the sweep.
fn counted(maps: &UsedMaps, now_seconds: u32, sweep: &mut Sweep<'_>) -> Result<(Counted, Vec<crate::kernel::Used>)> {
    let map = maps.connections_id().map_err(refused)?;
    let before = maps.begun().map_err(refused)?;
    let used = maps.used(now_seconds, Some(sweep)).map_err(refused)?;
    let after = maps.begun().map_err(refused)?;
    Ok((Counted { map, begun: [before, after], present: sweep.present }, used))
}

impl Teller {
    fn new(told: Sender<Ending>) -> Self {
        Self { told, ledger: Ledger::default(), taken: 0, lost: 0 }
    }

    /// Tells of what was taken; without counts, which could not be had, what was lost is told the next time.
    fn tell(&mut self, over: Vec<Over>, counts: Option<Counted>) {
        self.taken += u64::try_from(over.len()).unwrap_or(u64::MAX);
        if let Some(Counted { map, begun, present }) = counts {
            self.lost += self.ledger.look(map, begun, present, std::mem::take(&mut self.taken));
        }
        if self.lost > 0 && self.told.try_send(Ending::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        for over in over {
            // There is room, or nobody reads any more.
            let _ = self.told.try_send(Ending::Over(over));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backend_ebpf_abi::{Connection, ConnectionKey, Tracked};

    fn over() -> Over {
        let key =
            ConnectionKey { interface: 1, own: [1; 16], other: [2; 16], own_port: 3, other_port: 4, protocol: 17 };
        Over { key, tracked: Tracked::opened(Connection::seen(100, 0), 60), endpoint_gone: false }
    }

    #[test]
    fn what_was_taken_before_a_count_failed_is_told_and_not_lost() {
        let (told, mut reader) = mpsc::channel(8);
        let mut teller = Teller::new(told);
        let counts = |begun, present| Some(Counted { map: 1, begun: [begun; 2], present });
        teller.tell(Vec::new(), counts(10, 10));
        teller.tell(vec![over(); 3], None);
        assert_eq!(reader.len(), 3);
        teller.tell(vec![over()], counts(11, 6));
        let heard: Vec<Ending> = std::iter::from_fn(|| reader.try_recv().ok()).collect();
        assert!(matches!(
            heard[..],
            [Ending::Over(_), Ending::Over(_), Ending::Over(_), Ending::Lost(1), Ending::Over(_)]
        ));
    }
}
