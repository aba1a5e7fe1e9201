//! The local database of one node: leases and endpoint records that survive a crash. Never shared, never the desired
//! state of the cluster.
//!
//! The layout is described in `docs/formats/local-database.md`.

mod error;
mod group;
mod lock;
mod tables;

pub use error::LocalDatabaseError;
pub use lock::LocalDatabaseLock;

use crate::ipam::{LeaseOp, LeaseState, LeaseStore, LeaseStoreError};
use error::{Inside, Opening};
use group::Group;
use redb::{Builder, Database};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// What redb may keep of the file in memory. A node's leases fit in a fraction of it.
const CACHE_BYTES: usize = 1 << 20;

/// An open local database. The process that holds it owns it; [`commit`](LeaseStore::commit) may be called by many
/// threads, and those that wait at the same time share one `fsync`.
pub struct LocalDatabase {
    path: PathBuf,
    /// `None` after a failure: the engine then refuses everything until its file is opened again.
    database: Mutex<Option<Database>>,
    group: Group,
    /// Held for as long as the database is open; the kernel drops it with the process.
    _lock: LocalDatabaseLock,
}

impl LocalDatabase {
    /// Opens a database, making it where the file is missing. All of it is read and its checksums are verified.
    ///
    /// # Errors
    /// Another process (or this one) has it open; the file is damaged, empty or of a newer version; it cannot be read
    /// or written. Each names the file. A file that is there is never replaced.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LocalDatabaseError> {
        let path = path.as_ref();
        let opening = Opening { path };
        let lock = LocalDatabaseLock::take(path)?;
        match fs::metadata(path) {
            Ok(metadata) if metadata.len() == 0 => {
                return Err(opening.damaged("it is empty, though a database is never written so"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => make(&opening)?,
            Err(error) => return Err(opening.io("stat")(error)),
        }
        let database = opening.guarded(|| Ok(builder().open(path)?))?;
        opening.guarded(|| tables::check_version(&database, &opening))?;
        // Values that do not decode must show now, not at the first ADD.
        opening.guarded(|| tables::load(&database, &opening))?;
        Ok(Self { path: path.to_owned(), database: Mutex::new(Some(database)), group: Group::default(), _lock: lock })
    }

    /// Runs work on the database. When the work before has failed, the file is opened again first: a disk that was full
    /// may have space again, and then nobody has to restart the agent.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database, &Opening<'_>) -> Result<T, Inside>,
    ) -> Result<T, LocalDatabaseError> {
        let opening = Opening { path: &self.path };
        let mut held = self.database.lock().unwrap_or_else(PoisonError::into_inner);
        let database = match held.take() {
            Some(database) => database,
            None => opening.guarded(|| Ok(builder().open(&self.path)?))?,
        };
        // What failed is closed under the guard, too.
        let (answer, database) = opening.guarded(|| {
            let answer = work(&database, &opening)?;
            Ok((answer, database))
        })?;
        *held = Some(database);
        Ok(answer)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn storage(&self, operation: &'static str, error: LocalDatabaseError) -> LeaseStoreError {
        LeaseStoreError::Storage { operation, source: Arc::new(error) }
    }
}

impl std::fmt::Debug for LocalDatabase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalDatabase").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LeaseStore for LocalDatabase {
    fn load(&self) -> Result<LeaseState, LeaseStoreError> {
        self.with(tables::load).map_err(|error| self.storage("read the local database", error))
    }

    fn commit(&self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        self.group.commit(ops, |transactions| {
            self.with(|database, opening| tables::write(database, opening, transactions)).unwrap_or_else(|error| {
                let failed = self.storage("write the local database", error);
                transactions.iter().map(|_| Err(failed.clone())).collect()
            })
        })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// The file of this ending beside a database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes a new database under another name first, so that a crash leaves none or a whole one.
fn make(opening: &Opening<'_>) -> Result<(), LocalDatabaseError> {
    let new = beside(opening.path, ".new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(opening.io("remove what a crash left of")(error));
        }
        _ => {}
    }
    opening.guarded(|| {
        let database = builder().create(&new)?;
        tables::make(&database)?;
        Ok(database.close()?)
    })?;
    fs::rename(&new, opening.path).map_err(opening.io("rename"))?;
    let directory = opening.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(opening.io("sync the directory of"))
}
