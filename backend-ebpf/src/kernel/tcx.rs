//! Programs at TCX hooks that stay there when their loader ends, without a pin: they go with their interface, and hold their
//! maps. Never a link.
#![expect(unsafe_code, reason = "the library attaches by links only, which end with their last holder")]

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH` of `include/uapi/linux/bpf.h`.
const ATTACH: libc::c_long = 8;
const DETACH: libc::c_long = 9;
/// `BPF_PROG_BIND_MAP`.
const BIND_MAP: libc::c_long = 35;
/// `BPF_F_REPLACE`.
const REPLACE: u32 = 1 << 2;

/// Which hook of an interface: `BPF_TCX_INGRESS` or `BPF_TCX_EGRESS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Side {
    /// What comes in.
    Ingress = 46,
    /// What goes out.
    Egress = 47,
}

/// The part of `union bpf_attr` for the two commands.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    interface: u32,
    program: i32,
    kind: u32,
    flags: u32,
    replaced: i32,
    relative: u32,
    expected_revision: u64,
}

/// Attaches a program behind all others at the hook, or in the place of one, at once.
pub(super) fn attach(
    interface: u32,
    side: Side,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = Attributes { interface, program: program.as_raw_fd(), kind: side as u32, ..Attributes::default() };
    command(
        ATTACH,
        &match replaced {
            Some(old) => Attributes { flags: REPLACE, replaced: old.as_raw_fd(), ..attributes },
            None => attributes,
        },
    )
}

/// Takes a program off the hook.
pub(super) fn detach(interface: u32, side: Side, program: BorrowedFd<'_>) -> io::Result<()> {
    command(DETACH, &Attributes { interface, program: program.as_raw_fd(), kind: side as u32, ..Attributes::default() })
}

/// Lets a program hold a map that it does not use.
pub(super) fn bind(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    // The program, the map, flags.
    command(BIND_MAP, &[program.as_raw_fd(), map.as_raw_fd(), 0])
}

/// Attributes are plain integers, without padding.
fn command<T>(command: libc::c_long, attributes: &T) -> io::Result<()> {
    let length = size_of::<T>();
    // SAFETY: the kernel reads so many bytes of integers, and the descriptors among them are open while it does.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
