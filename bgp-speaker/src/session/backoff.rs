//! How long to wait until the next attempt. Never the attempt.

use crate::types::{CeaseSubcode, Notification};
use std::time::Duration;

/// Numbers without a pattern for timers (SplitMix64): the same seed gives the same ones.
#[derive(Debug, Clone)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 75 to 100 per cent of `time`. RFC 4271, section 10.
    pub(super) fn of(&mut self, time: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::try_from((mixed ^ mixed >> 31) & 0xff).unwrap_or(0);
        time * (3 * 255 + share) / (4 * 255)
    }
}

/// Why there has to be a next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nobody did wrong: a collision, a reset, the end of a session that lasted.
    Nobody,
    /// The peer was not there, or went away.
    Absent,
    /// A message was wrong: the next one will be too.
    Error,
}

impl Blame {
    /// Of a session that ended with a NOTIFICATION, whoever sent it.
    pub(super) const fn of(notification: &Notification) -> Self {
        use CeaseSubcode as Cease;
        match notification {
            Notification::Cease(Cease::Collision | Cease::AdminReset | Cease::ConfigurationChange, _) => Self::Nobody,
            Notification::Cease(..) | Notification::HoldTimerExpired | Notification::SendHoldTimerExpired => {
                Self::Absent
            }
            _ => Self::Error,
        }
    }
}

/// The first wait where nobody did wrong.
const SOON: Duration = Duration::from_secs(1);
/// The longest wait for a peer that is not there: it will connect to us when it is.
const MOST_ABSENT: Duration = Duration::from_secs(30);
/// The longest wait after an error.
const MOST_ERROR: Duration = Duration::from_secs(120);

/// Attempts in a row that led to nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait: `base` after the first failure, twice as long after each further one.
    pub(super) fn wait(&mut self, blame: Blame, base: Duration, jitter: &mut Jitter) -> Duration {
        let most = match blame {
            Blame::Nobody => return jitter.of(base.min(SOON)),
            Blame::Absent => MOST_ABSENT,
            Blame::Error => MOST_ERROR,
        };
        let wait = base.saturating_mul(1 << self.failures.min(16)).min(most.max(base));
        self.failures = self.failures.saturating_add(1);
        jitter.of(wait)
    }

    /// Something has lasted.
    pub(super) const fn forget(&mut self) {
        self.failures = 0;
    }
}
