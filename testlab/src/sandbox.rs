//! Entering namespaces for good: a user namespace for a lab without root, a kept lab's for `lab exec`. Both move the
//! whole process and so want it to have one thread only.

use crate::registry::Entry;
use net_linux::netns::NetNs;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{getegid, geteuid};
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A namespace that can't be entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel or its configuration forbids user namespaces.
    #[error(
        "this user may not create a user namespace ({source}); run as root, or allow it: \
         sysctl kernel.unprivileged_userns_clone=1, and where AppArmor restricts it \
         kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    NoUserNamespace {
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of `/proc`.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The lab has no such node or pod.
    #[error("lab {lab} has no {target:?}; there are: {}", known.join(", "))]
    NoTarget {
        /// The lab.
        lab: String,
        /// What was asked for.
        target: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The network namespace.
    #[error(transparent)]
    Namespace(#[from] net_linux::netns::NetNsError),
    /// The program.
    #[error("{program}: {source}")]
    Exec {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// Becomes root of new user, network and mount namespaces when we are not root already. Tells whether it did.
///
/// # Errors
/// [`SandboxError::NoUserNamespace`] with what would allow it; also when this process has several threads.
pub fn become_root() -> Result<bool, SandboxError> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(false);
    }
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| SandboxError::NoUserNamespace { source: errno.into() })?;
    // Without this an unprivileged process may not map groups (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))?;
    Ok(true)
}

fn write(path: &str, text: &str) -> Result<(), SandboxError> {
    fs::write(path, text).map_err(|source| SandboxError::File { path: path.into(), source })
}

/// Replaces this process by `command` inside a namespace of a kept lab. Returns only on failure.
#[must_use]
pub fn exec(entry: &Entry, target: &str, command: &[String]) -> SandboxError {
    match enter(entry, target) {
        Ok(()) => {}
        Err(error) => return error,
    }
    let shell = [std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned())];
    let words = if command.is_empty() { &shell[..] } else { command };
    let mut process = Command::new(&words[0]);
    process.args(&words[1..]).env("CNIDARIAN_LAB", &entry.name).env("CNIDARIAN_LAB_TARGET", target);
    if let Some(socket) = entry.sockets.get(target) {
        process.env("CNIDARIAN_SOCKET", socket);
    }
    SandboxError::Exec { program: words[0].clone(), source: process.exec() }
}

fn enter(entry: &Entry, target: &str) -> Result<(), SandboxError> {
    let Some(fd) = entry.namespaces.get(target) else {
        let known = entry.namespaces.keys().cloned().collect();
        return Err(SandboxError::NoTarget { lab: entry.name.clone(), target: target.to_owned(), known });
    };
    let process = PathBuf::from(format!("/proc/{}", entry.pid));
    // Opened before the first of them is entered: afterwards /proc may look different.
    let network = NetNs::from_path(process.join(format!("fd/{fd}")))?;
    if entry.user_namespace && !geteuid().is_root() {
        for (name, kind) in [("user", CloneFlags::CLONE_NEWUSER), ("mnt", CloneFlags::CLONE_NEWNS)] {
            enter_other(&process.join("ns").join(name), kind)?;
        }
    }
    Ok(network.enter()?)
}

fn enter_other(path: &Path, kind: CloneFlags) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::File { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(failed)?;
    setns(file, kind).map_err(|errno| failed(errno.into()))
}
