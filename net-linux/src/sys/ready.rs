//! Waiting for a descriptor in the async runtime. Never reads or writes it.

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime of the calling task. The descriptor itself must be non-blocking.
///
/// # Errors
/// The runtime refuses it, or is ending.
pub fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor for as long as it lives, and `AsyncFd` owns it from here on: it gives the
    // same descriptor every time and is unregistered before it is closed.
    let registered = unsafe { AsyncFd::register(fd) };
    registered.map_err(Into::into)
}
