//! SDK for plugin authors: one trait, and [`main`] that makes a program of it. Never calls a verb before the whole
//! request was checked.
//!
//! ```
//! use cni_core::cni::{AddResult, CniError, ErrorCode, SpecVersion};
//! use cni_core::plugin::{About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Plugin, StatusRequest};
//!
//! struct Passthrough;
//!
//! impl Plugin for Passthrough {
//!     fn about(&self) -> About {
//!         About { name: "passthrough", version: "1.0.0", spec: SpecVersion::ALL, netns: Netns::NotUsed }
//!     }
//!     fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
//!         Ok(request.conf.prev_result.clone().unwrap_or_default())
//!     }
//!     fn del(&self, _: &DelRequest) -> Result<(), CniError> {
//!         Ok(()) // made nothing, so nothing is left
//!     }
//!     fn check(&self, _: &CheckRequest) -> Result<(), CniError> {
//!         Ok(())
//!     }
//!     fn status(&self, _: &StatusRequest) -> Result<(), CniError> {
//!         Ok(())
//!     }
//!     fn gc(&self, _: &GcRequest) -> Result<(), CniError> {
//!         Ok(())
//!     }
//! }
//! // fn main() -> std::process::ExitCode { cni_core::plugin::main(&Passthrough) }
//! ```
//!
//! The order of a call, and where it can end:
//! ```text
//! environment -> stdin -> configuration -> version of the verb -> network namespace -> verb -> result in the version
//!      4           5         6, 7, 1              1                       4            own            asked for
//! ```

mod contract;
mod delegate;
mod netns;
mod request;
mod run;

pub use contract::{About, Netns, Plugin};
pub use delegate::Delegate;
pub use request::{AddRequest, CheckRequest, DelRequest, GcRequest, Origin, StatusRequest};
pub use run::{Io, main, run};
