//! Names of the laws, and what became of them. Never a verdict on a law that was not tested.

use crate::backend::Error;
use std::fmt;

/// A law that every engine must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Law {
    /// After a commit without failures the kernel holds what was compiled, reports name what is blocked, and a second commit writes nothing.
    Settles,
    /// A plan names exactly the objects by which the two states differ, and the commit writes exactly these.
    PlanIsWhatHappens,
    /// Any order, splitting, repetition or squashing of the same changes ends in the same kernel state.
    EveryHistory,
    /// When the node changes, everything follows.
    NodeChange,
    /// A restarted engine takes over what is there: unchanged state is not written, orphans go.
    Restart,
    /// Nothing is deleted before the first full state is there.
    NothingDeletedBeforeSync,
    /// A missing capability is an error with a reason before anything is touched.
    MissingCapability,
    /// One failing object does not stop the others, except behind a failed gate, and is tried again.
    FailuresStayLocal,
    /// What a gate guards is never there without it, whichever write fails.
    GatesHold,
    /// Killed at any write, restarted, staged again: the same end state.
    KilledAnywhere,
    /// Without knowledge of the kernel nothing is written.
    UnreadableKernel,
    /// What somebody else changed is named and repaired; what is as it was is not written.
    DriftIsRepaired,
    /// Foreign objects survive everything.
    ForeignSurvives,
    /// A foreign object in our place is reported, not taken over.
    ForeignOccupier,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settles => "settles",
            Self::PlanIsWhatHappens => "plan is what happens",
            Self::EveryHistory => "every history",
            Self::NodeChange => "node change",
            Self::Restart => "restart",
            Self::NothingDeletedBeforeSync => "nothing deleted before sync",
            Self::MissingCapability => "missing capability",
            Self::FailuresStayLocal => "failures stay local",
            Self::GatesHold => "gates hold",
            Self::KilledAnywhere => "killed anywhere",
            Self::UnreadableKernel => "unreadable kernel",
            Self::DriftIsRepaired => "drift is repaired",
            Self::ForeignSurvives => "foreign survives",
            Self::ForeignOccupier => "foreign occupier",
        })
    }
}

/// What became of a law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It held in that many runs.
    Held {
        /// How many.
        runs: usize,
    },
    /// It was not tested.
    Skipped {
        /// What the rig or the states lack.
        reason: &'static str,
    },
}

/// All laws, none broken.
#[derive(Debug, Clone, Default)]
pub struct Conformance {
    laws: Vec<(Law, Outcome)>,
}

impl Conformance {
    pub(super) fn add(&mut self, law: Law, outcome: Outcome) {
        // A law without a single run was not tested, whatever the reason.
        let outcome = match outcome {
            Outcome::Held { runs: 0 } => Outcome::Skipped { reason: "no state gave an occasion" },
            outcome => outcome,
        };
        self.laws.push((law, outcome));
    }

    /// What became of each law, in the order they were tested.
    pub fn laws(&self) -> impl Iterator<Item = (Law, &Outcome)> {
        self.laws.iter().map(|(law, outcome)| (*law, outcome))
    }

    /// Laws that were not tested, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (Law, &'static str)> {
        self.laws.iter().filter_map(|(law, outcome)| match outcome {
            Outcome::Held { .. } => None,
            Outcome::Skipped { reason } => Some((*law, *reason)),
        })
    }
}

impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (law, outcome) in &self.laws {
            match outcome {
                Outcome::Held { runs } => writeln!(f, "held     {law} ({runs} runs)")?,
                Outcome::Skipped { reason } => writeln!(f, "skipped  {law}: {reason}")?,
            }
        }
        Ok(())
    }
}

/// A law that does not hold.
#[derive(Debug, Clone, thiserror::Error)]
#[error("law broken: {law}: {what}\nhistory:\n  {}", history.join("\n  "))]
pub struct Violation {
    /// Which.
    pub law: Law,
    /// How it was seen.
    pub what: String,
    /// What was done to the engine and the kernel before, in order.
    pub history: Vec<String>,
}

impl Violation {
    /// The rig itself failed.
    pub(super) fn rig(law: Law, error: Error) -> Self {
        Self { law, what: format!("the rig failed: {error}"), history: Vec::new() }
    }
}
