//! Why a local database cannot be used. Each names the file and what to do.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A failure of the local database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalDatabaseError {
    /// It is open already: only one agent may run on a node.
    #[error("{}: in use by {owner}; stop that one first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who has it open: `process 4711`.
        owner: String,
    },
    /// The file is damaged. Starting without it would give away addresses that pods have.
    #[error("{}: damaged: {detail}; restore it from a copy, or move it away once no pod of this node runs any more",
        path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file was written by a later version.
    #[error("{}: has format version {found}, and this program knows {known}; run the version that wrote it",
        path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
        /// The latest version known here.
        known: u64,
    },
    /// The operating system failed.
    #[error("cannot {operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The database engine failed.
    #[error("{}: the database failed: {source}", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
}

/// What goes wrong inside, before the file's name is added.
pub(super) enum Inside {
    Engine(redb::Error),
    Known(LocalDatabaseError),
}

impl<E: Into<redb::Error>> From<E> for Inside {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

/// A file in use, for errors.
pub(super) struct Opening<'a> {
    pub(super) path: &'a Path,
}

impl Opening<'_> {
    pub(super) fn io(&self, operation: &'static str) -> impl FnOnce(io::Error) -> LocalDatabaseError + use<> {
        let path = self.path.to_owned();
        move |source| LocalDatabaseError::Io { operation, path, source }
    }

    pub(super) fn damaged(&self, detail: impl ToString) -> LocalDatabaseError {
        LocalDatabaseError::Damaged { path: self.path.to_owned(), detail: detail.to_string() }
    }

    /// Runs work on the database and names the file in what goes wrong.
    ///
    /// redb checks its file when it opens it, yet it may panic over a page that is damaged under its feet.
    /// That must not take the agent with it.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> Result<T, Inside>) -> Result<T, LocalDatabaseError> {
        let path = || self.path.to_owned();
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Inside::Known(error))) => Err(error),
            Ok(Err(Inside::Engine(redb::Error::DatabaseAlreadyOpen))) => {
                Err(LocalDatabaseError::InUse { path: path(), owner: "another program".to_owned() })
            }
            Ok(Err(Inside::Engine(redb::Error::Corrupted(detail)))) => Err(self.damaged(detail)),
            // What is no redb file at all, or ends too early.
            Ok(Err(Inside::Engine(redb::Error::Io(error))))
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Err(self.damaged(error))
            }
            Ok(Err(Inside::Engine(redb::Error::Io(source)))) => Err(self.io("use")(source)),
            Ok(Err(Inside::Engine(redb::Error::UpgradeRequired(version)))) => {
                Err(self.damaged(format!("its engine's format version {version} was never written by this program")))
            }
            Ok(Err(Inside::Engine(source))) => {
                Err(LocalDatabaseError::Engine { path: path(), source: Box::new(source) })
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                Err(self.damaged(format!("its engine gave up: {}", text.unwrap_or("no reason given"))))
            }
        }
    }
}
