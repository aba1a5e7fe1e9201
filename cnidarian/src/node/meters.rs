//! What the parts of a node drop, and how full their tables are: read from time to time, told in the log, in status and to
//! monitors. Never what is done about it.

use super::status::Problem;
use super::{Inner, Node};
use cni_core::backend::{Alarm, Dropped, Meter, TableUse, WhenFull};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often tables are looked at ...
const LOOK: Duration = Duration::from_secs(10);
/// ... but looking takes at most one part in so many of the time, however large they are.
const SHARE: u32 = 100;

/// A part of a node, for whoever reads of it: `backend`, `policy` or `services`.
pub(super) type Part = &'static str;

/// What is asked of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Counters,
    Tables,
    /// What passes services.
    Services,
}

impl What {
    const fn word(self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::Tables => "tables",
            Self::Services => "traffic",
        }
    }
}

/// What was read last.
#[derive(Default)]
struct Seen {
    tables: BTreeMap<(Part, &'static str), (TableUse, Alarm)>,
    /// Why something of a part could not be read.
    broken: BTreeMap<(Part, What), String>,
}

/// The meters of a node's parts.
#[derive(Default)]
pub(super) struct Meters {
    parts: Vec<(Part, Arc<dyn Meter>)>,
    seen: Mutex<Seen>,
}

/// A part's counts, for monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartDropped {
    /// `backend`, `policy` or `services`.
    pub part: &'static str,
    /// What it dropped.
    pub dropped: Dropped,
}

/// A part's table, for monitors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartTable {
    /// `backend`, `policy` or `services`.
    pub part: &'static str,
    /// How full it was when it was last looked at.
    pub table: TableUse,
}

impl Meters {
    pub(super) fn new(parts: impl IntoIterator<Item = (Part, Option<Arc<dyn Meter>>)>) -> Self {
        let parts = parts.into_iter().filter_map(|(part, meter)| Some((part, meter?))).collect();
        Self { parts, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in how full a part's tables are, and tells of those that became nearly full or are no longer.
    fn take(&self, part: Part, tables: Vec<TableUse>) {
        let mut seen = self.seen();
        seen.broken.remove(&(part, What::Tables));
        let mut before = std::mem::take(&mut seen.tables);
        for table in tables {
            let mut alarm = before.get(&(part, table.table)).map(|(_, alarm)| *alarm).unwrap_or_default();
            let is_other = table.entries.is_some_and(|entries| alarm.look(entries, table.room));
            let (entries, room) = (table.entries.unwrap_or_default(), table.room);
            match (is_other, alarm.is_on()) {
                (true, true) => {
                    tracing::warn!(
                        part,
                        table = table.table,
                        entries,
                        room,
                        "a table is nearly full: {}",
                        then(&table)
                    );
                }
                (true, false) => tracing::info!(part, table = table.table, entries, room, "a table has room again"),
                (false, _) => {}
            }
            seen.tables.insert((part, table.table), (table, alarm));
        }
        before.retain(|(other, _), _| *other != part);
        seen.tables.append(&mut before);
    }

    fn fail(&self, part: Part, what: What, error: String) {
        let told = self.seen().broken.insert((part, what), error.clone());
        if told.as_ref() != Some(&error) {
            tracing::warn!(part, error, "its {} cannot be read", what.word());
        }
    }

    /// Takes in whether what passes services could be read, or why not.
    pub(super) fn counted(&self, error: Option<String>) {
        match error {
            Some(error) => self.fail("services", What::Services, error),
            None => drop(self.seen().broken.remove(&("services", What::Services))),
        }
    }

    /// What is nearly full, and what cannot be read.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let seen = self.seen();
        let full =
            seen.tables.iter().filter(|(_, (_, alarm))| alarm.is_on()).map(|((part, name), (table, _))| Problem {
                object: format!("table {name} of {part}"),
                error: format!(
                    "{} of {} entries are used: {}",
                    table.entries.unwrap_or_default(),
                    table.room,
                    then(table)
                ),
                state: "nearly full".to_owned(),
            });
        let broken = seen.broken.iter().map(|((part, what), error)| Problem {
            object: format!("{} of {part}", what.word()),
            error: error.clone(),
            state: "retrying".to_owned(),
        });
        full.chain(broken).collect()
    }
}

/// What comes when there is no room left.
const fn then(table: &TableUse) -> &'static str {
    match table.when_full {
        WhenFull::Refuses => "when it is full, what needs more is refused; give it more room in the configuration",
        WhenFull::ForgetsOldest => "when it is full, the oldest make room; give it more room in the configuration",
    }
}

