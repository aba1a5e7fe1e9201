//! The error at the border of a backend: a kind, an operation, an object, and when to try again.

use std::fmt;
use std::sync::Arc;

/// A result at a backend's border.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure, for code that decides; the message is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An item or the configuration is not acceptable.
    Invalid,
    /// Two items want different things of one kernel object.
    Conflict,
    /// A kernel object that is not ours stands where ours should be.
    Foreign,
    /// The kernel or this backend lacks what is needed.
    Unsupported,
    /// We lack the right to do it (`EPERM`, `EACCES`).
    Denied,
    /// The kernel is out of a resource, or busy.
    Busy,
    /// What the object depends on is not there (`ENODEV`, `ENETUNREACH`).
    Missing,
    /// The kernel refused for another reason.
    Kernel,
}

/// When it makes sense to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// Soon, unchanged.
    Soon,
    /// After something else changed (an item, the configuration, the kernel).
    AfterChange,
}

/// A failure at a backend's border.
///
/// Cheap to clone, so that a report and a status page can both hold it.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// What was being done: `create`, `delete`, `compile`, `observe`, ...
    pub operation: &'static str,
    /// The object, as a person would name it: `route 10.1.2.0/26`, `peer node-3`.
    pub object: String,
    /// The field at fault, where there is one.
    pub field: Option<&'static str>,
    /// What is wrong and what would be right.
    pub detail: String,
    /// When to try again.
    pub retry: Retry,
    /// Where it came from.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with the retry that goes with its kind.
    pub fn new(kind: ErrorKind, operation: &'static str, object: impl fmt::Display, detail: impl fmt::Display) -> Self {
        let retry = match kind {
            ErrorKind::Busy | ErrorKind::Missing | ErrorKind::Kernel => Retry::Soon,
            _ => Retry::AfterChange,
        };
        Self {
            kind,
            operation,
            object: object.to_string(),
            field: None,
            detail: detail.to_string(),
            retry,
            source: None,
        }
    }

    /// An item or setting that is not acceptable.
    pub fn invalid(object: impl fmt::Display, field: &'static str, detail: impl fmt::Display) -> Self {
        Self { field: Some(field), ..Self::new(ErrorKind::Invalid, "compile", object, detail) }
    }

    /// The same error with its cause.
    #[must_use]
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.operation, self.object)?;
        if let Some(field) = self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.detail)
    }
}
