//! A store in a directory of manifests, shared by several processes. Never more than one writer at a time, and never a
//! half written object, whoever is killed when.
//!
//! The layout is described in `docs/formats/manifest-directory.md`. One thread per open store owns the directory: it
//! answers requests, listens to inotify, and looks again every few seconds in case inotify missed something.
//!
//! ```text
//!  FilesStore --request--> worker thread --flock, rename--> directory <-- users' editors, other agents
//!      ^                     |   ^                             |
//!      +------ watches <--journal+---------- inotify ----------+
//! ```

mod digest;
mod directory;
mod disk;
mod manifest;
mod names;
mod worker;

use super::journal::Journal;
use super::memory::new_uid;
use super::{Error, List, Object, ObjectKey, Query, Result, Store, Version, Watch};
use async_trait::async_trait;
use directory::Directory;
use disk::Disk;
use futures_util::stream::BoxStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use worker::Worker;

#[cfg(feature = "testkit")]
pub use manifest::fuzz_manifest;
pub(crate) use manifest::{Manifest, reading};
pub(crate) use names::{Form, form};

/// A file, or a part of one, that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {detail}", path.display())]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// How to open a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FilesOptions {
    /// The largest manifest file that is read, in bytes. 4 MiB.
    pub max_file_bytes: u64,
    /// How often the directory is read without a reason. 5 s.
    pub rescan: Duration,
    /// How long a write waits for another process's write. 10 s.
    pub lock_patience: Duration,
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self { max_file_bytes: 4 << 20, rescan: Duration::from_secs(5), lock_patience: Duration::from_secs(10) }
    }
}

/// The store in a directory. Clones are handles of one open store.
///
/// `resourceVersion` is a digest of the object's content, so it is the same in every process, and whoever edits a file
/// by hand changes it too.
#[derive(Debug, Clone)]
pub struct FilesStore {
    journal: Arc<Journal>,
    worker: Arc<Worker>,
}

impl FilesStore {
    /// Opens a directory, making it where it is missing.
    ///
    /// # Errors
    /// The directory cannot be made, read, locked or watched. Broken files are no error: see [`problems`](Self::problems).
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        Self::with_options(directory, FilesOptions::default())
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    /// As of [`open`](Self::open).
    pub fn with_options(directory: impl AsRef<Path>, options: FilesOptions) -> Result<Self> {
        let path = directory.as_ref().to_owned();
        let failed = |source| Error::Io { operation: "make directory", path: path.clone(), source: Arc::new(source) };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let FilesOptions { max_file_bytes, rescan, lock_patience } = options;
        let journal = Arc::new(Journal::new(new_uid()));
        let disk = Disk { path: path.clone(), max_file_bytes, lock_patience };
        let worker = Worker::start(path, Directory::new(disk, journal.clone()), journal.clone(), rescan)?;
        Ok(Self { journal, worker: Arc::new(worker) })
    }

    /// What is wrong in the directory now: broken files, objects defined twice.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn problems(&self) -> Result<Vec<Problem>> {
        self.worker.call(|directory| directory.scan().map(|()| directory.problems().to_vec())).await?
    }

    /// Whether no file is so young that it may be half written: [`problems`](Self::problems) tells of such files later.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub async fn is_settled(&self) -> Result<bool> {
        self.worker.call(|directory| directory.scan().map(|()| !directory.is_unsettled())).await?
    }

    /// All problems, now and whenever they change, for as long as the store lives.
    ///
    /// # Errors
    /// The store is gone.
    pub async fn follow_problems(&self) -> Result<BoxStream<'static, Vec<Problem>>> {
        self.worker.follow_problems().await
    }
}

#[async_trait]
impl Store for FilesStore {
    async fn get(&self, key: &ObjectKey) -> Result<Arc<Object>> {
        self.worker.call(Directory::scan).await??;
        self.journal.get(key)
    }

    async fn list(&self, query: &Query) -> Result<List> {
        self.worker.call(Directory::scan).await??;
        Ok(self.journal.list(query))
    }

    async fn watch(&self, query: &Query, from: &Version) -> Result<Watch> {
        Ok(self.journal.watch(query, from))
    }

    async fn create(&self, object: &Object) -> Result<Arc<Object>> {
        let object = object.clone();
        self.worker.call(move |directory| directory.create(&object)).await?
    }

    async fn update(&self, object: &Object) -> Result<Arc<Object>> {
        let object = object.clone();
        self.worker.call(move |directory| directory.update(&object)).await?
    }

    async fn delete(&self, key: &ObjectKey, expected: &Version) -> Result<()> {
        let (key, expected) = (key.clone(), expected.clone());
        self.worker.call(move |directory| directory.delete(&key, &expected)).await?
    }
}
