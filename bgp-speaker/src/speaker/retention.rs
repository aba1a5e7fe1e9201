//! How long routes of a peer that went away are kept. Never the routes themselves.
//!
//! ```text
//!            down                 up, kept               End-of-RIB, or stale time over: sweep
//!  fresh ----------> away -------------------> returned ----------------------------------> fresh
//!                     | restart time over        ^
//!                     v                          | up, kept
//!                 long-lived --------------------+
//!                     | stale time over: drop                      (up, not kept: drop at once)
//! ```
//!
//! RFC 4724, section 4.2; RFC 9494, section 4.2.

use crate::types::{Family, Negotiated};
use std::time::{Duration, Instant};

/// What is to be done with the stale routes of one family of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// They are gone.
    Drop(Family),
    /// They are used last from now on, and those that must not be kept long are gone.
    LongLived(Family),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The peer is away. Long-lived after that, for so long.
    Away { long_lived: Option<Duration> },
    /// Away for longer than its restart time.
    LongLived,
    /// Back, and sending its table.
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    phase: Phase,
    /// When the phase ends by itself.
    until: Instant,
    /// When the routes are gone whatever the peer does: it may come and go, and never send its table.
    limit: Instant,
}

/// The stale routes of one peer, by family.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    kept: [Option<Kept>; Family::ALL.len()],
}

impl Retention {
    /// The session ended in a way that keeps routes: those of which families. The others have to be dropped by the caller.
    ///
    /// Families that were stale already are not kept a second time: a peer that comes and goes before it has sent its
    /// table does not prolong anything.
    pub(crate) fn down(
        &mut self,
        now: Instant,
        session: &Negotiated,
        long_lived: bool,
        stale_time: Duration,
    ) -> Vec<Family> {
        let Some(restart) = &session.graceful_restart else {
            self.kept = Default::default();
            return Vec::new();
        };
        let until = now + Duration::from_secs(restart.restart_time_seconds.into());
        for family in Family::ALL {
            let offered = restart.families.iter().any(|kept| kept.family == family);
            let long = session.long_lived.iter().find(|long| long.family == family).filter(|_| long_lived);
            let long = long.map(|long| Duration::from_secs(long.stale_time_seconds.into()));
            let slot = &mut self.kept[family.index()];
            *slot = match *slot {
                _ if !offered => None,
                Some(Kept { phase: Phase::Returned, limit, .. }) => {
                    Some(Kept { phase: Phase::Away { long_lived: None }, until: until.min(limit), limit })
                }
                Some(before) => Some(before),
                None => {
                    let limit = until + long.unwrap_or_default() + stale_time;
                    Some(Kept { phase: Phase::Away { long_lived: long }, until, limit })
                }
            };
        }
        self.families()
    }

    /// The session is back: what it did not keep has to be dropped.
    pub(crate) fn up(&mut self, now: Instant, session: &Negotiated, stale_time: Duration) -> Vec<Family> {
        let mut lost = Vec::new();
        for family in self.families() {
            let restart = session.graceful_restart.as_ref();
            let is_kept = restart.is_some_and(|restart| {
                restart.families.iter().any(|kept| kept.family == family && kept.forwarding_kept)
            });
            let long_kept = session.long_lived.iter().any(|long| long.family == family && long.forwarding_kept);
            let slot = &mut self.kept[family.index()];
            let stays = (is_kept || long_kept) && session.families.contains(&family);
            *slot = slot.filter(|_| stays).map(|kept| Kept {
                phase: Phase::Returned,
                until: (now + stale_time).min(kept.limit),
                ..kept
            });
            if slot.is_none() {
                lost.push(family);
            }
        }
        lost
    }

    /// The peer has sent its whole table of a family: whether stale routes of it are to be swept.
    pub(crate) fn end_of_rib(&mut self, family: Family) -> bool {
        self.kept[family.index()].take_if(|kept| kept.phase == Phase::Returned).is_some()
    }

    /// Everything is to be dropped by the caller.
    pub(crate) fn forget(&mut self) -> Vec<Family> {
        let families = self.families();
        self.kept = Default::default();
        families
    }

