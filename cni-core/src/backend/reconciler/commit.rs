//! The writes of a commit: batches by level, gates, second chance. Never decides what is wanted.

use super::belief::Pending;
use super::desired::Owner;
use super::engine::{ItemKey, Reconciler};
use crate::backend::{CommitReport, Driver, Error, ErrorKind, Failure, Gate, Known, Op, Result};
use std::collections::BTreeMap;

/// What one round of puts and deletes has run into.
struct Round<D: Driver> {
    report: CommitReport,
    deleted: usize,
    put_failed: bool,
    /// The gate of kind [`Gate::All`] that could not be put.
    closed: Option<String>,
    /// The gates of kind [`Gate::Item`] that could not be put.
    closed_items: BTreeMap<Owner<ItemKey<D>>, String>,
    /// Objects that could not be deleted, by who wanted them last.
    stuck: Vec<(Owner<ItemKey<D>>, String)>,
}

impl<D: Driver> Reconciler<D> {
    /// Writes all that is pending and allowed.
    pub(super) async fn write(&mut self) -> CommitReport {
        let mut written = 0;
        loop {
            let round = self.round().await;
            written += round.report.written;
            // Each further round needs a delete, and those run out.
            if round.deleted == 0 || !round.put_failed {
                return CommitReport { written, ..round.report };
            }
        }
    }

    async fn round(&mut self) -> Round<D> {
        let schedule = self.schedule();
        let mut round = Round {
            report: CommitReport { waiting_for_sync: schedule.waiting_for_sync, ..CommitReport::default() },
            deleted: 0,
            put_failed: false,
            closed: None,
            closed_items: BTreeMap::new(),
            stuck: Vec::new(),
        };
        for keys in schedule.puts.into_values() {
            self.put_level(keys, &mut round).await;
        }
        for keys in schedule.deletes.into_values().rev() {
            self.delete_level(keys, &mut round).await;
        }
        round
    }

    async fn put_level(&mut self, keys: Vec<D::Key>, round: &mut Round<D>) {
        // A gate holds back higher levels only, so it closes when its whole level is done.
        let mut unwritten: Vec<D::Key> = Vec::new();
        let mut batch = Vec::with_capacity(keys.len());
        for key in keys {
            match self.gate_before_put(&key, round) {
                Some(gate) => {
                    let error = Error::new(ErrorKind::Missing, "create", &key, format!("waits for {gate}"));
                    let failure = Failure { items: self.items_of(&key), object: key.to_string(), error };
                    round.report.deferred.push(failure);
                    unwritten.push(key);
                }
                None => batch.extend(self.take_put(key)),
            }
        }
        let failed = self.apply(batch, round).await;
        round.put_failed |= !failed.is_empty();
        unwritten.extend(failed);
        for key in unwritten {
            match self.driver.rank(&key).gate {
                Gate::Open => {}
                Gate::All => drop(round.closed.get_or_insert_with(|| key.to_string())),
                Gate::Item => {
                    for owner in self.desired.wanting(&key) {
                        round.closed_items.entry(owner.clone()).or_insert_with(|| key.to_string());
                    }
                }
            }
        }
    }

    async fn delete_level(&mut self, keys: Vec<D::Key>, round: &mut Round<D>) {
        let mut stuck = Vec::new();
        let mut batch = Vec::with_capacity(keys.len());
        for key in keys {
            let former = self.belief.pending.get(&key).and_then(|pending| pending.former.clone());
            let shared = self.parted.contains(&key);
            match round.before_delete(self.driver.rank(&key).gate, &former, shared) {
                Some(other) => {
                    let error = Error::new(ErrorKind::Busy, "delete", &key, format!("waits for {other}"));
                    let failure = Failure { items: self.items_of(&key), object: key.to_string(), error };
                    round.report.deferred.push(failure);
                    stuck.push((former, key.to_string()));
                }
                None => batch.extend(self.take_delete(key)),
            }
        }
        let all = batch.len();
        let failed = self.apply(batch, round).await;
        round.deleted += all - failed.len();
        for key in failed {
            let former = self.belief.pending.get(&key).and_then(|pending| pending.former.clone());
            stuck.push((former, key.to_string()));
        }
        round.stuck.extend(stuck);
    }

