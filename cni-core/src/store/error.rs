//! Why a store did not do what was asked. Never a bare string: each names the object or file.

use super::{ObjectKey, Version};
use std::path::PathBuf;
use std::sync::Arc;

/// A result of a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An object that is not what its kind wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {detail}")]
pub struct InvalidObject {
    /// The object as a person would name it: `Node node-1`, `Pod default/web`.
    pub object: String,
    /// The field at fault, as a path: `spec.podCIDRs[1]`.
    pub field: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

impl InvalidObject {
    /// An error at one field.
    pub fn new(object: impl ToString, field: impl Into<String>, detail: impl ToString) -> Self {
        Self { object: object.to_string(), field: field.into(), detail: detail.to_string() }
    }
}

/// A failure of a store. Cheap to clone, so that a status page can hold it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such object.
    #[error("{key}: there is no such object")]
    NotFound {
        /// Which.
        key: ObjectKey,
    },
    /// The object to be created is there already.
    #[error("{key}: exists already; update it instead")]
    AlreadyExists {
        /// Which.
        key: ObjectKey,
    },
    /// Somebody else wrote the object since it was read: read it again, decide again, write again.
    #[error("{key}: changed since it was read (expected resourceVersion {expected}, found {}); read it again and retry",
        found.as_ref().map_or("another", Version::as_str))]
    Conflict {
        /// Which.
        key: ObjectKey,
        /// The version that the writer had read.
        expected: Version,
        /// The version that is in force, where the store tells it.
        found: Option<Version>,
    },
    /// The object is not acceptable.
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    /// The file that holds the object, or that would hold it, cannot be read as manifests, so it is not overwritten.
    #[error("{key}: not written, because {} is broken: {detail}; repair or remove that file", path.display())]
    BrokenFile {
        /// The object that was to be written.
        key: ObjectKey,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The operating system failed a read or a write.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done: `read`, `write`, `lock`, ...
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// The other side of the store (an API server, a lock held by a hung process) does not answer; try again later.
    #[error("{operation}: {detail}")]
    Unavailable {
        /// What was being done.
        operation: &'static str,
        /// What does not answer.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without a new decision of the caller.
    ///
    /// A [`Conflict`](Self::Conflict) is none of these: it wants a new read first.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Unavailable { .. })
    }
}
