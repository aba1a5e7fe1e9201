//! Laws of failing and dying at every write.

use super::session::{Session, difference, differing};
use super::{Law, Outcome, Suite, Violation};
use crate::backend::{Change, CommitReport, ErrorKind, Gate, Item};
use crate::testkit::engine::faulty::INJECTED;
use crate::testkit::engine::{Compiled, Faults, NODE, Snapshot, Wanted};
use std::collections::{BTreeMap, BTreeSet};

const NO_FAULTS: Outcome = Outcome::Skipped { reason: "the rig cannot fail on demand" };

/// What a transition's objects are: those of either state, the later one's where both have it.
type Objects = BTreeMap<String, Wanted>;

impl<I: Item> Suite<'_, I> {
    /// The write numbers at which faults are put.
    fn points(&self, writes: usize) -> impl Iterator<Item = usize> + use<I> {
        let step = writes.div_ceil(self.settings.fault_points.max(1)).max(1);
        (0..writes).step_by(step)
    }

    /// How many writes a transition takes.
    async fn writes(&mut self, law: Law, faults: &Faults, from: usize, to: usize) -> Result<usize, Violation> {
        let states = self.states;
        let mut session = self.begin(law).await?;
        session.reach(&states[from]).await?;
        faults.clear();
        session.reach(&states[to]).await?;
        Ok(faults.writes())
    }

    pub(super) async fn failures_stay_local(&mut self) -> Result<Outcome, Violation> {
        let Some(faults) = self.rig.faults() else { return Ok(NO_FAULTS) };
        let (states, mut runs) = (self.states, 0);
        for (from, to) in self.pairs() {
            let writes = self.writes(Law::FailuresStayLocal, &faults, from, to).await?;
            for number in self.points(writes) {
                let mut session = self.begin(Law::FailuresStayLocal).await?;
                session.reach(&states[from]).await?;
                let mut objects = session.compiled().objects;
                session.go(&states[to]);
                let compiled = session.compiled();
                objects.extend(compiled.objects.clone());
                session.note(format!("write {number} fails"));
                // A second chance within the commit fails likewise: the same fault, told to the end.
                faults.fail_writes([number]);
                let report = session.commit().await;
                session.check(faults.fired() == 1, || format!("{} writes failed, one was told to", faults.fired()))?;
                check_reported(&mut session, &compiled, &report).await?;
                check_deferrals(&session, &objects, &compiled, &report)?;
                if !report.failed.is_empty() {
                    session.check(report.should_retry(), || "a failed write asks for no retry".to_owned())?;
                }
                faults.clear();
                session.settle().await?;
                self.answer_lost(&faults, from, to, number).await?;
                runs += 2;
            }
            runs += self.everything_fails(&faults, from, to).await?;
        }
        Ok(Outcome::Held { runs })
    }

    /// A write is made and its answer lost, then it is not wanted any more: what may be there must go.
    async fn answer_lost(&mut self, faults: &Faults, from: usize, to: usize, number: usize) -> Result<(), Violation> {
        let states = self.states;
        let mut session = self.begin(Law::FailuresStayLocal).await?;
        session.reach(&states[from]).await?;
        session.go(&states[to]);
        session.note(format!("the answer of write {number} is lost"));
        faults.lose_answers([number]);
        session.commit().await;
        faults.clear();
        session.go(&states[from]);
        session.settle().await?;
        Ok(())
    }

    /// All writes fail for a while: nothing changes, everything is reported, and later all is made up for.
    async fn everything_fails(&mut self, faults: &Faults, from: usize, to: usize) -> Result<usize, Violation> {
        let states = self.states;
        let mut session = self.begin(Law::FailuresStayLocal).await?;
        session.reach(&states[from]).await?;
        let before = session.observed().await?;
        session.go(&states[to]);
        let compiled = session.compiled();
        session.note("every write fails");
        faults.kill_at(0);
        for _ in 0..2 {
            let report = session.commit().await;
            check_reported(&mut session, &compiled, &report).await?;
        }
        let found = session.observed().await?;
        session.check(found == before, || format!("all writes failed, yet: {}", difference(&before, &found)))?;
        faults.clear();
        session.go(&states[from]);
        session.settle().await?;
        session.go(&states[to]);
        session.settle().await?;
        Ok(1)
    }

    pub(super) async fn gates_hold(&mut self) -> Result<Outcome, Violation> {
        let Some(faults) = self.rig.faults() else { return Ok(NO_FAULTS) };
        let (states, mut runs) = (self.states, 0);
        for state in states {
            let mut session = self.begin(Law::GatesHold).await?;
            session.go(state);
            let compiled = session.compiled();
            faults.clear();
            session.stage(Change::InSync);
            session.settle().await?;
            let up = faults.writes();
            faults.clear();
            session.reach(&[]).await?;
            let down = faults.writes();
            if !compiled.objects.values().any(|wanted| wanted.rank.is_some_and(|rank| rank.gate != Gate::Open)) {
                continue;
            }
            for number in self.points(up) {
                for dies in [false, true] {
                    let mut session = self.begin(Law::GatesHold).await?;
                    session.go(state);
                    session.stage(Change::InSync);
                    arm(&mut session, &faults, number, dies);
                    session.commit().await;
                    check_guarded(&mut session, &compiled).await?;
                    runs += 1;
                }
            }
            for number in self.points(down) {
                for dies in [false, true] {
                    let mut session = self.begin(Law::GatesHold).await?;
                    session.reach(state).await?;
                    session.go(&[]);
                    arm(&mut session, &faults, number, dies);
                    session.commit().await;
                    check_guarded(&mut session, &compiled).await?;
                    runs += 1;
                }
            }
        }
        if runs == 0 {
            return Ok(Outcome::Skipped { reason: "no object of these states is known to be a gate" });
        }
        Ok(Outcome::Held { runs })
    }

    pub(super) async fn killed_anywhere(&mut self) -> Result<Outcome, Violation> {
        let Some(faults) = self.rig.faults() else { return Ok(NO_FAULTS) };
        let (states, mut runs) = (self.states, 0);
        for (from, to) in self.pairs() {
            let writes = self.writes(Law::KilledAnywhere, &faults, from, to).await?;
            for number in self.points(writes) {
                let mut session = self.begin(Law::KilledAnywhere).await?;
                session.reach(&states[from]).await?;
                session.go(&states[to]);
                arm(&mut session, &faults, number, true);
                session.commit().await;
                session.restart().await?;
                session.reach(&states[to]).await?;
                runs += 1;
            }
        }
        Ok(Outcome::Held { runs })
    }

    pub(super) async fn unreadable_kernel(&mut self) -> Result<Outcome, Violation> {
        let Some(faults) = self.rig.faults() else { return Ok(NO_FAULTS) };
        let states = self.states;
        for (from, to) in self.pairs() {
            let mut session = self.begin(Law::UnreadableKernel).await?;
            session.reach(&states[from]).await?;
            let before = session.observed().await?;
            session.restart().await?;
            session.go(&states[to]);
            session.stage(Change::InSync);
            session.note("the kernel is unreadable");
            faults.fail_reads();
            let report = session.commit().await;
            let told = report.written == 0 && report.should_retry();
            session.check(told, || format!("the kernel was not read, the commit told {report:?}"))?;
            let resync = session.engine.resync().await;
            session.check(resync.is_err(), || "a resync without reading the kernel succeeded".to_owned())?;
            let found = session.observed().await?;
            session.check(found == before, || format!("written without knowledge: {}", difference(&before, &found)))?;
            faults.clear();
            session.settle().await?;
        }
        Ok(Outcome::Held { runs: self.pairs().count() })
    }
}

