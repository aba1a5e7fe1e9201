//! Services on IPVS: Kube-router's place. Never a Service object, a policy or a route to a pod.
//!
//! ```no_run
//! use backend_ipvs::config::Config;
//! # async fn example() -> cni_core::backend::Result<()> {
//! let mut engine = backend_ipvs::open(&Config::default())?;
//! engine.stage(cni_core::backend::Change::InSync)?;
//! assert!(engine.commit().await.failed.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration |
//! | [`mod@compile`] | frontends to kernel objects, pure |
//! | [`rules`] | chains, rules and sets in nftables, pure |
//! | [`drain`] | when a destination that was taken away goes, pure |
//! | [`former`] | what settings were before, pure |
//! | [`object`] | the kernel objects: keys, contents, order |
//! | [`driver`] | the objects in the kernel |
//! | [`probe`](mod@probe) | what this kernel can do |

#![forbid(unsafe_code)]

mod backend;
pub mod compile;
pub mod config;
mod counters;
pub mod drain;
pub mod driver;
mod engine;
pub mod former;
mod leftovers;
pub mod object;
pub mod probe;
pub mod rules;
mod watch;

pub use backend::IpvsServices;
pub use engine::{open, open_watched};
