//! Who may run beside whom (CNI 1.1.0, section 3, "Lifecycle & Ordering"). Never times out: a verb has its own limit.

use crate::model::ContainerId;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// One operation per container; GC alone. Inside the process by a condition variable, between processes with the same
/// directory by a file lock (GC against the rest only).
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    lock_file: PathBuf,
}

#[derive(Default)]
struct State {
    containers: BTreeSet<ContainerId>,
    collecting: bool,
    /// Waiting GCs go first, or a busy node would never get to one.
    waiting_collectors: usize,
}

impl Gate {
    pub(super) fn new(directory: &Path) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), lock_file: directory.join("lock") }
    }

    /// Waits until the container is nobody else's.
    pub(super) fn container(&self, id: &ContainerId) -> io::Result<Pass<'_>> {
        let mut state = self.state();
        while state.collecting || state.waiting_collectors > 0 || state.containers.contains(id) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.containers.insert(id.clone());
        drop(state);
        let mut pass = Pass { gate: self, container: Some(id.clone()), lock: None };
        let file = self.open()?;
        file.lock_shared()?;
        pass.lock = Some(file);
        Ok(pass)
    }

    /// Waits until nothing else runs.
    pub(super) fn everything(&self) -> io::Result<Pass<'_>> {
        let mut state = self.state();
        state.waiting_collectors += 1;
        while state.collecting || !state.containers.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting_collectors -= 1;
        state.collecting = true;
        drop(state);
        let mut pass = Pass { gate: self, container: None, lock: None };
        let file = self.open()?;
        file.lock()?;
        pass.lock = Some(file);
        Ok(pass)
    }

    fn open(&self) -> io::Result<File> {
        if let Some(directory) = self.lock_file.parent() {
            fs::create_dir_all(directory)?;
        }
        OpenOptions::new().create(true).truncate(false).write(true).open(&self.lock_file)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run. Given back when dropped.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    container: Option<ContainerId>,
    /// Closing the file unlocks it.
    lock: Option<File>,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        drop(self.lock.take());
        let mut state = self.gate.state();
        match &self.container {
            Some(id) => {
                state.containers.remove(id);
            }
            None => state.collecting = false,
        }
        drop(state);
        self.gate.changed.notify_all();
    }
}
