//! The programs and maps in the kernel. Never decides what is in them.

mod attach;
pub(crate) mod batch;
mod call;
mod error;
mod flows;
pub mod forward;
mod forward_maps;
mod hooks;
mod loaded;
mod maps;
pub mod masquerade;
mod masquerade_maps;
mod object;
mod program;
pub(crate) mod raw;
mod read;
mod refusal;
mod sweep;
mod tcx;
mod trial;
mod usage;
pub(crate) mod verifier;

pub use error::{AttachError, HookError, KernelError};
pub use flows::{FLOW_MAPS, FlowReader, Told};
pub use forward_maps::ForwardMaps;
pub(crate) use forward_maps::{address_of, bytes};
pub use hooks::{Attached, Hook, Hooks, Place, Program, Side};
pub use masquerade_maps::{HANDED_OVER_SECONDS, MasqueradeMaps, Prior, Which};
pub use object::{Judgement, KEPT_MAPS, OBJECT, Object, Pins, Sizes, Way};
pub use program::Known;
pub use read::{POLICY_MAPS, PolicyMaps};
pub use sweep::{Over, Sweep};
pub(crate) use tcx::at_cgroup;
pub(crate) use usage::count;
pub use usage::{Used, UsedMaps};
