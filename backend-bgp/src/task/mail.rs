//! What the speaker tells, until the control loop has time for it: of each prefix the last word only, so that it stays
//! bounded by the table. Never blocks the speaker.

use bgp_speaker::config::PeerName;
use bgp_speaker::speaker::{Hop, Output, PeerEvent};
use bgp_speaker::transport::{Host, Trouble};
use bgp_speaker::types::Family;
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
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

/// What a peer sends wrong stands in the log at most this often: it costs the peer less to send than us to write.
const PAUSE: Duration = Duration::from_secs(10);

/// When what a peer sends wrong was said last, by peer, and how much of it was not said since.
#[derive(Debug, Default)]
struct Said(HashMap<PeerName, (Instant, u64)>);

impl Said {
    /// Whether to say it now; with how much was not said before.
    fn again(&mut self, peer: &PeerName, now: Instant) -> Option<u64> {
        match self.0.get_mut(peer) {
            Some((last, unsaid)) if now < *last + PAUSE => {
                *unsaid += 1;
                None
            }
            Some(known) => Some(std::mem::replace(known, (now, 0)).1),
            None => {
                // Peers of ranges come under many names.
                self.0.retain(|_, (last, _)| now < *last + PAUSE);
                self.0.insert(peer.clone(), (now, 0));
                Some(0)
            }
        }
    }
}

/// The box. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Mail(Arc<(Mutex<Letters>, Notify, Mutex<Said>)>);

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
                    PeerEvent::Mended(problem) => {
                        let mut said = self.0.2.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(unsaid) = said.again(&peer, Instant::now()) {
                            tracing::warn!(%peer, ?problem, unsaid, "an attribute was mended (RFC 7606)");
                        }
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sends_wrong_is_said_once_in_a_while_with_how_much_was_not() {
        let (mut said, begin) = (Said::default(), Instant::now());
        let (tor, other) = (PeerName::from("tor"), PeerName::from("other"));
        assert_eq!(said.again(&tor, begin), Some(0));
        assert!((0..100_000).all(|_| said.again(&tor, begin).is_none()));
        assert_eq!(said.again(&other, begin), Some(0), "a peer keeps no other one quiet");
        assert_eq!(said.again(&tor, begin + PAUSE), Some(100_000));
        assert_eq!(said.again(&tor, begin + PAUSE), None);
        assert_eq!(said.again(&tor, begin + PAUSE * 2), Some(1));
    }
}
