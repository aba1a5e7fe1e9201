//! Services on IPVS with real agents on two nodes, from manifests to packets. Needs a kernel with IPVS:
//! `cargo xtask vm test 'cnidarian-agent ipvs'`. Never a proxy alone: `backend-ipvs` tests that.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod bed;
mod outside;
mod spread;
