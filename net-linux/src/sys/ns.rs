//! `ioctl` on namespace files, and namespaces by handle. Never enters one.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `NS_GET_NSTYPE`, `_IO(NSIO, 0x3)` of `include/uapi/linux/nsfs.h`.
const NS_GET_NSTYPE: nix::libc::Ioctl = 0xb703;

/// The `CLONE_NEW*` flag that says which kind of namespace a file of nsfs is.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: the call takes no argument and writes no memory of ours; `fd` is open while it is borrowed.
    let kind = unsafe { nix::libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    if kind < 0 { Err(io::Error::last_os_error()) } else { Ok(kind) }
}

/// `FD_NSFS_ROOT` of `include/uapi/linux/fcntl.h`.
const FD_NSFS_ROOT: nix::libc::c_int = -10003;
/// `FILEID_NSFS` of `include/linux/exportfs.h`.
const FILEID_NSFS: i32 = 0xf1;

/// A file handle of nsfs: `struct file_handle` with a `struct nsfs_file_handle` (`include/uapi/linux/nsfs.h`).
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    ns_id: u64,
    ns_type: u32,
    ns_inum: u32,
}

/// Opens a network namespace by its number and inode. Since Linux 6.18, where the number of the one is that of the other
/// (`SO_NETNS_COOKIE`); older kernels have no such handles (`EBADF`).
pub(crate) fn open_network(cookie: u64, inode: u32) -> io::Result<OwnedFd> {
    let ns_type = nix::libc::CLONE_NEWNET.cast_unsigned();
    let mut handle = Handle { bytes: 16, kind: FILEID_NSFS, ns_id: cookie, ns_type, ns_inum: inode };
    let flags = nix::libc::O_RDONLY | nix::libc::O_CLOEXEC;
    // SAFETY: the kernel reads the header and `bytes` bytes behind it, which `handle` has; the answer is a new descriptor.
    let fd = unsafe { nix::libc::open_by_handle_at(FD_NSFS_ROOT, (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave it to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
