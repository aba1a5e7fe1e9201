//! What the speaker tells, until the control loop has time for it: of each prefix the last word only, so that it stays
//! bounded by the table. Never blocks the speaker.

use bgp_speaker::speaker::{Hop, Output, PeerEvent};
use bgp_speaker::transport::{Host, Trouble};
use bgp_speaker::types::Family;
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Letters that wait.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Routes, by prefix; without hops they go.
    pub(super) routes: HashMap<IpNet, Vec<Hop>>,
    /// Next hops to be tracked (`true`), or no longer.
    pub(super) tracked: Vec<(IpAddr, bool)>,
    /// Families that are complete.
    pub(super) in_sync: BTreeSet<Family>,
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
            Output::Peer { name: peer, event, .. } => {
                match event {
                    PeerEvent::Up => tracing::info!(%peer, "BGP session established"),
                    PeerEvent::Down(reason) => tracing::info!(%peer, %reason, "BGP session down"),
                    other => tracing::warn!(%peer, event = ?other, "BGP"),
                }
                return;
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
