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
use cni_core::backend::Error;

/// The key with sizes of maps.
const ROOM: &str = "policy.maps";

/// What the kernel refused, at the border.
fn refused(error: KernelError) -> Error {
    let full =
        error.full_map().map(|map| format!("the map {map} is full: give it more room ({ROOM}), or use fewer policies"));
    let told = error.told("write", "policy in eBPF", ROOM);
    Error { detail: full.unwrap_or_else(|| told.detail.clone()), ..told }
}