fn arm<I: Item>(session: &mut Session<'_, I>, faults: &Faults, number: usize, dies: bool) {
    if dies {
        session.note(format!("dies at write {number}"));
        faults.kill_at(number);
    } else {
        session.note(format!("write {number} fails"));
        faults.fail_writes([number]);
    }
}

/// Whatever is not as it should be, is in the report.
async fn check_reported<I: Item>(
    session: &mut Session<'_, I>,
    compiled: &Compiled,
    report: &CommitReport,
) -> Result<(), Violation> {
    let wanted = compiled.snapshot();
    let found = session.observed().await?;
    let failures = || report.failed.iter().chain(&report.deferred);
    let told: BTreeSet<&str> = failures().map(|failure| failure.object.as_str()).collect();
    let untold: Snapshot = found.clone().into_iter().filter(|(name, _)| !told.contains(name.as_str())).collect();
    let silent: Snapshot = wanted.into_iter().filter(|(name, _)| !told.contains(name.as_str())).collect();
    session.check(untold == silent, || format!("neither written nor reported: {}", difference(&silent, &untold)))?;
    for failure in failures() {
        let items = compiled.objects.get(&failure.object).map(|wanted| &wanted.items);
        let told: BTreeSet<&String> = failure.items.iter().collect();
        // What is the node's own is nobody's else, whoever needs it too.
        let wanting = |items: &BTreeSet<String>| if items.contains(NODE) { BTreeSet::new() } else { items.clone() };
        let right = items.is_none_or(|items| wanting(items).iter().collect::<BTreeSet<_>>() == told);
        session.check(right, || format!("{} is of {items:?}, reported was {told:?}", failure.object))?;
    }
    session.check_blocked(report)
}

