//! The programs in the real kernel: packet by packet (`BPF_PROG_TEST_RUN`), which go nowhere, and attached between namespaces of the
//! test's own. Needs root and iproute2. Never touches an interface of the machine.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

#[path = "../hooks/each.rs"]
mod each;

mod attached;
mod bed;
mod conformance;
mod connections;
mod cost;
mod ended;
mod engine;
mod flows;
mod frames;
mod full;
mod host;
mod hostile;
mod items;
mod malformed;
mod meter;
mod oracle;
mod outside;
mod place;
mod pod;
mod policy_batches;
mod pretence;
mod refused;
mod related;
mod service_batches;
mod service_drift;
mod service_laws;
mod services;
mod settle;
mod sockets;
mod source_ranges;
mod stack;
