//! The laws of [`LeaseStore`](super::LeaseStore) as tests that every implementation runs. Panics with the law's number; for tests only.

mod lease_store;

pub use lease_store::lease_store;
