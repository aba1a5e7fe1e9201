//! What the kernel knows of a program, by its number. Never loads one.
#![expect(
    unsafe_code,
    reason = "the library gives this of programs that it loaded, that are pinned, or all that there are"
)]

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// `BPF_PROG_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of `include/uapi/linux/bpf.h`.
const GET_FD_BY_ID: libc::c_long = 13;
const GET_INFO_BY_FD: libc::c_long = 15;
/// As many maps as the verifier lets a program use (`MAX_USED_MAPS`); more may be bound to it.
const MAPS: u32 = 64;

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub id: u32,
    /// Its name, of 15 bytes at most.
    pub name: String,
    /// What the kernel computes of its instructions, as a number in network order.
    pub tag: u64,
    /// The maps that it uses or holds.
    pub map_ids: Vec<u32>,
}

/// The part of `union bpf_attr` for a number.
#[repr(C)]
#[derive(Default)]
struct Number {
    id: u32,
    next: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for a question about a descriptor.
#[repr(C)]
struct Question {
    descriptor: u32,
    length: u32,
    answer: u64,
}

/// The beginning of `struct bpf_prog_info`. The kernel fills as much of it as there is room for.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    compiled_length: u32,
    translated_length: u32,
    compiled: u64,
    translated: u64,
    load_time: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

impl Known {
    /// The program of a number; `None`: it is gone.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn of(id: u32) -> io::Result<Option<Self>> {
        let Some(descriptor) = open(id)? else { return Ok(None) };
        let mut maps = vec![0_u32; MAPS as usize];
        loop {
            let room = maps.len() as u32;
            let mut info = Info { map_count: room, maps: maps.as_mut_ptr() as u64, ..Info::default() };
            // SAFETY: `maps` has room for `map_count` numbers, and lives longer than the call.
            unsafe { tell(&descriptor, &mut info) }?;
            maps.resize(info.map_count as usize, 0);
            if info.map_count <= room {
                let end = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
                let name = String::from_utf8_lossy(&info.name[..end]).into_owned();
                return Ok(Some(Self { id, name, tag: u64::from_be_bytes(info.tag), map_ids: maps }));
            }
        }
    }

    /// A descriptor, which keeps it in the kernel.
    ///
    /// # Errors
    /// It is gone, or the kernel does not give it.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        open(self.id)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

fn open(id: u32) -> io::Result<Option<OwnedFd>> {
    let attributes = Number { id, ..Number::default() };
    // SAFETY: the kernel reads so many bytes of integers.
    let got =
        unsafe { libc::syscall(libc::SYS_bpf, GET_FD_BY_ID, std::ptr::from_ref(&attributes), size_of::<Number>()) };
    match RawFd::try_from(got) {
        // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
        Ok(descriptor) if descriptor >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            error => Err(error),
        },
    }
}

/// # Safety
/// Where `maps` points to there is room for `map_count` numbers.
unsafe fn tell(program: &OwnedFd, info: &mut Info) -> io::Result<()> {
    let question = Question {
        descriptor: program.as_raw_fd().cast_unsigned(),
        length: size_of::<Info>() as u32,
        answer: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the kernel reads the question, and writes so many bytes of integers as `length` says where it points to; the rest is
    // for who calls.
    let done =
        unsafe { libc::syscall(libc::SYS_bpf, GET_INFO_BY_FD, std::ptr::from_ref(&question), size_of::<Question>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
