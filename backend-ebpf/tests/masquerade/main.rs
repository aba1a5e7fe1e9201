//! Masquerading in the real kernel: packet by packet (`BPF_PROG_TEST_RUN`) against a plain model, and between namespaces of the
//! test's own. Needs root and iproute2. Never touches an interface of the machine.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

#[path = "../hooks/each.rs"]
mod each;
#[path = "../hooks/datapath.rs"]
mod hooks;

mod cut_short;
mod errors;
mod frame;
mod model;
mod nodes;
mod packets;
mod put_back;
mod replaced;
mod rig;
