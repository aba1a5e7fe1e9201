//! One engine on one kernel, with what was staged and a history for the report. Never believes the engine.

use super::{Law, Violation};
use crate::backend::{Change, CommitReport, Drift, Engine, Item, Plan, Result};
use crate::model::NodeContext;
use crate::testkit::engine::walk::{Step, changes};
use crate::testkit::engine::{Compiled, Rig, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Session<'a, I: Item> {
    pub(super) rig: &'a mut dyn Rig<I>,
    pub(super) engine: Box<dyn Engine<I>>,
    law: Law,
    node: NodeContext,
    staged: BTreeMap<I::Key, I>,
    history: Vec<String>,
}

impl<'a, I: Item> Session<'a, I> {
    pub(super) async fn open(law: Law, rig: &'a mut dyn Rig<I>) -> Result<Self, Violation> {
        let node = rig.contexts().first().cloned();
        let node =
            node.ok_or_else(|| Violation { law, what: "the rig has no node context".to_owned(), history: Vec::new() })?;
        let engine = rig.open().await.map_err(|error| Violation::rig(law, error))?;
        Ok(Self { rig, engine, law, node, staged: BTreeMap::new(), history: vec!["open".to_owned()] })
    }

    pub(super) fn broken(&self, what: impl Into<String>) -> Violation {
        Violation { law: self.law, what: what.into(), history: self.history.clone() }
    }

    pub(super) fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    pub(super) fn check(&self, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.broken(what())) }
    }

    /// Stages one change. An item that does not compile is no violation here: [`check_blocked`](Self::check_blocked) looks.
    pub(super) fn stage(&mut self, change: Change<I>) {
        match &change {
            Change::Put(item) => {
                self.history.push(format!("stage {}", item.key()));
                self.staged.insert(item.key(), item.clone());
            }
            Change::Remove(key) => {
                self.history.push(format!("remove {key}"));
                self.staged.remove(key);
            }
            Change::Node(node) => {
                self.history.push(format!("node is now {node:?}"));
                self.node = node.clone();
            }
            Change::Config(section) => self.history.push(format!("configuration is now {section}")),
            Change::InSync => self.history.push("in sync".to_owned()),
        }
        if let Err(error) = self.engine.stage(change) {
            self.history.push(format!("  refused: {error}"));
        }
    }

    /// Stages what leads from what is staged to this state.
    pub(super) fn go(&mut self, state: &[I]) {
        let to = state.iter().map(|item| (item.key(), item.clone())).collect();
        for change in changes(&self.staged, &to) {
            self.stage(change);
        }
    }

    pub(super) async fn commit(&mut self) -> CommitReport {
        let report = self.engine.commit().await;
        let (failed, deferred) = (report.failed.len(), report.deferred.len());
        self.history.push(format!("commit: {} written, {failed} failed, {deferred} deferred", report.written));
        report
    }

    pub(super) async fn resync(&mut self) -> Result<Drift, Violation> {
        let drift = self.engine.resync().await.map_err(|error| self.broken(format!("resync: {error}")))?;
        let (missing, changed, unexpected) = (drift.missing.len(), drift.changed.len(), drift.unexpected.len());
        let written = drift.repair.written;
        self.note(format!("resync: {missing} missing, {changed} changed, {unexpected} unexpected, {written} written"));
        Ok(drift)
    }

    /// The process ends and another begins: nothing but the kernel is left.
    pub(super) async fn restart(&mut self) -> Result<(), Violation> {
        self.note("restart");
        if let Some(faults) = self.rig.faults() {
            faults.clear();
        }
        self.engine = self.rig.open().await.map_err(|error| Violation::rig(self.law, error))?;
        self.node = self.rig.contexts().remove(0);
        self.staged.clear();
        Ok(())
    }

    pub(super) async fn step(&mut self, step: Step<I>) -> Result<(), Violation> {
        match step {
            Step::Stage(change) => self.stage(change),
            Step::Commit => drop(self.commit().await),
            Step::Resync => drop(self.resync().await?),
            Step::Restart => self.restart().await?,
        }
        Ok(())
    }

    pub(super) fn plan(&self) -> Plan {
        self.engine.plan()
    }

    pub(super) fn compiled(&mut self) -> Compiled {
        let items: Vec<I> = self.staged.values().cloned().collect();
        self.rig.compile(&self.node, &items)
    }

    pub(super) async fn observed(&mut self) -> Result<Snapshot, Violation> {
        self.rig.observe().await.map_err(|error| Violation::rig(self.law, error))
    }

    /// Stages this state, in sync, and commits it without a failure.
    pub(super) async fn reach(&mut self, state: &[I]) -> Result<CommitReport, Violation> {
        self.go(state);
        self.stage(Change::InSync);
        self.settle().await
    }

    /// Commits without a failure; the kernel then holds what was compiled, and the reports name who is blocked.
    pub(super) async fn settle(&mut self) -> Result<CommitReport, Violation> {
        let report = self.commit().await;
        self.check_no_failure(&report)?;
        self.check_kernel().await?;
        self.check_blocked(&report)?;
        Ok(report)
    }

    pub(super) fn check_no_failure(&self, report: &CommitReport) -> Result<(), Violation> {
        let mut failures = report.failed.iter().chain(&report.deferred);
        failures.next().map_or(Ok(()), |failure| {
            Err(self.broken(format!(
                "{} was not written although nothing stood in its way: {}",
                failure.object, failure.error
            )))
        })
    }

    pub(super) fn check_blocked(&mut self, report: &CommitReport) -> Result<(), Violation> {
        let told: BTreeSet<String> = report.blocked.iter().map(|blocked| blocked.item.clone()).collect();
        let blocked = self.compiled().blocked;
        self.check(told == blocked, || format!("blocked items are {blocked:?}, reported were {told:?}"))
    }

    /// The kernel holds what was compiled.
    pub(super) async fn check_kernel(&mut self) -> Result<(), Violation> {
        let wanted = self.compiled().snapshot();
        let found = self.observed().await?;
        self.check(found == wanted, || format!("the kernel is not what was compiled: {}", difference(&wanted, &found)))
    }
}

/// For people: the names and contents by which two snapshots differ.
pub(super) fn difference(wanted: &Snapshot, found: &Snapshot) -> String {
    let names: BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let lines = names.into_iter().filter_map(|name| match (wanted.get(name), found.get(name)) {
        (Some(wanted), Some(found)) if wanted == found => None,
        (Some(wanted), Some(found)) => Some(format!("{name} is {found}, should be {wanted}")),
        (Some(wanted), None) => Some(format!("{name} is missing, should be {wanted}")),
        (None, Some(found)) => Some(format!("{name} is {found}, should not be there")),
        (None, None) => None,
    });
    lines.collect::<Vec<_>>().join("; ")
}

/// The names by which two snapshots differ.
pub(super) fn differing(a: &Snapshot, b: &Snapshot) -> BTreeSet<String> {
    let names = a.keys().chain(b.keys());
    names.filter(|name| a.get(*name) != b.get(*name)).cloned().collect()
}
