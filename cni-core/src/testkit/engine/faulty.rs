//! A driver that fails or dies on demand, around any driver. Never changes what reaches the kernel otherwise.

use crate::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The operation that an injected error names, so that a test can tell it from a real one.
pub(super) const INJECTED: &str = "injected fault at";

#[derive(Debug, Default)]
struct State {
    /// Writes since the last arming.
    writes: usize,
    failing: BTreeSet<usize>,
    unanswered: BTreeSet<usize>,
    kill_at: Option<usize>,
    unreadable: bool,
    fired: usize,
}

/// What becomes of a write.
enum Fate {
    Made,
    NotMade(Error),
    Unanswered(Error),
}

/// The switch of a [`Faulty`] driver. Clones share it, and it outlives the driver.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<State>>);

impl Faults {
    /// Makes the writes with these numbers fail, counted from the next one, which is 0.
    pub fn fail_writes(&self, numbers: impl IntoIterator<Item = usize>) {
        self.arm(|state| state.failing = numbers.into_iter().collect());
    }

    /// Makes the writes with these numbers succeed in the kernel and fail in the answer, as when a reply is lost.
    pub fn lose_answers(&self, numbers: impl IntoIterator<Item = usize>) {
        self.arm(|state| state.unanswered = numbers.into_iter().collect());
    }

    /// Dies before this write, counted from the next one, which is 0: it and all later ones are not made, nothing is read.
    pub fn kill_at(&self, number: usize) {
        self.arm(|state| state.kill_at = Some(number));
    }

    /// Makes the kernel unreadable.
    pub fn fail_reads(&self) {
        self.arm(|state| state.unreadable = true);
    }

    /// Nothing fails any more; writes are counted anew.
    pub fn clear(&self) {
        self.arm(|_| {});
    }

    /// How many writes were failed or suppressed since the last arming.
    #[must_use]
    pub fn fired(&self) -> usize {
        self.lock(|state| state.fired)
    }

    /// How many writes were asked for since the last arming.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.lock(|state| state.writes)
    }

    fn arm(&self, arm: impl FnOnce(&mut State)) {
        self.lock(|state| {
            *state = State::default();
            arm(state);
        });
    }

    fn lock<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a write and says what becomes of it.
    fn next_write(&self, object: &dyn std::fmt::Display) -> Fate {
        self.lock(|state| {
            let number = state.writes;
            state.writes += 1;
            let error = |detail| Error::new(ErrorKind::Busy, INJECTED, object, detail);
            let fate = if state.kill_at.is_some_and(|at| number >= at) {
                Fate::NotMade(error("the process is dead"))
            } else if state.failing.contains(&number) {
                Fate::NotMade(error("told to fail"))
            } else if state.unanswered.contains(&number) {
                Fate::Unanswered(error("the answer was lost"))
            } else {
                Fate::Made
            };
            state.fired += usize::from(!matches!(fate, Fate::Made));
            fate
        })
    }

    fn unreadable(&self) -> bool {
        self.lock(|state| state.unreadable || state.kill_at.is_some_and(|at| state.writes > at))
    }
}

/// A driver with [`Faults`].
pub struct Faulty<D> {
    driver: D,
    faults: Faults,
}

impl<D: Driver> Faulty<D> {
    /// The same driver, under this switch.
    pub fn new(driver: D, faults: Faults) -> Self {
        Self { driver, faults }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<D: Driver> Driver for Faulty<D> {
    type Item = D::Item;
    type Key = D::Key;
    type Object = D::Object;

    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    fn adopt(&mut self, node: &NodeContext) -> Result<()> {
        self.driver.adopt(node)
    }

    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        self.driver.configure(section)
    }

    fn base(&self) -> Result<Vec<(D::Key, D::Object)>> {
        self.driver.base()
    }

    fn compile(&self, item: &D::Item) -> Result<Vec<(D::Key, D::Object)>> {
        self.driver.compile(item)
    }

    fn rank(&self, key: &D::Key) -> Rank {
        self.driver.rank(key)
    }

    fn describe(&self, key: &D::Key, from: Option<&D::Object>, to: Option<&D::Object>) -> String {
        self.driver.describe(key, from, to)
    }

    async fn observe(&mut self) -> Result<Vec<(D::Key, D::Object)>> {
        if self.faults.unreadable() {
            return Err(Error::new(ErrorKind::Busy, INJECTED, "kernel state", "told to be unreadable"));
        }
        self.driver.observe().await
    }

    async fn apply(&mut self, batch: &[Op<D::Key, D::Object>]) -> Vec<Result<()>> {
        let fates = batch.iter().map(|op| {
            let (Op::Put { key, .. } | Op::Delete { key, .. }) = op;
            self.faults.next_write(key)
        });
        let fates: Vec<Fate> = fates.collect();
        let spared = batch.iter().zip(&fates).filter(|(_, fate)| !matches!(fate, Fate::NotMade(_)));
        let spared: Vec<_> = spared.map(|(op, _)| op.clone()).collect();
        let results = if spared.is_empty() { Vec::new() } else { self.driver.apply(&spared).await };
        let mut results = results.into_iter();
        // Where the driver answers too little, so do we: the engine must cope.
        let answers = fates.into_iter().map_while(|fate| match fate {
            Fate::Made => results.next(),
            Fate::NotMade(error) => Some(Err(error)),
            Fate::Unanswered(error) => results.next().map(|_| Err(error)),
        });
        answers.collect()
    }
}
