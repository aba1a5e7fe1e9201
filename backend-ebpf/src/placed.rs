//! Programs that somebody takes off their hook. The kernel tells nobody of that, so hooks are asked. Never puts one back: that is
//! what a resync does.

use crate::kernel::{Hook, Hooks, Side};
use cni_core::backend::{Error, ErrorKind, Result};
use net_linux::netns::{NetNs, NetNsError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often hooks are asked: that is for how long a program can be missing. There is one question for each of a pod's two hooks.
const PERIOD: Duration = Duration::from_secs(1);

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

    /// Whether one of them is not where it was put. An interface that is gone took its programs along, and is not missed.
    fn is_amiss(&self, hooks: &mut Hooks) -> bool {
        let all = self.all().clone();
        all.into_iter().any(|(interface, side, program)| hooks.holds(interface, side, program) == Some(false))
    }
}

/// Asks now and then.
pub(crate) struct PlacedWatch {
    placed: Placed,
    hooks: Hooks,
    netns: NetNs,
    clock: Option<Interval>,
}

impl PlacedWatch {
    /// For programs in the network namespace of the calling thread.
    pub(crate) fn open(placed: Placed, hook: Hook) -> Result<Self> {
        let failed = |error: NetNsError| Error::new(ErrorKind::Kernel, "watch", "programs", &error).because(error);
        let hooks =
            hook.open().map_err(|error| Error::new(ErrorKind::Kernel, "watch", "programs", &error).because(error))?;
        Ok(Self { placed, hooks, netns: NetNs::current().map_err(failed)?, clock: None })
    }

    /// Waits until a program is missing. May be dropped at any moment and called again, within a tokio runtime.
    pub(crate) async fn amiss(&mut self) {
        let clock = self.clock.get_or_insert_with(|| {
            let mut clock = interval(PERIOD);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            clock
        });
        loop {
            clock.tick().await;
            let here = NetNs::current().is_ok_and(|current| current == self.netns);
            let mut ask = || self.placed.is_amiss(&mut self.hooks);
            // A namespace that cannot be entered any more has nothing to put back.
            if if here { ask() } else { self.netns.run(ask).unwrap_or(false) } {
                return;
            }
        }
    }
}
