//! How long a speaker that has restarted waits before it says what it knows. Never what others do while they wait for us.
//!
//! RFC 4724, section 4.1: the restarting speaker puts off its choice of routes until it has the End-of-RIB of all its peers,
//! or a timer ends. Read to the letter, one peer that will never send it holds all routes back until that timer. Here only
//! those are waited for who owe an End-of-RIB: connected, capable, and not restarting themselves. Who has not connected yet
//! is waited for as long as our patience. Who has connected, and owes, as long as our patience since its session was up or
//! since its last UPDATE: one that sends nothing says nothing by it, and one that still sends its table is listened to. In any
//! case no longer than the timer.

use crate::types::{Family, Negotiated, PeerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Whom a restarted speaker waits for.
#[derive(Debug)]
pub(crate) struct Deferral {
    /// Expected, and not connected yet.
    absent: BTreeSet<PeerId>,
    /// Connected, and owing an End-of-RIB.
    owing: BTreeMap<PeerId, Owing>,
    /// How long a peer may say nothing.
    patience: Duration,
    /// The absent are not waited for after this.
    absent_until: Instant,
    /// Nobody is waited for after this.
    limit: Instant,
}

/// What a peer owes.
#[derive(Debug)]
struct Owing {
    /// The End-of-RIB of these.
    families: BTreeSet<Family>,
    /// It is not waited for after this, unless it says something before.
    until: Instant,
}

impl Deferral {
    /// Begins to wait for all of `expected`.
    pub(crate) fn new(now: Instant, expected: BTreeSet<PeerId>, patience: Duration, limit: Duration) -> Self {
        let patience = patience.min(limit);
        Self { absent: expected, owing: BTreeMap::new(), patience, absent_until: now + patience, limit: now + limit }
    }

    /// A session is established.
    pub(crate) fn up(&mut self, now: Instant, peer: PeerId, negotiated: &Negotiated) {
        self.absent.remove(&peer);
        let capable = negotiated.graceful_restart.as_ref().is_some_and(|restart| !restart.restarting);
        if capable {
            let families = negotiated.families.clone();
            self.owing.insert(peer, Owing { families, until: now + self.patience });
        }
    }

    /// A peer has sent an UPDATE: it is not silent.
    pub(crate) fn heard(&mut self, now: Instant, peer: PeerId) {
        if let Some(owing) = self.owing.get_mut(&peer) {
            owing.until = now + self.patience;
        }
    }

    /// A peer has sent the End-of-RIB of a family.
    pub(crate) fn end_of_rib(&mut self, peer: PeerId, family: Family) {
        if let Some(owing) = self.owing.get_mut(&peer) {
            owing.families.remove(&family);
            if owing.families.is_empty() {
                self.owing.remove(&peer);
            }
        }
    }

    /// A session has ended, or its peer is gone: it owes nothing. It is absent again where it may come back.
    pub(crate) fn down(&mut self, peer: PeerId, comes_back: bool) {
        self.owing.remove(&peer);
        if comes_back {
            self.absent.insert(peer);
        } else {
            self.absent.remove(&peer);
        }
    }

    /// Whether nobody is left to wait for.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.waits_until().is_none_or(|until| now >= until)
    }

    /// When nobody and nothing is waited for any more.
    pub(crate) const fn limit(&self) -> Instant {
        self.limit
    }

    /// When to ask again though nothing happened.
    pub(crate) fn deadline(&self) -> Instant {
        self.waits_until().unwrap_or(self.limit)
    }

    /// Until when somebody is waited for, should nobody say anything any more; `None`: there is nobody.
    fn waits_until(&self) -> Option<Instant> {
        let absent = (!self.absent.is_empty()).then_some(self.absent_until);
        self.owing.values().map(|owing| owing.until).chain(absent).max().map(|until| until.min(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::tests::agreed;
    use crate::types::GracefulRestart;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LIMIT: Duration = Duration::from_secs(120);

    fn negotiated(restart: Option<bool>) -> Negotiated {
        Negotiated {
            graceful_restart: restart.map(|restarting| GracefulRestart {
                restarting,
                notification: true,
                restart_time_seconds: 120,
                families: Vec::new(),
            }),
            ..agreed([Family::Ipv4].into())
        }
    }

    fn begin(peers: &[u32]) -> (Instant, Deferral) {
        let now = Instant::now();
        (now, Deferral::new(now, peers.iter().copied().map(PeerId).collect(), PATIENCE, LIMIT))
    }

    #[test]
    fn it_ends_with_the_last_end_of_rib_and_not_before() {
        let (now, mut deferral) = begin(&[1, 2]);
        assert!(!deferral.is_over(now));
        deferral.up(now, PeerId(1), &negotiated(Some(false)));
        deferral.up(now, PeerId(2), &negotiated(Some(false)));
        deferral.end_of_rib(PeerId(1), Family::Ipv4);
        assert!(!deferral.is_over(now + PATIENCE / 2));
        deferral.end_of_rib(PeerId(2), Family::Ipv4);
        assert!(deferral.is_over(now));
    }

    #[test]
    fn who_is_not_capable_or_restarts_too_is_not_waited_for() {
        let (now, mut deferral) = begin(&[1, 2]);
        deferral.up(now, PeerId(1), &negotiated(None));
        deferral.up(now, PeerId(2), &negotiated(Some(true)));
        assert!(deferral.is_over(now));
    }

    #[test]
    fn who_does_not_come_is_waited_for_as_long_as_the_patience_only() {
        let (now, mut deferral) = begin(&[1, 2]);
        deferral.up(now, PeerId(1), &negotiated(None));
        assert!(!deferral.is_over(now));
        assert_eq!(deferral.deadline(), now + PATIENCE);
        assert!(deferral.is_over(now + PATIENCE));
    }

    #[test]
    fn who_owes_and_says_nothing_is_waited_for_as_long_as_the_patience_only() {
        let (begin, mut deferral) = begin(&[1]);
        let now = begin + PATIENCE / 2;
        deferral.up(now, PeerId(1), &negotiated(Some(false)));
        assert!(!deferral.is_over(begin + PATIENCE), "it has come late, and has its time");
        assert_eq!(deferral.deadline(), now + PATIENCE);
        assert!(deferral.is_over(now + PATIENCE));
        deferral.down(PeerId(1), true);
        assert!(deferral.is_over(begin + PATIENCE));
    }

    #[test]
    fn who_still_sends_its_table_is_waited_for_and_until_the_limit_only() {
        let (begin, mut deferral) = begin(&[1]);
        let mut now = begin;
        deferral.up(now, PeerId(1), &negotiated(Some(false)));
        while now < begin + LIMIT {
            assert!(!deferral.is_over(now));
            deferral.heard(now, PeerId(1));
            now += PATIENCE / 2;
        }
        assert_eq!(deferral.deadline(), begin + LIMIT);
        assert!(deferral.is_over(begin + LIMIT));
    }
}
