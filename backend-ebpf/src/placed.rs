//! Programs that somebody takes off their hook. The kernel tells nobody of that, so hooks are asked. Never puts one back: that is
//! what a resync does. Those that began at clsact are moved to TCX on the way, when no pod waits for them any more.

use crate::kernel::{Held, Hook, Hooks, Side};
use cni_core::backend::{Error, ErrorKind, Result};
use net_linux::netns::{NetNs, NetNsError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

/// How often hooks are asked: that is for how long a program can be missing. There is one question for each of a pod's two hooks.
const PERIOD: Duration = Duration::from_secs(1);

/// For how many looks programs stay at clsact, where others come to new pods each time.
const MOST_PUT_OFF: u8 = 10;

/// The numbers of programs, with the interface and its side.
pub(crate) type ByHook = BTreeSet<(u32, Side, u32)>;

/// What was put at hooks. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placed(Arc<Mutex<ByHook>>);

impl Placed {
    fn all(&self) -> MutexGuard<'_, ByHook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, all: ByHook) {
        *self.all() = all;
    }

    pub(crate) fn insert(&self, interface: u32, side: Side, program: u32) {
        let mut all = self.all();
        all.retain(|(index, at, _)| (*index, *at) != (interface, side));
        all.insert((interface, side, program));
    }

    pub(crate) fn remove(&self, interface: u32, side: Side) {
        self.all().retain(|(index, at, _)| (*index, *at) != (interface, side));
    }

    /// An interface that is gone took its programs along, and they are not missed.
    fn look(&self, hooks: &mut Hooks) -> Seen {
        let mut seen = Seen::default();
        let all = self.all().clone();
        for (interface, side, program) in all {
            match hooks.holds(interface, side, program) {
                Some(Held::Missing) => seen.is_amiss = true,
                Some(Held::Urgent) => drop(seen.urgent.insert((interface, side))),
                Some(Held::Overtaken) => drop(seen.overtaken.insert((interface, side))),
                Some(Held::Settled) | None => {}
            }
        }
        seen
    }
}

/// What one look at the hooks found.
#[derive(Default)]
struct Seen {
    /// A program is not where it was put.
    is_amiss: bool,
    /// Where one is to be moved.
    urgent: BTreeSet<(u32, Side)>,
    /// The same where it cannot wait.
    overtaken: BTreeSet<(u32, Side)>,
}

/// Asks now and then.
pub(crate) struct PlacedWatch {
    placed: Placed,
    hooks: Hooks,
    netns: NetNs,
    clock: Option<Interval>,
    /// Where programs were at the last look that are to be moved.
    urgent: BTreeSet<(u32, Side)>,
    /// How many looks ago they could have been.
    put_off: u8,
}

impl PlacedWatch {
    /// For programs in the network namespace of the calling thread.
    pub(crate) fn open(placed: Placed, hook: Hook) -> Result<Self> {
        let failed = |error: NetNsError| Error::new(ErrorKind::Kernel, "watch", "programs", &error).because(error);
        let hooks =
            hook.open().map_err(|error| Error::new(ErrorKind::Kernel, "watch", "programs", &error).because(error))?;
        Ok(Self {
            placed,
            hooks,
            netns: NetNs::current().map_err(failed)?,
            clock: None,
            urgent: BTreeSet::new(),
            put_off: 0,
        })
    }

    /// Waits until a program is missing. May be dropped at any moment and called again, within a tokio runtime.
    pub(crate) async fn amiss(&mut self) {
        loop {
            let clock = self.clock.get_or_insert_with(|| {
                let mut clock = interval(PERIOD);
                clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
                clock
            });
            clock.tick().await;
            // A namespace that cannot be entered any more has nothing to put back.
            let seen = self.inside(|placed, hooks| placed.look(hooks)).unwrap_or_default();
            if seen.is_amiss {
                return;
            }
            let start = Instant::now();
            for (interface, side) in self.due(seen) {
                // While we move, nobody looks.
                if start.elapsed() > PERIOD {
                    break;
                }
                let begun = Instant::now();
                // One that cannot be moved is tried again with each look; of policy's a resync says why.
                let _ = self.inside(|_, hooks| hooks.settle(interface, side));
                // Others change interfaces meanwhile.
                sleep(begun.elapsed()).await;
            }
        }
    }

    /// Where programs are moved now: while pods come they would wait for the lock that is held for each move.
    fn due(&mut self, Seen { urgent, overtaken, .. }: Seen) -> Vec<(u32, Side)> {
        let is_quiet = urgent.is_subset(&self.urgent);
        self.put_off = if is_quiet || self.put_off == MOST_PUT_OFF { 0 } else { self.put_off + 1 };
        let is_time = self.put_off == 0;
        let known = urgent.intersection(&self.urgent).copied().filter(|_| is_time);
        let due = overtaken.into_iter().chain(known).collect();
        self.urgent = urgent;
        due
    }

    /// Runs `work` in the network namespace of the programs.
    fn inside<T: Send>(
        &mut self,
        work: impl FnOnce(&Placed, &mut Hooks) -> T + Send,
    ) -> std::result::Result<T, NetNsError> {
        let Self { placed, hooks, netns, .. } = self;
        if NetNs::current().is_ok_and(|current| current == *netns) {
            return Ok(work(placed, hooks));
        }
        netns.run(|| work(placed, hooks))
    }
}
