//! The laws of [`Ipam`](super::Ipam) and [`LeaseStore`](super::LeaseStore) as tests that every implementation runs.
//! Panics with the law's number; for tests only.
//!
//! ```
//! # #[cfg(feature = "testkit")] {
//! use cni_core::ipam::conformance::{IpamSuite, lease_store};
//! use cni_core::ipam::{LeaseStore, MemoryLeaseStore, PodCidrIpam, pools::DEFAULT_COOL_DOWN};
//!
//! lease_store(MemoryLeaseStore::new(), |store| store);
//! IpamSuite::new(MemoryLeaseStore::new, |disk: &MemoryLeaseStore| {
//!     let (node, prefixes) = ("node-1".parse().unwrap(), ["10.1.2.0/28".parse().unwrap()]);
//!     PodCidrIpam::open(node, &prefixes, vec![], disk.clone(), DEFAULT_COOL_DOWN).unwrap()
//! })
//! .cool_down(DEFAULT_COOL_DOWN)
//! .records(|disk| disk.load().unwrap().endpoints)
//! .run();
//! # }
//! ```

mod ipam;
mod lease_store;

pub use ipam::IpamSuite;
pub use lease_store::lease_store;
