//! Policy in eBPF programs as an engine: what is staged is in force after a commit, whoever dies in between. Never a datapath:
//! it works with every backend that gives pods veths.
//!
//! ```text
//!  items ──> Tables ──> one generation of maps ──> programs at veths
//!               ^               |
//!               |               v pinned
//!  restart, full maps, other sizes: the next generation is filled, then takes the place of the one in force, interface by
//!  interface; connections stay
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `enforcing` | the engine's verbs: staging, commit, resync, and what a predecessor left |
//! | `running` | a generation in the kernel |
//! | `telling` | the engine's part in flows |
//! | `endings`, `ledger` | connections that are over, and how many were lost |
//! | `meter` | what is dropped, and how full the maps are |
//! | `place` | where pins of policy are |
//! | `objects` | what reports and plans name |
//! | `config` | the section of the configuration |
//! | `probe` | what this kernel can do |
//! | `backend` | the way in, for a registry |
//! | `watch` | what asks for a resync |

mod acceptable;
mod backend;
mod config;
mod endings;
mod enforcing;
mod ledger;
mod meter;
mod objects;
mod place;
mod probe;
mod running;
mod telling;
mod watch;

pub use crate::bpffs::BPFFS;
pub use crate::kernel::Hook;
pub use backend::EbpfPolicy;
pub use config::Config;
pub(crate) use endings::{Ending, OwnEpoch};
pub use enforcing::{clear, is_there, observe, observe_at, open, open_at, open_parts, open_parts_at, open_probed};
pub use objects::{Key, Object, Objects};
pub use probe::probe;

use crate::kernel::KernelError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use cni_core::backend::{Error, ErrorKind};
use std::io;

/// Of `include/uapi/asm-generic/errno-base.h`: a hash map has no room, and a trie has none.
const E2BIG: i32 = 7;
const ENOSPC: i32 = 28;
const ENODEV: i32 = 19;

/// What the kernel refused, at the border.
fn refused(error: KernelError) -> Error {
    let number = errno(&error);
    let kind = match number {
        Some(1 | 13) => ErrorKind::Denied,
        Some(E2BIG | ENOSPC) => ErrorKind::Busy,
        Some(ENODEV) => ErrorKind::Missing,
        _ => ErrorKind::Kernel,
    };
    let detail = match &error {
        KernelError::Map { map, verb: "written", .. } if matches!(number, Some(E2BIG | ENOSPC)) => {
            format!("the map {map} is full: give it more room (policy.maps), or use fewer policies")
        }
        error => error.to_string(),
    };
    Error::new(kind, "write", "policy in eBPF", detail).because(error)
}

/// What a system call said.
fn errno(error: &KernelError) -> Option<i32> {
    let io: &io::Error = match error {
        KernelError::Map { source: MapError::SyscallError(error), .. } => &error.io_error,
        KernelError::Program { source: ProgramError::SyscallError(error), .. } => &error.io_error,
        KernelError::Hook { source, .. } | KernelError::Query { source, .. } => return source.errno(),
        KernelError::Hooks { source } => return source.errno().map(|errno| errno as i32),
        _ => return None,
    };
    io.raw_os_error()
}
