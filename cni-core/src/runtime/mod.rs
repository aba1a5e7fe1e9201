//! SDK for embedders: what a container runtime does with CNI. Never an async runtime, never a kernel call other than
//! running plugins and keeping their results.
//!
//! ```no_run
//! use cni_core::cni::CniArgs;
//! use cni_core::model::EndpointId;
//! use cni_core::runtime::{Attachment, ConfDir, Options, ProcessExec, Runtime};
//! use std::sync::Arc;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let network = ConfDir::new("/etc/cni/net.d").first()?;
//! let runtime = Runtime::new(Options::new(["/opt/cni/bin"], "/var/lib/cni"), Arc::new(ProcessExec::default()));
//! let attachment = Attachment::new(EndpointId::of("c0ffee", "eth0")?, "/run/netns/blue");
//! let result = runtime.add(&network, &attachment)?;
//! println!("{}", result.ips[0].address);
//! runtime.del(&network, &attachment)?;
//! # Ok(()) }
//! ```
//!
//! What runs beside what (CNI 1.1.0, section 3, "Lifecycle & Ordering"):
//! ```text
//! ADD, DEL, CHECK of one container      one after the other
//! ADD, DEL, CHECK of several containers side by side
//! GC                                    alone, also against other processes with the same cache directory
//! STATUS, VERSION                       any time
//! ```

mod attachment;
mod cache;
mod conf_dir;
mod error;
mod exec;
mod gate;
mod in_process;
mod process;
mod request;
mod verbs;

pub use attachment::{Attachment, GcReport, Options, Readiness};
pub use cache::{Cache, CacheError, Cached};
pub use conf_dir::{ConfDir, LoadError, Loaded};
pub use error::{PluginFailure, RuntimeError};
pub(crate) use exec::call;
pub use exec::{Exec, ExecError, Invocation, Output};
pub use in_process::InProcessExec;
pub use process::ProcessExec;
pub use verbs::Runtime;
