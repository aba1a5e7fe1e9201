//! Policy in force: what the tables want is written into the kernel's maps in their order. Never skips a write: what cannot be
//! written now holds back all that comes after it, so nothing leads to what is not there.

use crate::kernel::{KernelError, Object};
use crate::policy::{Tables, Write};
use std::collections::VecDeque;

/// The policy of a node in its kernel.
pub struct Enforcer {
    /// What is staged; take changes in here.
    pub tables: Tables,
    /// The programs and maps.
    pub object: Object,
    waiting: VecDeque<Write>,
}

impl Enforcer {
    /// With programs that have no entries yet.
    #[must_use]
    pub fn new(object: Object) -> Self {
        Self { tables: Tables::default(), object, waiting: VecDeque::new() }
    }

    /// Writes what is staged.
    ///
    /// # Errors
    /// The kernel refused a write. It and those behind it are tried again next time, in their order. A map that is full stays
    /// full, also when less is staged later: load an object with more room, stage everything for it, and attach it in the place
    /// of this one. Until then what was in force stays in force, and what changed since then is not.
    pub fn commit(&mut self) -> Result<(), KernelError> {
        self.waiting.extend(self.tables.drain());
        let (written, done) = self.object.write_all(self.waiting.make_contiguous());
        self.waiting.drain(..written);
        // What was written counts for open connections as well.
        done.or_else(|error| self.object.write(&Write::Advance).and(Err(error)))
    }

    /// Writes that the kernel refused, and those behind them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
