//! The speaker against real peers of Debian, in network namespaces of the test's own. Needs root. Never touches the
//! namespace that it was started in.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod apart;
mod bed;
mod bird;
mod collision;
mod each_other;
mod exabgp;
mod frr;
mod gobgp;
mod hostile;
mod matrix;
mod openbgpd;
mod ours;
mod process;
mod raw;
mod rows;
mod told;
