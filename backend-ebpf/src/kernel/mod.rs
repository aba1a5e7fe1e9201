//! The programs and maps in the kernel. Never decides what is in them.

pub(crate) mod at_hook;
mod attach;
pub(crate) mod batch;
mod call;
mod error;
mod flows;
pub mod forward;
mod forward_maps;
mod maps;
pub mod masquerade;
mod masquerade_maps;
mod object;
pub(crate) mod raw;
mod read;
mod refusal;
mod sweep;
mod tcx;
mod trial;
mod usage;
pub(crate) mod verifier;

pub use at_hook::{Attached, Program};
pub use attach::Hook;
pub use error::{AttachError, KernelError};
pub use flows::{FLOW_MAPS, FlowReader, Told};
pub use forward_maps::ForwardMaps;
pub(crate) use forward_maps::{address_of, bytes};
pub use masquerade_maps::{HANDED_OVER_SECONDS, MasqueradeMaps, Prior, Which};
pub use object::{Judgement, KEPT_MAPS, OBJECT, Object, Pins, Sizes, Way};
pub use read::{POLICY_MAPS, PolicyMaps};
pub use sweep::{Over, Sweep};
pub use tcx::{Position, Side};
pub(crate) use tcx::{at_cgroup, holds};
pub(crate) use usage::count;
pub use usage::{Used, UsedMaps};
