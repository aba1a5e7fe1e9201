//! What went wrong between us and the kernel. Never decides what to do about it.

use cni_core::backend::{self, ErrorKind};
use nix::errno::Errno;

/// A result of a netlink operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed netlink operation, with the object it was about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused.
    #[error("{operation} {object}: {}", refusal(*errno, message.as_deref()))]
    Kernel {
        /// What was being done: `create`, `delete`, `dump`, ...
        operation: &'static str,
        /// The object, as a person would name it.
        object: String,
        /// The kernel's error number.
        errno: Errno,
        /// The kernel's own words (`NLMSGERR_ATTR_MSG`), where it gave some.
        message: Option<String>,
    },
    /// An object without our mark stands where ours should be.
    #[error("{operation} {object}: there is one that is not ours ({found}); refusing to take it over")]
    Foreign {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
        /// What stands there.
        found: String,
    },
    /// The object, or what it depends on, is not there.
    #[error("{operation} {object}: {missing} is not there")]
    Missing {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
        /// What is missing.
        missing: String,
    },
    /// The table changed during every attempt to read it.
    #[error("{operation} {object}: the table changed during each of {attempts} attempts to read it")]
    Interrupted {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
        /// Attempts made.
        attempts: u32,
    },
    /// The kernel's answer was lost because our receive buffer was full: the write may or may not have happened.
    #[error("{operation} {object}: the kernel's answer was lost (receive buffer full)")]
    Lost {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
    },
    /// The socket itself failed, or the kernel did not answer in time.
    #[error("{operation} {object}: netlink socket: {call}: {errno}")]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
        /// The call that failed.
        call: &'static str,
        /// Its error number.
        errno: Errno,
    },
    /// A value that the kernel cannot take.
    #[error("{operation} {object}: {field}: {detail}")]
    Invalid {
        /// What was being done.
        operation: &'static str,
        /// The object.
        object: String,
        /// The field at fault.
        field: &'static str,
        /// What is wrong and what would be right.
        detail: String,
    },
}

fn refusal(errno: Errno, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{message} ({errno})"),
        None => errno.to_string(),
    }
}

impl Error {
    /// The kernel's error number, where the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// The kernel's own words, where it gave some.
    #[must_use]
    pub fn kernel_message(&self) -> Option<&str> {
        match self {
            Self::Kernel { message, .. } => message.as_deref(),
            _ => None,
        }
    }

    /// Whether the object was there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// Whether the object, or the device it is on, was not there. Deleting such an object is a success.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Missing { .. })
            || matches!(self.errno(), Some(Errno::ENOENT | Errno::ESRCH | Errno::ENODEV | Errno::EADDRNOTAVAIL))
    }

    /// What was being done.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.subject().0
    }

    /// The object, as a person would name it.
    #[must_use]
    pub fn object(&self) -> &str {
        self.subject().1
    }

    fn subject(&self) -> (&'static str, &str) {
        match self {
            Self::Kernel { operation, object, .. }
            | Self::Foreign { operation, object, .. }
            | Self::Missing { operation, object, .. }
            | Self::Interrupted { operation, object, .. }
            | Self::Lost { operation, object }
            | Self::Socket { operation, object, .. }
            | Self::Invalid { operation, object, .. } => (operation, object),
        }
    }

    /// The kind that it has at a backend's border.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Kernel { errno, .. } | Self::Socket { errno, .. } => kind_of(*errno),
            Self::Foreign { .. } => ErrorKind::Foreign,
            Self::Missing { .. } => ErrorKind::Missing,
            Self::Interrupted { .. } | Self::Lost { .. } => ErrorKind::Busy,
            Self::Invalid { .. } => ErrorKind::Invalid,
        }
    }
}

/// The one table of error numbers to kinds. `EEXIST` is foreign: what is ours was looked for before.
pub(crate) fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::EEXIST => ErrorKind::Foreign,
        Errno::EPERM | Errno::EACCES => ErrorKind::Denied,
        Errno::ENODEV
        | Errno::ENOENT
        | Errno::ESRCH
        | Errno::ENXIO
        | Errno::ENETUNREACH
        | Errno::EHOSTUNREACH
        | Errno::ENETDOWN
        | Errno::EADDRNOTAVAIL => ErrorKind::Missing,
        Errno::ENOBUFS
        | Errno::EBUSY
        | Errno::EAGAIN
        | Errno::ENOMEM
        | Errno::EINTR
        | Errno::ENFILE
        | Errno::EMFILE
        | Errno::ENOSPC => ErrorKind::Busy,
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT | Errno::EPFNOSUPPORT | Errno::ENOSYS => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Kernel,
    }
}

impl From<Error> for backend::Error {
    fn from(error: Error) -> Self {
        let detail = match &error {
            Error::Kernel { errno, message, .. } => refusal(*errno, message.as_deref()),
            Error::Foreign { found, .. } => {
                format!("there is one that is not ours ({found}); refusing to take it over")
            }
            Error::Missing { missing, .. } => format!("{missing} is not there"),
            Error::Interrupted { attempts, .. } => {
                format!("the table changed during each of {attempts} attempts to read it")
            }
            Error::Lost { .. } => "the kernel's answer was lost (receive buffer full)".to_owned(),
            Error::Socket { call, errno, .. } => format!("netlink socket: {call}: {errno}"),
            Error::Invalid { detail, .. } => detail.clone(),
        };
        let field = match &error {
            Error::Invalid { field, .. } => Some(*field),
            _ => None,
        };
        let border = backend::Error::new(error.kind(), error.operation(), error.object(), detail);
        backend::Error { field, ..border }.because(error)
    }
}
