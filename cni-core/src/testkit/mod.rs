//! Conformance suites and fakes: what an implementation of a contract is tested with. Never part of a running system.

pub mod engine;
pub mod store;
