//! Programs at TCX hooks that stay there when their loader ends, without a pin: they go with their interface, and hold their
//! maps; and which programs are at a cgroup. Never a link.
#![expect(unsafe_code, reason = "the library attaches by links only, which end with their last holder")]

use net_linux::tc::Side;
use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_ATTACH`, `BPF_PROG_DETACH` and `BPF_PROG_QUERY` of `include/uapi/linux/bpf.h`.
const ATTACH: libc::c_long = 8;
const DETACH: libc::c_long = 9;
const QUERY: libc::c_long = 16;
/// `BPF_PROG_BIND_MAP`.
const BIND_MAP: libc::c_long = 35;
/// `BPF_F_REPLACE` and `BPF_F_BEFORE`.
const REPLACE: u32 = 1 << 2;
const BEFORE: u32 = 1 << 3;
/// The most programs at one hook: `BPF_MPROG_MAX` of `include/linux/bpf_mprog.h`.
const MOST: usize = 64;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
const fn kind(side: Side) -> u32 {
    match side {
        Side::Ingress => 46,
        Side::Egress => 47,
    }
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

/// The part of `union bpf_attr` for a query.
#[repr(C)]
#[derive(Default)]
struct Question {
    /// An interface or a descriptor.
    target: u32,
    kind: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    reserved: u32,
    program_attach_flags: u64,
    links: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// A program at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// Its number.
    pub(super) program: u32,
    /// Whether a link holds it there, not the interface itself.
    pub(super) linked: bool,
}

/// Where a program goes among those that are at the hook already.
#[derive(Debug, Clone, Copy)]
pub(super) enum Position<'fd> {
    /// Before all of them.
    First,
    /// Behind all of them.
    Last,
    /// In the place of this one, which no link holds, at once.
    InPlaceOf(BorrowedFd<'fd>),
}

/// Attaches a program.
pub(super) fn attach(interface: u32, side: Side, program: BorrowedFd<'_>, position: Position<'_>) -> io::Result<()> {
    let attributes = Attributes { interface, program: program.as_raw_fd(), kind: kind(side), ..Attributes::default() };
    let attributes = match position {
        Position::First => Attributes { flags: BEFORE, ..attributes },
        Position::Last => attributes,
        Position::InPlaceOf(old) => Attributes { flags: REPLACE, replaced: old.as_raw_fd(), ..attributes },
    };
    command(ATTACH, &attributes)
}

/// The programs at a hook of an interface of the calling thread's network namespace, in their order.
pub(super) fn query(interface: u32, side: Side) -> io::Result<Vec<At>> {
    let (mut programs, mut links) = ([0_u32; MOST], [0_u32; MOST]);
    let mut question = Question {
        target: interface,
        kind: kind(side),
        programs: programs.as_mut_ptr() as u64,
        count: MOST as u32,
        links: links.as_mut_ptr() as u64,
        ..Question::default()
    };
    ask(QUERY, &mut question)?;
    let count = usize::try_from(question.count).map_or(MOST, |count| count.min(MOST));
    let found = programs.into_iter().zip(links).take(count);
    Ok(found.map(|(program, link)| At { program, linked: link != 0 }).collect())
}

/// The programs at a cgroup, of one kind: a number of `enum bpf_attach_type`. At most 64 are there (`BPF_CGROUP_MAX_PROGS`).
pub(crate) fn at_cgroup(cgroup: BorrowedFd<'_>, kind: u32) -> io::Result<Vec<u32>> {
    let mut programs = [0_u32; MOST];
    let target = u32::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    let programs_at = programs.as_mut_ptr() as u64;
    let mut question = Question { target, kind, programs: programs_at, count: MOST as u32, ..Question::default() };
    ask(QUERY, &mut question)?;
    let count = usize::try_from(question.count).map_or(MOST, |count| count.min(MOST));
    Ok(programs.into_iter().take(count).collect())
}

/// Takes a program off the hook.
pub(super) fn detach(interface: u32, side: Side, program: BorrowedFd<'_>) -> io::Result<()> {
    command(DETACH, &Attributes { interface, program: program.as_raw_fd(), kind: kind(side), ..Attributes::default() })
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

/// The same where the kernel answers in the attributes.
fn ask(command: libc::c_long, question: &mut Question) -> io::Result<()> {
    let length = size_of::<Question>();
    // SAFETY: the kernel reads and writes so many bytes of integers, and no more numbers than `count` where they point to.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(question), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
