//! Socket options that no safe crate wraps. Never decides on a value.

use nix::libc::{SO_NETNS_COOKIE, SOL_SOCKET, c_int, getsockopt, setsockopt, socklen_t};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const BYTES: socklen_t = size_of::<c_int>() as socklen_t;

/// Sets an option.
pub(crate) fn set(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    // SAFETY: the kernel reads `BYTES` bytes, which `value` has for the length of the call; `fd` is open while borrowed.
    let result = unsafe { setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), BYTES) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option.
pub(crate) fn get(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut bytes = BYTES;
    // SAFETY: the kernel writes at most `bytes` bytes, which `value` has; `fd` is open while borrowed.
    let result = unsafe { getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// The number of a socket, which no other has until the machine starts anew.
#[cfg(test)]
pub(crate) fn cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    number(fd, nix::libc::SO_COOKIE)
}

/// The number of a socket's network namespace, which no other has until the machine starts anew.
pub(crate) fn netns_cookie(fd: BorrowedFd<'_>) -> io::Result<u64> {
    number(fd, SO_NETNS_COOKIE)
}

/// An option that is a number of 64 bits.
fn number(fd: BorrowedFd<'_>, name: c_int) -> io::Result<u64> {
    let mut value: u64 = 0;
    let mut bytes = size_of::<u64>() as socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes, which `value` has; `fd` is open while borrowed.
    let result = unsafe { getsockopt(fd.as_raw_fd(), SOL_SOCKET, name, (&raw mut value).cast(), &raw mut bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
