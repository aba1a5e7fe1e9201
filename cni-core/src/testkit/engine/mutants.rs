//! Engines with a law broken, each caught by the suite: the test of the tests.

use super::fake::{self, FakeDriver, FakeKernel, FakeKey, FakeObject, FakeTestbed, Mark};
use super::{Compiled, DriverRig, Faults, Faulty, Law, Rig, Settings, Snapshot, Strangers, Tamper, conformance};
use crate::backend::{
    Capabilities, Change, CommitReport, Drift, Driver, Engine, Error, ErrorKind, Gate, NetworkChange, Op, Plan, Rank,
    Reconciler, Result,
};
use crate::model::{NetworkItem, NodeContext};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// What is wrong with a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    WritesDownwards,
    IgnoresGates,
    IgnoresThePredecessor,
    MissesNeighboursOfThePredecessor,
    DeletesBeforeSync,
    NeverDeletes,
    SwallowsFailures,
    NeverRetries,
    StopsAtTheFirstFailure,
    TakesOverForeignObjects,
    TakesForeignObjectsForOurs,
    TakesUnreadableForEmpty,
    IsSilentOnMissingCapabilities,
    IgnoresTheNode,
    PlansNothing,
    HidesTheBlocked,
    RepairsNothing,
    RepairsSilently,
    ForgetsTheFirstOfTwoStagings,
    WritesAgain,
}

struct BadDriver {
    driver: Faulty<FakeDriver>,
    kernel: FakeKernel,
    bug: Bug,
    given_up: BTreeSet<FakeKey>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Driver for BadDriver {
    type Item = NetworkItem;
    type Key = FakeKey;
    type Object = FakeObject;

    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }
    fn adopt(&mut self, node: &NodeContext) -> Result<()> {
        self.driver.adopt(node)
    }
    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        self.driver.configure(section)
    }
    fn describe(&self, key: &FakeKey, from: Option<&FakeObject>, to: Option<&FakeObject>) -> String {
        self.driver.describe(key, from, to)
    }
    fn base(&self) -> Result<Vec<(FakeKey, FakeObject)>> {
        self.driver.base()
    }
    fn compile(&self, item: &NetworkItem) -> Result<Vec<(FakeKey, FakeObject)>> {
        match self.driver.compile(item) {
            Err(error) if self.bug == Bug::IsSilentOnMissingCapabilities && error.kind == ErrorKind::Unsupported => {
                Ok(Vec::new())
            }
            compiled => compiled,
        }
    }
    fn rank(&self, key: &FakeKey) -> Rank {
        let rank = self.driver.rank(key);
        match self.bug {
            Bug::WritesDownwards => Rank { level: 9 - rank.level, ..rank },
            Bug::IgnoresGates => rank.gate(Gate::Open),
            _ => rank,
        }
    }
    async fn observe(&mut self) -> Result<Vec<(FakeKey, FakeObject)>> {
        let observed = self.driver.observe().await;
        match self.bug {
            Bug::IgnoresThePredecessor => Ok(Vec::new()),
            Bug::MissesNeighboursOfThePredecessor => {
                let neighbour = |(key, _): &(_, _)| matches!(key, FakeKey::Neighbour(_));
                observed.map(|all| all.into_iter().filter(|object| !neighbour(object)).collect())
            }
            Bug::TakesForeignObjectsForOurs => Ok([observed?, self.kernel.dump(Mark::Foreign)].concat()),
            Bug::TakesUnreadableForEmpty => Ok(observed.unwrap_or_default()),
            _ => observed,
        }
    }
    async fn apply(&mut self, batch: &[Op<FakeKey, FakeObject>]) -> Vec<Result<()>> {
        let mut results = self.driver.apply(batch).await;
        let mut stopped = false;
        for (op, result) in batch.iter().zip(&mut results) {
            let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
            match self.bug {
                Bug::SwallowsFailures => *result = Ok(()),
                Bug::NeverRetries if self.given_up.contains(key) => {
                    let _undone = self.kernel.delete(key);
                    *result = Ok(());
                }
                Bug::NeverRetries if result.is_err() => drop(self.given_up.insert(key.clone())),
                Bug::StopsAtTheFirstFailure if stopped => {
                    let _undone = self.kernel.delete(key);
                    *result = Err(Error::new(ErrorKind::Kernel, "put", key, "stopped"));
                }
                Bug::StopsAtTheFirstFailure => stopped = result.is_err(),
                Bug::TakesOverForeignObjects if matches!(result, Err(error) if error.kind == ErrorKind::Foreign) => {
                    *result = Ok(());
                    if let Op::Put { object, .. } = op {
                        self.kernel.replace(key, object.clone()).unwrap();
                    }
                }
                Bug::TakesForeignObjectsForOurs if matches!(op, Op::Delete { .. }) && result.is_ok() => {
                    let _gone = self.kernel.delete(key);
                }
                _ => {}
            }
        }
        results
    }
}

