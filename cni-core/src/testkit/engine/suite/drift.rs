//! Laws of what others do to the kernel.

use super::session::{Session, difference};
use super::{Law, Outcome, Suite, Violation};
use crate::backend::{ErrorKind, Item, Result};
use crate::testkit::dice::Dice;
use crate::testkit::engine::walk::history;
use crate::testkit::engine::{Rig, Snapshot};
use std::collections::BTreeSet;

const NO_TAMPERING: Outcome = Outcome::Skipped { reason: "the rig cannot change our objects behind our back" };
const NO_STRANGERS: Outcome = Outcome::Skipped { reason: "the rig cannot make foreign objects" };

/// How one object is tampered with.
#[derive(Debug, Clone)]
enum Deed {
    Remove(String),
    Alter(String),
    Add,
}

impl<I: Item> Suite<'_, I> {
    pub(super) async fn drift_is_repaired(&mut self) -> Result<Outcome, Violation> {
        if self.rig.tamper().is_none() {
            return Ok(NO_TAMPERING);
        }
        let (states, mut runs) = (self.states, 0);
        for state in states {
            let mut session = self.begin(Law::DriftIsRepaired).await?;
            session.reach(state).await?;
            let clean = session.resync().await?;
            session.check(clean.is_none() && clean.repair.written == 0, || {
                format!("nothing was changed, yet a resync found {clean:?}")
            })?;
            let names: Vec<String> = session.observed().await?.into_keys().collect();
            let deeds = names.into_iter().flat_map(|name| [Deed::Remove(name.clone()), Deed::Alter(name)]);
            for deed in deeds.chain([Deed::Add]) {
                runs += usize::from(tampered(&mut session, &deed).await?);
            }
        }
        Ok(Outcome::Held { runs })
    }

    pub(super) async fn foreign_survives(&mut self) -> Result<Outcome, Violation> {
        if self.rig.strangers().is_none() {
            return Ok(NO_STRANGERS);
        }
        let (states, settings, mut runs) = (self.states, self.settings, 0);
        let mut dice = Dice::new(settings.seed ^ 0x5eed);
        for last in states {
            let mut session = self.begin(Law::ForeignSurvives).await?;
            let before = strangers_after_adding(session.rig)
                .await
                .map_err(|error| Violation::rig(Law::ForeignSurvives, error))?;
            session.note(format!("strangers: {before:?}"));
            for step in history(&mut dice, states, last) {
                session.step(step).await?;
            }
            session.settle().await?;
            session.reach(&[]).await?;
            session.resync().await?;
            let after = strangers(session.rig).await.map_err(|error| Violation::rig(Law::ForeignSurvives, error))?;
            session.check(after == before, || format!("foreign objects changed: {}", difference(&before, &after)))?;
            runs += 1;
        }
        Ok(Outcome::Held { runs })
    }

    pub(super) async fn foreign_occupier(&mut self) -> Result<Outcome, Violation> {
        if self.rig.strangers().is_none() {
            return Ok(NO_STRANGERS);
        }
        let (states, mut runs) = (self.states, 0);
        for state in states {
            let mut session = self.begin(Law::ForeignOccupier).await?;
            session.go(state);
            let names: Vec<String> = session.compiled().objects.into_keys().collect();
            for name in names {
                runs += usize::from(occupied(self, state, &name).await?);
            }
        }
        Ok(Outcome::Held { runs })
    }
}

/// Tampers, and lets a resync find it. `false` when that deed cannot be done.
async fn tampered<I: Item>(session: &mut Session<'_, I>, deed: &Deed) -> Result<bool, Violation> {
    let before = session.observed().await?;
    let done = match session.rig.tamper() {
        None => Ok(false),
        Some(tamper) => match deed {
            Deed::Remove(name) => tamper.remove(name).await,
            Deed::Alter(name) => tamper.alter(name).await,
            Deed::Add => tamper.add().await,
        },
    };
    let done = done.map_err(|error| Violation::rig(Law::DriftIsRepaired, error))?;
    let after = session.observed().await?;
    if !done || after == before {
        return Ok(false);
    }
    session.note(format!("somebody else: {deed:?}"));
    let drift = session.resync().await?;
    let names = |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>();
    let only =
        |a: &Snapshot, b: &Snapshot| a.keys().filter(|name| !b.contains_key(*name)).cloned().collect::<BTreeSet<_>>();
    let changed = before.iter().filter(|(name, content)| after.get(*name).is_some_and(|now| now != *content));
    let changed: BTreeSet<String> = changed.map(|(name, _)| name.clone()).collect();
    let expected = (only(&before, &after), changed, only(&after, &before));
    let told = (names(&drift.missing), names(&drift.changed), names(&drift.unexpected));
    session.check(told == expected, || {
        format!("missing, changed and unexpected are {expected:?}, reported were {told:?}")
    })?;
    session.check_no_failure(&drift.repair)?;
    session.check_kernel().await?;
    let clean = session.resync().await?;
    session
        .check(clean.is_none() && clean.repair.written == 0, || format!("after the repair a resync found {clean:?}"))?;
    Ok(true)
}

/// A stranger stands where `name` belongs. `false` when the kernel can hold both.
async fn occupied<I: Item>(suite: &mut Suite<'_, I>, state: &[I], name: &str) -> Result<bool, Violation> {
    let rig_failed = |error| Violation::rig(Law::ForeignOccupier, error);
    let mut session = suite.begin(Law::ForeignOccupier).await?;
    let done = match session.rig.strangers() {
        Some(strangers) => strangers.occupy(name).await.map_err(rig_failed)?,
        None => false,
    };
    if !done {
        return Ok(false);
    }
    session.note(format!("a stranger stands at {name}"));
    let before = strangers(session.rig).await.map_err(rig_failed)?;
    session.go(state);
    session.stage(crate::backend::Change::InSync);
    let report = session.commit().await;
    let told = report.failed.iter().any(|failure| failure.object == name && failure.error.kind == ErrorKind::Foreign);
    session.check(told, || format!("{name} is occupied, the commit told {report:?}"))?;
    session.go(&[]);
    session.commit().await;
    session.resync().await?;
    session.go(state);
    session.commit().await;
    let after = strangers(session.rig).await.map_err(rig_failed)?;
    session.check(after == before, || format!("the occupier changed: {}", difference(&before, &after)))?;
    if let Some(strangers) = session.rig.strangers() {
        strangers.leave(name).await.map_err(rig_failed)?;
    }
    session.note("the stranger leaves");
    session.settle().await?;
    Ok(true)
}

async fn strangers<I: Item>(rig: &mut dyn Rig<I>) -> Result<Snapshot> {
    match rig.strangers() {
        Some(strangers) => strangers.list().await,
        None => Ok(Snapshot::new()),
    }
}

async fn strangers_after_adding<I: Item>(rig: &mut dyn Rig<I>) -> Result<Snapshot> {
    if let Some(strangers) = rig.strangers() {
        strangers.add().await?;
    }
    strangers(rig).await
}
