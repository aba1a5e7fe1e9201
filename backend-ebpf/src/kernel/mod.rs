//! The programs and maps in the kernel. Never decides what is in them.

mod attach;
mod error;
mod maps;
mod object;
pub(crate) mod raw;

pub use attach::Hook;
pub use error::{AttachError, KernelError};
pub use object::{Judgement, OBJECT, Object, Sizes, Way};
