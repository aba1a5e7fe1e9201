//! Addresses for pods: who gets which, durable before anybody is told. Never the kernel, never a clock of its own.
//!
//! | module | what it holds |
//! |---|---|
//! | `allocator` | [`Ipam`], the trait of every source of addresses, with its laws |
//! | `journal` | [`LeaseStore`], what survives a crash |
//! | [`host_local`] | the reference plugin: same configuration, same answers, same files |
//! | `conformance` | the laws as tests that every implementation runs |

mod address;
mod allocator;
#[cfg(any(test, feature = "testkit"))]
pub mod conformance;
mod error;
pub mod host_local;
mod journal;
mod lease;

pub use address::{AddressRange, ParseRangeError};
pub use allocator::{AssignRequest, Family, Ipam, MakeRecord, Usage};
pub use error::IpamError;
pub use journal::{AskedForFailure, LeaseOp, LeaseState, LeaseStore, LeaseStoreError, MemoryLeaseStore};
pub use lease::{Cooling, Lease, UnixMillis};
