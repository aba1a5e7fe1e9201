//! What an engine tells of its work. Never more than a person or a retry loop needs.

use super::{Error, Retry};
use serde::Serialize;
use std::fmt;

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// The object is not there yet.
    Create,
    /// The object is there and differs, or may differ.
    Update,
    /// The object goes.
    Delete,
}

/// One write of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What happens.
    pub action: Action,
    /// To which kernel object.
    pub object: String,
    /// What it was and what it becomes.
    pub detail: String,
}

/// An item that compiles to nothing, with the reason.
#[derive(Debug, Clone)]
pub struct Blocked {
    /// The item.
    pub item: String,
    /// Why.
    pub error: Error,
}

/// A dry run, in the order of writes.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Writes, in order.
    pub steps: Vec<Step>,
    /// Deletions that wait for the first full state.
    pub waiting_for_sync: usize,
    /// Items that are not acceptable or in conflict.
    pub blocked: Vec<Blocked>,
}

impl Plan {
    /// Both, this one first: the parts of one node.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.steps.extend(other.steps);
        self.waiting_for_sync += other.waiting_for_sync;
        self.blocked.extend(other.blocked);
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let sign = match step.action {
                Action::Create => '+',
                Action::Update => '~',
                Action::Delete => '-',
            };
            writeln!(f, "{sign} {} {}", step.object, step.detail)?;
        }
        for blocked in &self.blocked {
            writeln!(f, "! {}: {}", blocked.item, blocked.error)?;
        }
        if self.waiting_for_sync > 0 {
            writeln!(f, "  {} deletions wait for the first full state", self.waiting_for_sync)?;
        }
        Ok(())
    }
}

/// An object that could not be written, or was held back.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The items that want it, or wanted it last; empty for an orphan and for the node's own objects.
    pub items: Vec<String>,
    /// The kernel object.
    pub object: String,
    /// What went wrong; for a deferred object, what it waits for.
    pub error: Error,
}

/// What a commit did.
#[derive(Debug, Clone, Default)]
pub struct CommitReport {
    /// Objects written.
    pub written: usize,
    /// Objects that failed; they stay staged.
    pub failed: Vec<Failure>,
    /// Objects behind a failed gate; they stay staged.
    pub deferred: Vec<Failure>,
    /// Deletions that wait for the first full state.
    pub waiting_for_sync: usize,
    /// Items that are not acceptable or in conflict.
    pub blocked: Vec<Blocked>,
}

impl CommitReport {
    /// Both, this one first: the parts of one node.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.written += other.written;
        self.failed.extend(other.failed);
        self.deferred.extend(other.deferred);
        self.waiting_for_sync += other.waiting_for_sync;
        self.blocked.extend(other.blocked);
        self
    }

    /// Whether the kernel now holds all that was staged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && self.deferred.is_empty() && self.blocked.is_empty()
    }

    /// Whether another commit soon, with nothing changed, may get further.
    #[must_use]
    pub fn should_retry(&self) -> bool {
        self.failed.iter().any(|failure| failure.error.retry == Retry::Soon)
    }

    /// The first thing that keeps an item from being complete: its own failure, the gate it waits for, or why it is blocked.
    #[must_use]
    pub fn problem_of(&self, item: &impl fmt::Display) -> Option<&Error> {
        let item = item.to_string();
        let blocked = self.blocked.iter().find(|blocked| blocked.item == item).map(|blocked| &blocked.error);
        let mut failures = self.failed.iter().chain(&self.deferred);
        blocked.or_else(|| failures.find(|failure| failure.items.contains(&item)).map(|failure| &failure.error))
    }
}

/// What a resync found and did.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    /// Objects of ours that were gone.
    pub missing: Vec<String>,
    /// Objects of ours that somebody changed.
    pub changed: Vec<String>,
    /// Objects with our mark that nothing staged wants: a predecessor's, or a stranger's with our mark.
    pub unexpected: Vec<String>,
    /// The repair.
    pub repair: CommitReport,
}

impl Drift {
    /// Both, this one first: the parts of one node.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.missing.extend(other.missing);
        self.changed.extend(other.changed);
        self.unexpected.extend(other.unexpected);
        self.repair = self.repair.and(other.repair);
        self
    }

    /// Whether the kernel was as we left it.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.unexpected.is_empty()
    }
}
