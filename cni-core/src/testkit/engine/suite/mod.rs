//! The laws, one function each. Never stops at what a rig cannot do: it says so and goes on.

mod drift;
mod faults;
mod report;
mod session;
mod states;

pub use report::{Conformance, Law, Outcome, Violation};

use super::Rig;
use crate::backend::Item;
use session::Session;

/// How much the suite does.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Random histories per state.
    pub walks: usize,
    /// What they begin with. The same seed walks the same ways.
    pub seed: u64,
    /// Fault points tried per transition, spread evenly when there are more writes than this.
    pub fault_points: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { walks: 20, seed: 1, fault_points: usize::MAX }
    }
}

/// What a law's test needs.
struct Suite<'a, I: Item> {
    rig: &'a mut dyn Rig<I>,
    states: &'a [Vec<I>],
    settings: Settings,
}

/// Tests all laws with these states: sets of items, each of which the engine shall be able to reach.
///
/// Good states differ in many ways: empty, one item, many, the same items with other contents, items that do not
/// compile, items that conflict, items that share an object. At least two.
///
/// # Errors
/// The first law that does not hold, and how that was seen.
///
/// # Panics
/// With fewer than two states: that would test nothing.
pub async fn conformance<I: Item>(
    rig: &mut dyn Rig<I>,
    states: &[Vec<I>],
    settings: Settings,
) -> Result<Conformance, Violation> {
    assert!(states.len() >= 2, "the suite needs two states or more, to go from one to another");
    let mut suite = Suite { rig, states, settings };
    let mut report = Conformance::default();
    report.add(Law::Settles, suite.settles().await?);
    report.add(Law::PlanIsWhatHappens, suite.plan_is_what_happens().await?);
    report.add(Law::NodeChange, suite.node_change().await?);
    report.add(Law::Restart, suite.restart().await?);
    report.add(Law::NothingDeletedBeforeSync, suite.nothing_deleted_before_sync().await?);
    report.add(Law::MissingCapability, suite.missing_capability().await?);
    report.add(Law::EveryHistory, suite.every_history().await?);
    report.add(Law::FailuresStayLocal, suite.failures_stay_local().await?);
    report.add(Law::GatesHold, suite.gates_hold().await?);
    report.add(Law::KilledAnywhere, suite.killed_anywhere().await?);
    report.add(Law::UnreadableKernel, suite.unreadable_kernel().await?);
    report.add(Law::DriftIsRepaired, suite.drift_is_repaired().await?);
    report.add(Law::ForeignSurvives, suite.foreign_survives().await?);
    report.add(Law::ForeignOccupier, suite.foreign_occupier().await?);
    Ok(report)
}

impl<I: Item> Suite<'_, I> {
    /// An empty kernel and an engine that has seen nothing.
    async fn begin(&mut self, law: Law) -> Result<Session<'_, I>, Violation> {
        self.rig.reset().await.map_err(|error| Violation::rig(law, error))?;
        Session::open(law, self.rig).await
    }

    /// Every pair of states, one to go from and one to go to.
    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<I> {
        let count = self.states.len();
        (0..count).flat_map(move |from| (0..count).filter(move |to| *to != from).map(move |to| (from, to)))
    }
}
