//! What the speaker tells, until the control loop has time for it: of each prefix the last word only, and so
//! many events, so that it stays bounded. Never blocks the speaker.

use bgp_speaker::speaker::{Hop, Output, PeerEvent};
use bgp_speaker::transport::{Host, Trouble};
use bgp_speaker::types::{Family, PeerId};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Events kept while nobody has time for them.
const MOST_EVENTS: usize = 1_024;

/// Letters that wait.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Routes, by prefix; without hops they go.
    pub(super) routes: HashMap<IpNet, Vec<Hop>>,
    /// Next hops to be tracked (`true`), or no longer.
    pub(super) tracked: Vec<(IpAddr, bool)>,
    /// Families that are complete.
    pub(super) in_sync: BTreeSet<Family>,
    /// What happened to peers, for the log.
    pub(super) events: VecDeque<(PeerId, PeerEvent)>,
    /// So many more happened that are forgotten.
    pub(super) forgotten: usize,
}

/// The box. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Mail(Arc<(Mutex<Letters>, Notify)>);

impl Mail {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that waits.
    pub(super) fn take(&self) -> Letters {
        std::mem::take(&mut *self.lock())
    }

    /// Waits for the next letter.
    pub(super) async fn arrived(&self) {
        self.0.1.notified().await;
    }
}

impl Host for Mail {
    fn output(&mut self, output: Output) {
        let mut letters = self.lock();
        match output {
            Output::Route { prefix, hops } => drop(letters.routes.insert(prefix, hops)),
            Output::Track { address } => letters.tracked.push((address, true)),
            Output::Untrack { address } => letters.tracked.push((address, false)),
            Output::InSync { family } => drop(letters.in_sync.insert(family)),
            Output::Peer { peer, event } => {
                if letters.events.len() >= MOST_EVENTS {
                    letters.events.pop_front();
                    letters.forgotten += 1;
                }
                letters.events.push_back((peer, event));
            }
            _ => return,
        }
        drop(letters);
        self.0.1.notify_one();
    }

    fn trouble(&mut self, trouble: Trouble) {
        tracing::warn!(%trouble, "BGP");
    }
}