struct BadEngine {
    engine: Reconciler<BadDriver>,
    kernel: FakeKernel,
    bug: Bug,
    staged: usize,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Engine<NetworkItem> for BadEngine {
    fn capabilities(&self) -> &Capabilities {
        self.engine.capabilities()
    }
    fn stage(&mut self, change: NetworkChange) -> Result<()> {
        self.staged += 1;
        match (self.bug, &change) {
            (Bug::NeverDeletes, Change::InSync) | (Bug::IgnoresTheNode, Change::Node(_)) => return Ok(()),
            (Bug::DeletesBeforeSync, _) => self.engine.stage(Change::InSync)?,
            (Bug::ForgetsTheFirstOfTwoStagings, Change::Remove(_)) if self.staged.is_multiple_of(2) => return Ok(()),
            _ => {}
        }
        self.engine.stage(change)
    }
    fn plan(&self) -> Plan {
        match self.bug {
            Bug::PlansNothing => Plan { steps: Vec::new(), ..self.engine.plan() },
            Bug::HidesTheBlocked => Plan { blocked: Vec::new(), ..self.engine.plan() },
            _ => self.engine.plan(),
        }
    }
    async fn commit(&mut self) -> CommitReport {
        let report = self.engine.commit().await;
        match self.bug {
            Bug::HidesTheBlocked => CommitReport { blocked: Vec::new(), ..report },
            Bug::WritesAgain => CommitReport { written: report.written + 1, ..report },
            _ => report,
        }
    }
    async fn resync(&mut self) -> Result<Drift> {
        match self.bug {
            Bug::RepairsNothing => {
                let before = self.kernel.dump(Mark::Ours);
                let drift = self.engine.resync().await?;
                for (key, _) in self.kernel.dump(Mark::Ours) {
                    let _may_have_gone_with_the_device = self.kernel.delete(&key);
                }
                for (key, object) in before {
                    self.kernel.create(key, object, Mark::Ours).unwrap();
                }
                Ok(drift)
            }
            Bug::RepairsSilently => Ok(Drift { repair: self.engine.resync().await?.repair, ..Drift::default() }),
            _ => self.engine.resync().await,
        }
    }
}

/// The good rig, except for the engines it opens.
struct BadRig {
    good: DriverRig<FakeTestbed>,
    kernel: FakeKernel,
    bug: Bug,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Rig<NetworkItem> for BadRig {
    async fn open(&mut self) -> Result<Box<dyn Engine<NetworkItem>>> {
        let driver = FakeDriver::new(self.kernel.clone(), fake::node());
        let driver = Faulty::new(driver, Rig::faults(&self.good).unwrap());
        let driver = BadDriver { driver, kernel: self.kernel.clone(), bug: self.bug, given_up: BTreeSet::new() };
        Ok(Box::new(BadEngine {
            engine: Reconciler::new(driver)?,
            kernel: self.kernel.clone(),
            bug: self.bug,
            staged: 0,
        }))
    }
    async fn observe(&mut self) -> Result<Snapshot> {
        self.good.observe().await
    }
    fn compile(&mut self, node: &NodeContext, items: &[NetworkItem]) -> Compiled {
        self.good.compile(node, items)
    }
    async fn reset(&mut self) -> Result<()> {
        self.good.reset().await
    }
    fn contexts(&self) -> Vec<NodeContext> {
        self.good.contexts()
    }
    fn unsupported(&self) -> Vec<NetworkItem> {
        self.good.unsupported()
    }
    fn faults(&self) -> Option<Faults> {
        Rig::faults(&self.good)
    }
    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        self.good.tamper()
    }
    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        self.good.strangers()
    }
}

#[tokio::test]
async fn each_mutant_is_caught_by_the_law_it_breaks() {
    let mutants = [
        (Bug::WritesDownwards, Law::Settles),
        (Bug::IgnoresGates, Law::GatesHold),
        (Bug::IgnoresThePredecessor, Law::Restart),
        (Bug::MissesNeighboursOfThePredecessor, Law::Restart),
        (Bug::DeletesBeforeSync, Law::NothingDeletedBeforeSync),
        (Bug::NeverDeletes, Law::PlanIsWhatHappens),
        (Bug::SwallowsFailures, Law::FailuresStayLocal),
        (Bug::NeverRetries, Law::FailuresStayLocal),
        (Bug::StopsAtTheFirstFailure, Law::FailuresStayLocal),
        (Bug::TakesOverForeignObjects, Law::ForeignOccupier),
        (Bug::TakesForeignObjectsForOurs, Law::ForeignSurvives),
        (Bug::TakesUnreadableForEmpty, Law::UnreadableKernel),
        (Bug::IsSilentOnMissingCapabilities, Law::MissingCapability),
        (Bug::IgnoresTheNode, Law::NodeChange),
        (Bug::PlansNothing, Law::PlanIsWhatHappens),
        (Bug::HidesTheBlocked, Law::Settles),
        (Bug::RepairsNothing, Law::EveryHistory),
        (Bug::RepairsSilently, Law::DriftIsRepaired),
        (Bug::ForgetsTheFirstOfTwoStagings, Law::PlanIsWhatHappens),
        (Bug::WritesAgain, Law::Settles),
    ];
    for (bug, law) in mutants {
        let kernel = FakeKernel::default();
        let mut rig = BadRig { good: fake::rig(kernel.clone()), kernel, bug };
        let verdict = conformance(&mut rig, &fake::network_states(Some), Settings::default()).await;
        let caught = verdict.err().map(|violation| (violation.law, violation.what));
        assert_eq!(caught.as_ref().map(|(law, _)| *law), Some(law), "{bug:?}: {caught:?}");
    }
}
