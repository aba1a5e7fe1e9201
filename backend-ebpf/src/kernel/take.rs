//! An entry out of a hash map, read and taken away in one step. Never one that another process has changed in between.
#![expect(unsafe_code, reason = "the library has this for other kinds of maps only")]

use super::raw::Raw;
use backend_ebpf_abi::{Connection, ConnectionKey, Count, Tracked};
use nix::errno::Errno;
use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_MAP_LOOKUP_AND_DELETE_ELEM` of `include/uapi/linux/bpf.h`; of hash maps since Linux 5.14.
const LOOKUP_AND_DELETE: libc::c_long = 21;
/// `BPF_MAP_UPDATE_ELEM`, and `BPF_NOEXIST`.
const UPDATE: libc::c_long = 2;
const NOEXIST: u64 = 1;

/// The part of `union bpf_attr` for both commands.
#[repr(C)]
struct Attributes {
    map: i32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Takes a connection's entry; `None`: it is not there.
pub(super) fn take(map: BorrowedFd<'_>, key: &Raw<ConnectionKey>) -> io::Result<Option<Tracked>> {
    let nothing = Count { packets: 0, bytes: 0 };
    let mut found = Tracked { sent: nothing, ..Tracked::opened(Connection::seen(0, 0), 0) };
    match command(LOOKUP_AND_DELETE, map, key, &mut found, 0) {
        Ok(()) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes an entry; one that is there stays.
pub(super) fn put_where_none(map: BorrowedFd<'_>, key: &Raw<ConnectionKey>, mut tracked: Tracked) -> io::Result<()> {
    match command(UPDATE, map, key, &mut tracked, NOEXIST) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn command(
    command: libc::c_long,
    map: BorrowedFd<'_>,
    key: &Raw<ConnectionKey>,
    value: &mut Tracked,
    flags: u64,
) -> nix::Result<()> {
    let (key, value) = (std::ptr::from_ref(key) as u64, std::ptr::from_mut(value) as u64);
    let attributes = Attributes { map: map.as_raw_fd(), padding: 0, key, value, flags };
    let length = size_of::<Attributes>();
    // SAFETY: the kernel reads so many bytes of integers, and a key's where `key` points to; it reads or writes a value's, which is
    // integers without padding, where `value` does. Whoever asks has found the map's keys and values to be as long as these.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(&attributes), length) };
    Errno::result(done).map(drop)
}
