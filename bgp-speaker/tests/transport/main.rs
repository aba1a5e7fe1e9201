//! The transport on real sockets, in network namespaces of its own. Never on the host's.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod addresses;
mod bfd;
mod discovery;
mod frr;
mod keys;
mod stage;
mod streams;
