//! Kernel parameters of a network namespace, below `/proc/sys`. Never cached: each call reads or writes the kernel.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file in it, so a call works in the namespace of the
//! calling thread; see [`crate::netns::NetNs::run`].

use cni_core::backend::{Error as BackendError, ErrorKind};
use std::fs;
use std::io;
use std::path::PathBuf;

/// A kernel parameter that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// The name would lead out of `/proc/sys`.
    #[error("sysctl {name:?}: give a relative path below /proc/sys, such as net/ipv4/ip_forward")]
    Name {
        /// What was given.
        name: String,
    },
    /// The kernel has no such parameter, or refused the value.
    #[error("{operation} sysctl {name}: {source}")]
    Kernel {
        /// `read` or `write`.
        operation: &'static str,
        /// The parameter.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<SysctlError> for BackendError {
    fn from(error: SysctlError) -> Self {
        let (kind, operation, name) = match &error {
            SysctlError::Name { name } => (ErrorKind::Invalid, "write", name),
            SysctlError::Kernel { operation, name, source } => {
                let kind = match source.kind() {
                    io::ErrorKind::NotFound => ErrorKind::Missing,
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
                    io::ErrorKind::InvalidInput => ErrorKind::Invalid,
                    _ => ErrorKind::Kernel,
                };
                (kind, *operation, name)
            }
        };
        Self::new(kind, operation, format_args!("sysctl {name}"), &error).because(error)
    }
}

fn path(name: &str) -> Result<PathBuf, SysctlError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if name.split('/').all(plain) {
        Ok(PathBuf::from("/proc/sys").join(name))
    } else {
        Err(SysctlError::Name { name: name.to_owned() })
    }
}

/// The value of `net/ipv4/ip_forward` and the like, without the line's end.
///
/// # Errors
/// [`SysctlError`]; there is none of this name (of a device: it is gone).
pub fn read(name: &str) -> Result<String, SysctlError> {
    let failed = |source| SysctlError::Kernel { operation: "read", name: name.to_owned(), source };
    Ok(fs::read_to_string(path(name)?).map_err(failed)?.trim_end().to_owned())
}

/// Sets a value.
///
/// # Errors
/// [`SysctlError`]; `EINVAL` when the kernel does not take the value, `EROFS` where `/proc/sys` is read-only.
pub fn write(name: &str, value: &str) -> Result<(), SysctlError> {
    fs::write(path(name)?, value).map_err(|source| SysctlError::Kernel {
        operation: "write",
        name: name.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    const FORWARD: &str = "net/ipv4/ip_forward";

    #[test]
    fn a_value_is_that_of_the_thread_s_namespace() {
        let here = read(FORWARD).unwrap();
        let fresh = NetNs::new().unwrap();
        let other = if here == "1" { "0" } else { "1" };
        fresh.run(|| write(FORWARD, other).unwrap()).unwrap();
        assert_eq!(fresh.run(|| read(FORWARD).unwrap()).unwrap(), other);
        assert_eq!(read(FORWARD).unwrap(), here);
    }

    #[test]
    fn a_name_cannot_lead_out() {
        for name in ["", "/etc/passwd", "../../etc/passwd", "net//x", "net/./x"] {
            assert!(matches!(read(name), Err(SysctlError::Name { .. })), "{name}");
        }
        assert!(matches!(read("net/ipv4/no_such"), Err(SysctlError::Kernel { .. })));
    }
}
