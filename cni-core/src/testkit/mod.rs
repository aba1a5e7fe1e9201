//! Conformance suites and fakes: what an implementation of a contract is tested with. Never part of a running system.

pub mod dice;
pub mod engine;
pub mod policy;
pub mod store;