    /// What a put waits for.
    fn gate_before_put(&self, key: &D::Key, round: &Round<D>) -> Option<String> {
        if round.closed.is_some() {
            return round.closed.clone();
        }
        let mut gates = self.desired.wanting(key).map(|owner| round.closed_items.get(owner));
        let first = gates.next().flatten()?;
        gates.all(|gate| gate.is_some()).then(|| first.clone())
    }

    /// The items that want an object, or wanted it last; none for the node's own, whoever needs it too.
    fn items_of(&self, key: &D::Key) -> Vec<String> {
        if self.desired.get(key).is_some() {
            // The node comes first of all who want it.
            let of_node = self.desired.wanting(key).next().is_some_and(Option::is_none);
            let wanting = self.desired.wanting(key).filter(|_| !of_node);
            return wanting.flatten().map(ToString::to_string).collect();
        }
        let former = self.belief.pending.get(key).and_then(|pending| pending.former.as_ref());
        former.iter().map(ToString::to_string).collect()
    }

    /// A put, with its key counted as unknown from now on: a commit that is dropped half-way must not believe more.
    fn take_put(&mut self, key: D::Key) -> Option<Op<D::Key, D::Object>> {
        let object = self.desired.get(&key)?.clone();
        let pending = self.belief.pending.get_mut(&key)?;
        let present = std::mem::replace(&mut pending.present, Known::Unknown);
        Some(Op::Put { key, present, object })
    }

    /// A delete, likewise.
    fn take_delete(&mut self, key: D::Key) -> Option<Op<D::Key, D::Object>> {
        let pending: &mut Pending<_, _> = self.belief.pending.get_mut(&key)?;
        let present = std::mem::replace(&mut pending.present, Known::Unknown);
        Some(Op::Delete { key, present })
    }

    /// Writes one level. Answers with the keys that failed: they stay pending, as unknown.
    async fn apply(&mut self, batch: Vec<Op<D::Key, D::Object>>, round: &mut Round<D>) -> Vec<D::Key> {
        if batch.is_empty() {
            return Vec::new();
        }
        let mut results: Vec<Result<()>> = self.driver.apply(&batch).await;
        let (expected, answered) = (batch.len(), results.len());
        results.resize_with(expected, || {
            let detail = format!("the driver answered {answered} of {expected} writes, so this one may not be done");
            Err(Error::new(ErrorKind::Kernel, "apply", "batch", detail))
        });
        let mut failed = Vec::new();
        for (op, result) in batch.into_iter().zip(results) {
            let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
            match result {
                Ok(()) => {
                    self.belief.pending.remove(&key);
                    if self.desired.get(&key).is_none() {
                        self.parted.remove(&key);
                    }
                    round.report.written += 1;
                }
                Err(error) => {
                    let failure = Failure { items: self.items_of(&key), object: key.to_string(), error };
                    round.report.failed.push(failure);
                    failed.push(key);
                }
            }
        }
        failed
    }
}

impl<D: Driver> Round<D> {
    /// What the delete of a gate waits for. All in `stuck` are of higher levels.
    fn before_delete(&self, gate: Gate, former: &Owner<ItemKey<D>>, shared: bool) -> Option<String> {
        let mut stuck = self.stuck.iter();
        match gate {
            Gate::Open => None,
            // Which items had it is not kept, so it waits for all.
            Gate::Item if shared => {
                stuck.next().map(|(_, object)| object.clone()).or_else(|| self.closed_items.values().next().cloned())
            }
            Gate::All => stuck.next().map(|(_, object)| object.clone()),
            Gate::Item => {
                let above = stuck.find(|(owner, _)| owner.is_none() || former.is_none() || owner == former);
                let above = above.map(|(_, object)| object.clone());
                above.or_else(|| former.as_ref().and_then(|_| self.closed_items.get(former)).cloned())
            }
        }
    }
}
