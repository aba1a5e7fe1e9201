//! The datapath on the real kernel, in network namespaces of the test's own. Needs root and iproute2. Never touches the
//! namespace that it was started in.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

#[path = "../hooks/each.rs"]
mod each;
#[path = "../hooks/datapath.rs"]
mod hooks;

mod conformance;
mod dropped;
mod fast;
mod mtu;
mod versions;
mod ways;
