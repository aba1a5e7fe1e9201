//! The lock of a local database. Never the database, which may be damaged or missing.

use super::beside;
use super::error::{LocalDatabaseError, Opening};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Keeps every agent away from a node's state until it is dropped, or the process ends.
#[derive(Debug)]
pub struct LocalDatabaseLock {
    path: PathBuf,
    held: File,
}

impl LocalDatabaseLock {
    /// Takes the lock of the database of this path, whether it is there or not: `<file>.lock`, a separate file, so that a database
    /// that is not ours to open is not touched at all.
    ///
    /// # Errors
    /// [`LocalDatabaseError::InUse`]; [`LocalDatabaseError::Io`] where the directory is missing, among others.
    pub fn take(path: &Path) -> Result<Self, LocalDatabaseError> {
        loop {
            let taken = Self::try_take(path)?;
            // Who held it before may have removed it with the state.
            if taken.held.metadata().is_ok_and(|file| file.nlink() > 0) {
                return Ok(taken);
            }
        }
    }

    fn try_take(path: &Path) -> Result<Self, LocalDatabaseError> {
        let file = beside(path, ".lock");
        let failed = |operation| Opening { path: &file }.io(operation);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file);
        let mut held = opened.map_err(failed("open"))?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                // Only for the message: the owner may not have written it yet.
                let _ = held.take(64).read_to_string(&mut owner);
                return Err(LocalDatabaseError::InUse { path: path.to_owned(), owner: owner.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        let mut sign = || {
            held.set_len(0)?;
            held.rewind()?;
            writeln!(held, "process {}", std::process::id())
        };
        sign().map_err(failed("write"))?;
        Ok(Self { path: path.to_owned(), held })
    }

    /// Removes the database, what a crash left of one, and the lock itself, last.
    ///
    /// # Errors
    /// The system refused; what is left can be removed by another try.
    pub fn remove(self) -> io::Result<()> {
        for file in [self.path.clone(), beside(&self.path, ".new"), beside(&self.path, ".lock")] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LocalDatabase;

    #[test]
    fn a_lock_keeps_databases_closed_and_removes_what_is_there_of_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("leases.redb");
        drop(LocalDatabase::open(&path).unwrap());
        let lock = LocalDatabaseLock::take(&path).unwrap();
        let refused = LocalDatabase::open(&path).unwrap_err();
        assert!(matches!(refused, LocalDatabaseError::InUse { .. }), "{refused}");
        assert!(matches!(LocalDatabaseLock::take(&path), Err(LocalDatabaseError::InUse { .. })));
        lock.remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        // A database that is damaged, or none, is no reason not to remove it.
        fs::write(&path, b"").unwrap();
        LocalDatabaseLock::take(&path).unwrap().remove().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        LocalDatabase::open(&path).unwrap();
    }
}
