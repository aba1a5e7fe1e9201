//! `ioctl` on `/dev/net/tun`. Never opens it.

use nix::libc::{self, c_int, c_short, c_ulong, ifreq};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Makes or joins the device `name` and gives the name it has. `name` is at most 15 bytes.
pub(crate) fn set_interface(fd: BorrowedFd<'_>, name: &[u8], flags: c_int) -> io::Result<Vec<u8>> {
    // SAFETY: `ifreq` is plain numbers and bytes, for which all zeroes are valid.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = flags as c_short;
    // SAFETY: the kernel reads and writes one `ifreq`, which `request` is; `fd` is open while it is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned()).collect())
}

/// Lets the device live on without a descriptor, or die with the last one.
pub(crate) fn set_persistent(fd: BorrowedFd<'_>, persistent: bool) -> io::Result<()> {
    // SAFETY: the argument is a number, not a pointer; `fd` is open while it is borrowed.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, c_ulong::from(persistent)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
