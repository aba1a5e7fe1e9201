//! The programs and maps in the kernel. Never decides what is in them.

mod error;
mod maps;
mod object;
mod raw;

pub use error::KernelError;
pub use object::{Judgement, OBJECT, Object, Sizes, Way};
