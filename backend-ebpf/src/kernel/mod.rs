//! The programs and maps in the kernel. Never decides what is in them.

mod attach;
mod error;
mod maps;
mod object;
mod raw;
mod read;

pub use attach::Hook;
pub use error::{AttachError, KernelError};
pub use object::{Judgement, KEPT_MAPS, OBJECT, Object, Sizes, Way};
pub use read::{POLICY_MAPS, PolicyMaps};
