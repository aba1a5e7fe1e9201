//! The order of writes, for the dry run and for the commit alike. Never writes.

use super::belief::Belief;
use super::desired::Desired;
use crate::backend::{Action, Known, Plan, Rank, Step};
use std::collections::BTreeMap;
use std::fmt;

/// Pending keys by level; keys of one level are sorted.
pub(super) struct Schedule<K> {
    pub(super) puts: BTreeMap<u8, Vec<K>>,
    pub(super) deletes: BTreeMap<u8, Vec<K>>,
    /// Deletions that wait for the first full state.
    pub(super) waiting_for_sync: usize,
}

impl<K: Ord + Clone + fmt::Display> Schedule<K> {
    /// O(pending).
    pub(super) fn of<I, O>(
        desired: &Desired<I, K, O>,
        belief: &Belief<I, K, O>,
        in_sync: bool,
        rank: impl Fn(&K) -> Rank,
    ) -> Self
    where
        I: Ord + Clone,
        O: PartialEq + Clone,
    {
        let mut schedule = Self { puts: BTreeMap::new(), deletes: BTreeMap::new(), waiting_for_sync: 0 };
        for key in belief.pending.keys() {
            let level = rank(key).level;
            if desired.get(key).is_some() {
                schedule.puts.entry(level).or_default().push(key.clone());
            } else if in_sync {
                schedule.deletes.entry(level).or_default().push(key.clone());
            } else {
                schedule.waiting_for_sync += 1;
            }
        }
        schedule
    }

    /// The same for people.
    pub(super) fn plan<I, O>(
        self,
        desired: &Desired<I, K, O>,
        belief: &Belief<I, K, O>,
        describe: impl Fn(&K, Option<&O>, Option<&O>) -> String,
    ) -> Plan
    where
        I: Ord + Clone,
        O: PartialEq + Clone + fmt::Debug,
    {
        let puts = self.puts.into_values().flatten();
        let deletes = self.deletes.into_values().rev().flatten();
        let steps = puts.chain(deletes).map(|key| {
            let present = belief.pending.get(&key).map_or(&Known::Absent, |pending| &pending.present);
            let old = match present {
                Known::Present(old) => Some(old),
                Known::Absent | Known::Unknown => None,
            };
            let new = desired.get(&key);
            let action = match (present, new) {
                (Known::Absent, Some(_)) => Action::Create,
                (_, Some(_)) => Action::Update,
                (_, None) => Action::Delete,
            };
            let detail = describe(&key, old, new);
            Step { action, object: key.to_string(), detail }
        });
        Plan { steps: steps.collect(), waiting_for_sync: self.waiting_for_sync, blocked: Vec::new() }
    }
}