/// Nothing is held back without a gate, and nothing fails but what was told to, what lacks what that would have been, and
/// what cannot go while what that was to take away still uses it.
fn check_deferrals<I: Item>(
    session: &Session<'_, I>,
    objects: &Objects,
    compiled: &Compiled,
    report: &CommitReport,
) -> Result<(), Violation> {
    for failure in &report.failed {
        let level = |name: &str| objects.get(name).and_then(|object| object.rank).map(|rank| rank.level);
        let in_use = failure.error.kind == ErrorKind::Busy
            && !compiled.objects.contains_key(&failure.object)
            && report.failed.iter().any(|user| level(&user.object) > level(&failure.object));
        let right = failure.error.operation == INJECTED || failure.error.kind == ErrorKind::Missing || in_use;
        session.check(right, || format!("{} failed without need: {}", failure.object, failure.error))?;
    }
    let unwritten: BTreeSet<&str> =
        report.failed.iter().chain(&report.deferred).map(|failure| failure.object.as_str()).collect();
    for deferred in &report.deferred {
        let Some(held) = objects.get(&deferred.object) else { continue };
        let Some(rank) = held.rank else { continue };
        let put = compiled.objects.contains_key(&deferred.object);
        let holds = |name: &str| {
            let Some((other, Some(level))) = objects.get(name).map(|other| (other, other.rank)) else { return true };
            let kin = held.items.iter().any(|item| other.items.contains(item));
            let both = |gate: Gate| gate == Gate::All || (gate == Gate::Item && kin);
            if put {
                // Behind a gate that is to be put.
                compiled.objects.contains_key(name) && level.level < rank.level && both(level.gate)
            } else {
                // A gate, below what still needs it, or replaced by one of the same item.
                let above = !compiled.objects.contains_key(name) && level.level > rank.level;
                let replaced = compiled.objects.contains_key(name) && rank.gate == Gate::Item && kin;
                both(rank.gate) && (above || replaced)
            }
        };
        let right = unwritten.iter().any(|name| *name != deferred.object && holds(name));
        session.check(right, || format!("{} waits without a gate: {}", deferred.object, deferred.error))?;
    }
    Ok(())
}

/// In a kernel that goes from nothing to `compiled`, or back: what is there, has its gates.
async fn check_guarded<I: Item>(session: &mut Session<'_, I>, compiled: &Compiled) -> Result<(), Violation> {
    let found = session.observed().await?;
    let bad = differing(&found, &compiled.snapshot());
    let missing = compiled.objects.iter().filter(|(name, _)| bad.contains(*name));
    let missing: Vec<(&String, &Wanted)> = missing.collect();
    for (name, wanted) in compiled.objects.iter().filter(|(name, _)| found.contains_key(*name)) {
        let Some(rank) = wanted.rank else { continue };
        let below = missing.iter().filter(|(_, gate)| gate.rank.is_some_and(|gate| gate.level < rank.level));
        let gates: Vec<_> = below.filter_map(|(name, gate)| Some((name, gate.rank?.gate, &gate.items))).collect();
        let all = gates.iter().find(|(_, gate, _)| *gate == Gate::All).map(|(name, ..)| name.to_string());
        session.check(all.is_none(), || format!("{name} is there, its gate {all:?} is not"))?;
        // Shared objects are there for whichever of their items has its gates.
        let closed = |item: &String| gates.iter().any(|(_, gate, items)| *gate == Gate::Item && items.contains(item));
        let open = wanted.items.is_empty() || wanted.items.iter().any(|item| !closed(item));
        session.check(open, || format!("{name} is there, its gates {gates:?} are not"))?;
    }
    Ok(())
}
