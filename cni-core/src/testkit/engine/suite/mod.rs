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
    /// States taken, two or more: the first and the last of those given, and others spread evenly between them.
    pub states: usize,
}

/// On a machine where every law over all states takes too long, such as an emulated one: [`Settings::states`] by default.
const STATES: &str = "CNIDARIAN_CONFORMANCE_STATES";

impl Default for Settings {
    fn default() -> Self {
        let states = std::env::var(STATES).ok().and_then(|most| most.parse().ok()).unwrap_or(usize::MAX);
        Self { walks: 20, seed: 1, fault_points: usize::MAX, states }
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
    let chosen: Vec<Vec<I>> = spread(states.len(), settings.states).map(|at| states[at].clone()).collect();
    assert!(chosen.len() >= 2, "the suite needs two states or more, to go from one to another");
    let mut suite = Suite { rig, states: &chosen, settings };
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

/// At most `most` indices below `count`: the first, the last, and others spread evenly.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |index| if taken == 1 { 0 } else { index * (count - 1) / (taken - 1) })
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

#[cfg(test)]
mod tests {
    #[test]
    fn states_are_all_of_them_or_spread_from_the_first_to_the_last() {
        let spread = |count, most| super::spread(count, most).collect::<Vec<_>>();
        assert_eq!(spread(6, usize::MAX), [0, 1, 2, 3, 4, 5]);
        assert_eq!(spread(6, 3), [0, 2, 5]);
        assert_eq!(spread(6, 2), [0, 5]);
        assert_eq!(spread(6, 1), [0]);
        assert_eq!(spread(0, 3), [] as [usize; 0]);
    }
}
