//! What a part of a node drops, and how full its tables are: for monitors. Never by pod or by rule, which would be too many
//! series.

use super::Result;
use crate::flow::Reason;
use crate::policy::model::Direction;

/// Packets that were dropped for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Seen from the pod, or from the node itself; `None`: not known.
    pub direction: Option<Direction>,
    /// `None`: policy denies them, by a rule or by the end of a tier.
    pub reason: Option<Reason>,
    /// How many since the counter was made.
    pub packets: u64,
}

impl Dropped {
    /// The word for monitors: that of the reason, or `policy`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.reason.map_or("policy", Reason::as_str)
    }

    /// What policy says has one word, however much an engine tells apart, so that the counts of two engines compare.
    #[must_use]
    pub const fn told(direction: Option<Direction>, reason: Reason, packets: u64) -> Self {
        let reason = match reason {
            Reason::Rule | Reason::EndOfTier | Reason::DeniedSinceOpened => None,
            other => Some(other),
        };
        Self { direction, reason, packets }
    }
}

/// A table that has room for so many entries and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableUse {
    /// Its name, as the kernel's or the configuration's.
    pub table: &'static str,
    /// Entries that are in use; `None`: this cannot be known.
    pub entries: Option<u64>,
    /// Entries that there is room for.
    pub room: u64,
    /// What becomes of one more when there is no room.
    pub when_full: WhenFull,
}

/// What a full table does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// It refuses, and what needs the entry stays closed, or as it was.
    Refuses,
    /// The one that was quiet for longest makes room.
    ForgetsOldest,
}

/// Reads a part's counters and tables beside the part. Each call may wait for the kernel, for up to seconds where tables are
/// large.
///
/// # Laws
/// 1. A packet that is dropped is in at most one count.
/// 2. A table of which nothing is there yet is left out.
pub trait Meter: Send + Sync {
    /// What was dropped, each direction and reason once. Empty: the part drops nothing, or does not count.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn dropped(&self) -> Result<Vec<Dropped>>;

    /// How full its tables are. Empty: there are none of a fixed size.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn tables(&self) -> Result<Vec<TableUse>>;
}

/// Whether a table is nearly full: from [`Self::FULL_PERCENT`] on, until there is room again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alarm {
    is_on: bool,
}

impl Alarm {
    /// It goes on when more of the room is used.
    pub const FULL_PERCENT: u64 = 90;
    /// It goes off when less of the room is used.
    pub const ROOM_PERCENT: u64 = 80;

    /// Takes in how much is used now, and answers whether that is another state than before.
    pub fn look(&mut self, entries: u64, room: u64) -> bool {
        let percent = |part: u64| u128::from(room) * u128::from(part);
        let (used, was_on) = (u128::from(entries) * 100, self.is_on);
        self.is_on = used > percent(Self::FULL_PERCENT) || (was_on && used >= percent(Self::ROOM_PERCENT));
        was_on != self.is_on
    }

    /// Whether it is nearly full.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_table_is_nearly_full_above_90_percent_until_it_is_below_80() {
        let mut alarm = Alarm::default();
        for (entries, is_on, is_other) in [
            (900, false, false),
            (901, true, true),
            (1000, true, false),
            (900, true, false),
            (800, true, false),
            (799, false, true),
            (900, false, false),
            (0, false, false),
        ] {
            assert_eq!((alarm.look(entries, 1000), alarm.is_on()), (is_other, is_on), "{entries}");
        }
        let mut nowhere = Alarm::default();
        assert!(!nowhere.look(0, 0) && !nowhere.is_on(), "a table without room has nothing to run out of");
    }

    #[test]
    fn what_policy_denies_has_one_word() {
        for reason in [Reason::Rule, Reason::EndOfTier, Reason::DeniedSinceOpened] {
            assert_eq!(Dropped::told(None, reason, 1).word(), "policy");
        }
        assert_eq!(Dropped::told(None, Reason::Vlan, 1).word(), "vlan");
    }

    proptest! {
        /// Between the two marks nothing is said, whatever happens there.
        #[test]
        fn what_moves_between_the_marks_is_not_told(entries: Vec<u16>, before in 0_u64..=1000) {
            let mut alarm = Alarm::default();
            alarm.look(before, 1000);
            for entry in entries {
                prop_assert!(!alarm.look(800 + u64::from(entry) % 101, 1000));
            }
        }
    }
}
