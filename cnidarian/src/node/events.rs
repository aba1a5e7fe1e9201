//! What a node tells while it works, for metrics and logs. Never needed for the work itself.

use cni_core::backend::{CommitReport, Drift};
use cni_core::model::EndpointId;
use std::time::Duration;

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An attachment was tried.
    Attached {
        /// Which.
        endpoint: &'a EndpointId,
        /// How long it took.
        took: Duration,
        /// Whether it is there now.
        done: bool,
    },
    /// A detachment was tried.
    Detached {
        /// Which.
        endpoint: &'a EndpointId,
        /// How long it took.
        took: Duration,
        /// Whether it is gone now.
        done: bool,
    },
    /// Staged changes were written.
    Commit {
        /// How long it took.
        took: Duration,
        /// What it did.
        report: &'a CommitReport,
    },
    /// The kernel was read back.
    Drift {
        /// What differed, and the repair.
        drift: &'a Drift,
    },
}

/// Takes events. Called on the task that does the work, so it must return at once.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn observe(&self, event: Event<'_>);
}

/// Takes events and forgets them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _: Event<'_>) {}
}
