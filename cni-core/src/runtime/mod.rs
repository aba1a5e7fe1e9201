//! SDK for embedders: what a container runtime does with CNI. Never an async runtime, never a kernel call other than
//! running plugins and keeping their results.

mod exec;
mod process;

pub(crate) use exec::call;
pub use exec::{Exec, ExecError, Invocation, Output};
pub use process::ProcessExec;