    /// What time has brought.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        for family in Family::ALL {
            let slot = &mut self.kept[family.index()];
            let Some(kept) = slot.filter(|kept| kept.until <= now) else { continue };
            if let Phase::Away { long_lived: Some(time) } = kept.phase {
                *slot = Some(Kept { phase: Phase::LongLived, until: kept.until + time, ..kept });
                due.push(Due::LongLived(family));
            } else {
                *slot = None;
                due.push(Due::Drop(family));
            }
        }
        due
    }

    /// When to ask again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.kept.iter().flatten().map(|kept| kept.until).min()
    }

    /// Whether there are stale routes: a graceful restart is under way.
    pub(crate) fn keeps(&self) -> bool {
        self.kept.iter().any(Option::is_some)
    }

    /// Families with stale routes.
    pub(crate) fn families(&self) -> Vec<Family> {
        Family::ALL.into_iter().filter(|family| self.kept[family.index()].is_some()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::tests::agreed;
    use crate::types::{GracefulRestart, LongLivedFamily, RestartFamily};

    const RESTART: Duration = Duration::from_secs(120);
    const STALE: Duration = Duration::from_secs(360);
    const LONG: Duration = Duration::from_secs(3600);

    fn session(forwarding_kept: bool) -> Negotiated {
        Negotiated {
            graceful_restart: Some(GracefulRestart {
                restarting: true,
                notification: true,
                restart_time_seconds: 120,
                families: vec![RestartFamily { family: Family::Ipv4, forwarding_kept }],
            }),
            long_lived: vec![LongLivedFamily { family: Family::Ipv4, forwarding_kept, stale_time_seconds: 3600 }],
            ..agreed(Family::ALL.into())
        }
    }

    fn away() -> (Instant, Retention) {
        let (now, mut retention) = (Instant::now(), Retention::default());
        assert_eq!(retention.down(now, &session(true), true, STALE), [Family::Ipv4]);
        (now, retention)
    }

    #[test]
    fn only_families_of_the_peers_offer_are_kept() {
        let (now, mut retention) = (Instant::now(), Retention::default());
        let none = Negotiated { graceful_restart: None, ..session(true) };
        assert!(retention.down(now, &none, true, STALE).is_empty());
        assert_eq!(retention.deadline(), None);
    }

    #[test]
    fn stale_routes_go_with_the_restart_time_or_become_long_lived() {
        let (now, mut retention) = away();
        assert!(retention.tick(now + RESTART / 2).is_empty());
        assert_eq!(retention.tick(now + RESTART), [Due::LongLived(Family::Ipv4)]);
        assert_eq!(retention.tick(now + RESTART + LONG), [Due::Drop(Family::Ipv4)]);
        let (now, mut retention) = (now, Retention::default());
        retention.down(now, &session(true), false, STALE);
        assert_eq!(retention.tick(now + RESTART), [Due::Drop(Family::Ipv4)]);
        assert_eq!(retention.deadline(), None);
    }

    #[test]
    fn end_of_rib_sweeps_what_a_peer_that_came_back_did_not_send_again() {
        let (now, mut retention) = away();
        assert!(!retention.end_of_rib(Family::Ipv4), "it is still away");
        assert!(retention.up(now, &session(true), STALE).is_empty());
        assert!(retention.end_of_rib(Family::Ipv4));
        assert!(!retention.end_of_rib(Family::Ipv4));
        assert_eq!(retention.deadline(), None);
    }

    #[test]
    fn a_peer_that_comes_back_without_its_routes_loses_them_at_once() {
        let (now, mut retention) = away();
        assert_eq!(retention.up(now, &session(false), STALE), [Family::Ipv4]);
        assert_eq!(retention.deadline(), None);
    }

    /// RFC 4724, section 4.2: routes that are stale already are deleted when the session goes again.
    #[test]
    fn a_peer_that_flaps_prolongs_nothing() {
        let (start, mut retention) = away();
        let mut now = start;
        for _ in 0..10_000 {
            now += Duration::from_secs(1);
            retention.up(now, &session(true), STALE);
            retention.down(now, &session(true), true, STALE);
            let due = retention.tick(now);
            if !due.is_empty() {
                assert_eq!(due, [Due::Drop(Family::Ipv4)]);
                assert!(now - start <= RESTART + LONG + STALE);
                return;
            }
        }
        panic!("kept for ever");
    }
}
