//! The programs in the real kernel, packet by packet (`BPF_PROG_TEST_RUN`), which go nowhere. Needs root. Never attaches a
//! program to an interface.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod bed;
mod connections;
mod cost;
mod frames;
mod malformed;
mod oracle;
mod pod;
