//! The engine on the real kernel, in network namespaces of the test's own. Needs root, iproute2, nftables. Never touches the
//! namespace that it was started in.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod bed;
mod conformance;
mod connections;
mod counters;
mod errors;
mod host;
mod items;
mod joined;
mod log;
mod node;
mod packets;
mod random;
