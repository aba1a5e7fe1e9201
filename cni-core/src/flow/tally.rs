//! How many records there were, for monitors. Never by pod: that would be too many series.

use super::record::{Flow, Reason, Verdict};
use crate::policy::model::Direction;
use std::collections::BTreeMap;

/// What is counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TallyKey {
    /// What was decided.
    pub verdict: Verdict,
    /// Why it was dropped.
    pub reason: Option<Reason>,
    /// Seen from the pod.
    pub direction: Option<Direction>,
}

/// Counts since the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Decisions: records, but those that tell that a connection is over, or are sampled.
    pub flows: BTreeMap<TallyKey, u64>,
    /// Events that were lost before they were read.
    pub lost: u64,
}

impl Tally {
    /// One more.
    pub fn add(&mut self, flow: &Flow) {
        let Flow { verdict, reason, direction, .. } = *flow;
        if !flow.is_decision() {
            return;
        }
        *self.flows.entry(TallyKey { verdict, reason, direction }).or_default() += 1;
    }

    /// So many events were lost.
    pub fn lose(&mut self, events: u64) {
        self.lost += events;
    }
}
