//! Policy on nftables, for every backend whose packets pass the host's stack. Never reads a label or a dialect: it gets
//! programs and sets ([`cni_core::policy::program`]).
//!
//! ```no_run
//! use policy_nftables::config::Config;
//! # async fn example() -> cni_core::backend::Result<()> {
//! let mut engine = policy_nftables::open(&Config::default())?;
//! engine.stage(cni_core::backend::Change::InSync)?;
//! assert!(engine.commit().await.failed.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration |
//! | [`names`] | how chains, sets and rules are named |
//! | [`compile`] | items to kernel objects, pure |
//! | [`object`] | the kernel objects: keys, contents, order |
//! | [`driver`] | the objects in the kernel |
//! | [`verdict`] | what the kernel would say to the first packet of a connection |
//! | [`connections`] | open connections after a change |
//! | [`probe`](mod@probe) | what this kernel can do |

#![forbid(unsafe_code)]

mod backend;
pub mod compile;
pub mod config;
pub mod connections;
mod counters;
pub mod driver;
mod engine;
mod flows;
pub mod names;
pub mod object;
pub mod probe;
pub mod verdict;
mod watch;

pub use backend::Nftables;
pub use engine::{clear, is_there, open, open_watched};
