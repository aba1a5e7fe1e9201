//! Laws of states and histories, without faults.

use super::session::{difference, differing};
use super::{Law, Outcome, Suite, Violation};
use crate::backend::{Action, Change, ErrorKind, Item};
use crate::testkit::dice::Dice;
use crate::testkit::engine::walk::history;
use std::collections::BTreeSet;

impl<I: Item> Suite<'_, I> {
    pub(super) async fn settles(&mut self) -> Result<Outcome, Violation> {
        for state in self.states {
            let mut session = self.begin(Law::Settles).await?;
            session.reach(state).await?;
            let again = session.settle().await?;
            session.check(again.written == 0, || format!("a second commit wrote {} objects", again.written))?;
            let left = session.plan().steps;
            session.check(left.is_empty(), || format!("after a commit the plan still has {left:?}"))?;
        }
        Ok(Outcome::Held { runs: self.states.len() })
    }

    pub(super) async fn plan_is_what_happens(&mut self) -> Result<Outcome, Violation> {
        let states = self.states;
        for (from, to) in self.pairs() {
            let mut session = self.begin(Law::PlanIsWhatHappens).await?;
            session.reach(&states[from]).await?;
            let before = session.observed().await?;
            session.go(&states[to]);
            session.go(&states[from]);
            let there_and_back = session.plan().steps;
            session.check(there_and_back.is_empty(), || format!("there and back is a plan: {there_and_back:?}"))?;
            session.go(&states[to]);
            let wanted = session.compiled().snapshot();
            let plan = session.plan();
            let planned: BTreeSet<String> = plan.steps.iter().map(|step| step.object.clone()).collect();
            let expected = differing(&before, &wanted);
            session.check(planned == expected && plan.steps.len() == expected.len(), || {
                format!("the states differ by {expected:?}, the plan has {:?}", plan.steps)
            })?;
            for step in &plan.steps {
                let action = match (before.contains_key(&step.object), wanted.contains_key(&step.object)) {
                    (false, _) => Action::Create,
                    (true, true) => Action::Update,
                    (true, false) => Action::Delete,
                };
                session.check(step.action == action, || format!("{step:?} should be {action:?}"))?;
            }
            let report = session.settle().await?;
            let (written, steps) = (report.written, plan.steps.len());
            session.check(written == steps, || format!("{steps} writes were planned, {written} were made"))?;
        }
        Ok(Outcome::Held { runs: self.pairs().count() })
    }

    pub(super) async fn every_history(&mut self) -> Result<Outcome, Violation> {
        let (states, settings) = (self.states, self.settings);
        let mut dice = Dice::new(settings.seed);
        for last in states {
            for _ in 0..settings.walks {
                let mut session = self.begin(Law::EveryHistory).await?;
                for step in history(&mut dice, states, last) {
                    session.step(step).await?;
                }
                session.settle().await?;
            }
        }
        Ok(Outcome::Held { runs: states.len() * settings.walks })
    }

    pub(super) async fn node_change(&mut self) -> Result<Outcome, Violation> {
        let contexts = self.rig.contexts();
        if contexts.len() < 2 {
            return Ok(Outcome::Skipped { reason: "the rig has one node context" });
        }
        for state in self.states {
            let mut session = self.begin(Law::NodeChange).await?;
            session.reach(state).await?;
            for node in contexts.iter().rev() {
                session.stage(Change::Node(node.clone()));
                session.settle().await?;
            }
            // An item staged while another context is in force, and a context staged with items not yet written.
            session.go(&[]);
            session.stage(Change::Node(contexts[1].clone()));
            session.go(state);
            session.stage(Change::Node(contexts[0].clone()));
            session.stage(Change::Node(contexts[1].clone()));
            session.settle().await?;
        }
        Ok(Outcome::Held { runs: self.states.len() })
    }

    pub(super) async fn restart(&mut self) -> Result<Outcome, Violation> {
        let states = self.states;
        for (from, to) in self.pairs() {
            let mut session = self.begin(Law::Restart).await?;
            session.reach(&states[from]).await?;
            session.restart().await?;
            let report = session.reach(&states[from]).await?;
            session.check(report.written == 0, || format!("a restart into the same state wrote {}", report.written))?;
            session.restart().await?;
            session.reach(&states[to]).await?;
        }
        Ok(Outcome::Held { runs: self.pairs().count() })
    }

    pub(super) async fn nothing_deleted_before_sync(&mut self) -> Result<Outcome, Violation> {
        let states = self.states;
        for (from, to) in self.pairs() {
            let mut session = self.begin(Law::NothingDeletedBeforeSync).await?;
            session.reach(&states[from]).await?;
            let before = session.observed().await?;
            session.restart().await?;
            let items = &states[to];
            let (half, rest) = items.split_at(items.len() / 2);
            for part in [half, rest] {
                part.iter().cloned().for_each(|item| session.stage(Change::Put(item)));
                session.commit().await;
                session.resync().await?;
            }
            // Staged and taken back is no reason to delete either.
            items.iter().for_each(|item| session.stage(Change::Remove(item.key())));
            session.commit().await;
            items.iter().cloned().for_each(|item| session.stage(Change::Put(item)));
            let report = session.commit().await;
            let found = session.observed().await?;
            let gone: Vec<_> = before.keys().filter(|name| !found.contains_key(*name)).collect();
            session.check(gone.is_empty(), || format!("deleted before the first full state: {gone:?}"))?;
            let wanted = session.compiled().snapshot();
            let extra = found.keys().filter(|name| !wanted.contains_key(*name)).count();
            session.check(report.waiting_for_sync == extra, || {
                format!("{extra} deletions wait, reported were {}", report.waiting_for_sync)
            })?;
            let unwritten = wanted.iter().filter(|(name, content)| found.get(*name) != Some(*content)).count();
            session.check(unwritten == 0, || {
                format!("puts wait for the first full state: {}", difference(&wanted, &found))
            })?;
            session.stage(Change::InSync);
            session.settle().await?;
        }
        Ok(Outcome::Held { runs: self.pairs().count() })
    }

    pub(super) async fn missing_capability(&mut self) -> Result<Outcome, Violation> {
        let items = self.rig.unsupported();
        if items.is_empty() {
            return Ok(Outcome::Skipped { reason: "the rig has no item that needs a missing capability" });
        }
        let runs = items.len();
        for item in items {
            let mut session = self.begin(Law::MissingCapability).await?;
            session.note(format!("stage {}", item.key()));
            let answer = session.engine.stage(Change::Put(item.clone()));
            let right =
                answer.as_ref().is_err_and(|error| error.kind == ErrorKind::Unsupported && !error.detail.is_empty());
            session.check(right, || format!("{} needs a missing capability, the answer was {answer:?}", item.key()))?;
            session.stage(Change::Put(item));
            session.stage(Change::InSync);
            session.settle().await?;
        }
        Ok(Outcome::Held { runs })
    }
}
