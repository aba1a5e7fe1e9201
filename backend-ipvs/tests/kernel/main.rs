//! The engine on the real kernel, in network namespaces of the test's own. Needs root, iproute2 and nft, and a kernel with IPVS:
//! `cargo xtask vm test 'backend-ipvs kernel'`. Never touches the namespace that it was started in.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod bed;
mod conformance;
mod counters;
mod direct;
mod drain;
mod items;
mod missing;
mod packets;
mod policy;
mod registry;
mod watch;
