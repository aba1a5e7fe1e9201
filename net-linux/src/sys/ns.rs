//! `ioctl` on namespace files. Never opens or enters one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `NS_GET_NSTYPE`, `_IO(NSIO, 0x3)` of `include/uapi/linux/nsfs.h`.
const NS_GET_NSTYPE: nix::libc::Ioctl = 0xb703;

/// The `CLONE_NEW*` flag that says which kind of namespace a file of nsfs is.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: the call takes no argument and writes no memory of ours; `fd` is open while it is borrowed.
    let kind = unsafe { nix::libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}
