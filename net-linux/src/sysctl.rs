//! Kernel parameters of a network namespace, below `/proc/sys`. Never cached: each call reads or writes the kernel.
//!
//! `/proc/sys/net` shows the namespace of the thread that opens a file in it, so a call works in the namespace of the
//! calling thread; see [`crate::netns::NetNs::run`].

use cni_core::backend::{Error as BackendError, ErrorKind};
use std::fs;
use std::io;
use std::net::IpAddr;
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

/// Lets this host forward packets of the family of an address.
///
/// # Errors
/// [`SysctlError`].
pub fn enable_forwarding(family_of: IpAddr) -> Result<(), SysctlError> {
    write(if family_of.is_ipv4() { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" }, "1")
}

/// A value that was there before ours. Plain data, so that it can be kept beside other state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous {
    /// The parameter.
    pub name: String,
    /// What it was.
    pub value: String,
}

impl Previous {
    /// Puts it back. That the parameter is gone (with its device) is a success.
    ///
    /// # Errors
    /// [`SysctlError`].
    pub fn restore(&self) -> Result<(), SysctlError> {
        match write(&self.name, &self.value) {
            Err(SysctlError::Kernel { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Sets a value and gives what was there; `None` when it was so already and nothing was written.
///
/// # Errors
/// [`SysctlError`].
pub fn replace(name: &str, value: &str) -> Result<Option<Previous>, SysctlError> {
    let before = read(name)?;
    if before == value {
        return Ok(None);
    }
    write(name, value)?;
    Ok(Some(Previous { name: name.to_owned(), value: before }))
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
    fn what_was_there_is_put_back() {
        let work = || {
            let before = read(FORWARD).unwrap();
            let other = if before == "1" { "0" } else { "1" };
            let previous = replace(FORWARD, other).unwrap().unwrap();
            assert_eq!(read(FORWARD).unwrap(), other);
            assert_eq!(replace(FORWARD, other).unwrap(), None, "nothing is written twice");
            previous.restore().unwrap();
            assert_eq!(read(FORWARD).unwrap(), before);
            let gone = Previous { name: "net/ipv4/conf/gone0/forwarding".to_owned(), value: "1".to_owned() };
            gone.restore().unwrap();
        };
        NetNs::new().unwrap().run(work).unwrap();
    }

    #[test]
    fn a_name_cannot_lead_out() {
        for name in ["", "/etc/passwd", "../../etc/passwd", "net//x", "net/./x"] {
            assert!(matches!(read(name), Err(SysctlError::Name { .. })), "{name}");
        }
        assert!(matches!(read("net/ipv4/no_such"), Err(SysctlError::Kernel { .. })));
    }
}
