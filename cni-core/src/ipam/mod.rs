//! Addresses for pods: who gets which, durable before anybody is told. Never the kernel, never a clock of its own.
//!
//! | module | what it holds |
//! |---|---|
//! | `allocator` | [`Ipam`], the trait of every source of addresses, with its laws |
//! | `journal` | [`LeaseStore`], what survives a crash |
//! | [`host_local`] | the reference plugin: same configuration, same answers, same files |
//! | [`pools`] | cluster pools, cut into blocks that nodes claim |
//! | `pod_cidr` | [`PodCidrIpam`]: the node's own `spec.podCIDRs` |
//! | `plugin` | [`IpamPlugin`]: any allocator as an IPAM plugin |
//! | `leak` | [`LeakDetector`]: leases whose containers are gone |
//! | `conformance` | the laws as tests that every implementation runs |

mod address;
mod allocator;
mod book;
#[cfg(any(test, feature = "testkit"))]
pub mod conformance;
mod error;
pub mod host_local;
mod journal;
mod leak;
mod lease;
mod plugin;
mod pod_cidr;
pub mod pools;
mod segment;
mod wait;

pub use address::{AddressRange, ParseRangeError};
pub use allocator::{AssignRequest, Family, Ipam, MakeRecord, Usage};
pub use error::IpamError;
pub use journal::{AskedForFailure, LeaseOp, LeaseState, LeaseStore, LeaseStoreError, MemoryLeaseStore};
pub use leak::{Leak, LeakDetector};
pub use lease::{Cooling, Lease, UnixMillis};
pub use plugin::IpamPlugin;
pub use pod_cidr::{POD_CIDR_POOL, PodCidrIpam};
pub use wait::wait;