/// Reads a part beside the runtime's threads.
async fn read<T: Send + 'static>(
    meter: &Arc<dyn Meter>,
    what: impl FnOnce(&dyn Meter) -> cni_core::backend::Result<T> + Send + 'static,
) -> Result<T, String> {
    let meter = meter.clone();
    match tokio::task::spawn_blocking(move || what(&*meter)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(ended) => Err(ended.to_string()),
    }
}

impl Inner {
    async fn look_at_tables(&self) {
        for (part, meter) in &self.meters.parts {
            match read(meter, |meter| meter.tables()).await {
                Ok(tables) => self.meters.take(part, tables),
                Err(error) => self.meters.fail(part, What::Tables, error),
            }
        }
    }
}

/// Looks at tables for as long as the node is open.
pub(super) async fn watch(inner: Arc<Inner>) {
    if inner.meters.parts.is_empty() {
        return;
    }
    loop {
        let begin = Instant::now();
        inner.look_at_tables().await;
        sleep(LOOK.max(begin.elapsed() * SHARE)).await;
    }
}

impl Node {
    /// What the parts of this node dropped, read now. A part that cannot be read is left out: status says why.
    pub async fn dropped(&self) -> Vec<PartDropped> {
        let mut all = Vec::new();
        for (part, meter) in &self.inner.meters.parts {
            match read(meter, |meter| meter.dropped()).await {
                Ok(dropped) => {
                    self.inner.meters.seen().broken.remove(&(*part, What::Counters));
                    all.extend(dropped.into_iter().map(|dropped| PartDropped { part, dropped }));
                }
                Err(error) => self.inner.meters.fail(part, What::Counters, error),
            }
        }
        all
    }

    /// How full tables of this node's parts were when they were last looked at.
    #[must_use]
    pub fn tables(&self) -> Vec<PartTable> {
        let seen = self.inner.meters.seen();
        seen.tables.iter().map(|((part, _), (table, _))| PartTable { part, table: *table }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: Option<u64>) -> TableUse {
        TableUse { table: "PEERS", entries, room: 100, when_full: WhenFull::Refuses }
    }

    #[test]
    fn a_table_is_a_problem_above_90_percent_until_it_is_below_80_or_gone() {
        let meters = Meters::default();
        for (entries, is_problem) in [(90, false), (91, true), (85, true), (79, false), (85, false), (100, true)] {
            meters.take("policy", vec![table(Some(entries))]);
            let problems = meters.problems();
            assert_eq!(problems.len(), usize::from(is_problem), "{entries} {problems:?}");
        }
        let Problem { object, error, state } = meters.problems().remove(0);
        assert_eq!((&*object, &*state), ("table PEERS of policy", "nearly full"));
        assert!(error.starts_with("100 of 100 entries are used"), "{error}");
        meters.take("backend", vec![table(Some(1))]);
        assert_eq!(meters.problems().len(), 1, "of one part nothing is known from another");
        meters.take("policy", Vec::new());
        assert_eq!(meters.problems(), []);
    }

    #[test]
    fn of_what_nobody_can_count_nothing_is_told_but_its_room() {
        let meters = Meters::default();
        meters.take("policy", vec![table(None)]);
        assert_eq!(meters.problems(), []);
        assert_eq!(meters.seen().tables.len(), 1);
    }

    #[test]
    fn a_part_that_cannot_be_read_is_a_problem_until_it_can() {
        let meters = Meters::default();
        meters.fail("policy", What::Tables, "denied".to_owned());
        assert_eq!(meters.problems()[0].error, "denied");
        meters.take("policy", vec![table(Some(1))]);
        assert_eq!(meters.problems(), []);
        meters.fail("policy", What::Counters, "denied".to_owned());
        meters.take("policy", vec![table(Some(1))]);
        assert_eq!(meters.problems()[0].object, "counters of policy", "tables say nothing about them");
    }
}
