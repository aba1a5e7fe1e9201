//! Everything that reads bytes of others, as functions of bytes: for libFuzzer, and for a bounded test in CI. Never does I/O.
//!
//! A target panics where a law does not hold: reading never panics, and what was read and written again is read as the same.

#![forbid(unsafe_code)]

mod mutate;
mod targets;

pub use mutate::Mutator;

/// One thing to fuzz.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also that of its binary in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Reads any bytes.
    pub run: fn(&[u8]),
    /// Good inputs to begin with.
    pub seeds: &'static [&'static [u8]],
}

/// All targets.
pub const TARGETS: &[Target] = &[
    targets::cni::CONFIGURATION,
    targets::cni::RESULT,
    targets::cni::ENVIRONMENT,
    targets::own::AGENT_CONFIGURATION,
    targets::own::SCENARIO,
    targets::own::MANIFEST,
    targets::own::RPC,
    targets::policy::OBJECT,
    targets::wire::ROUTE_NETLINK,
    targets::wire::NFTABLES,
    targets::wire::UDP_PACKET,
    targets::bgp::STREAM,
    targets::bgp::SESSION,
];

/// Runs a target once.
///
/// # Panics
/// When a law does not hold, or when there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the binary's name is that of a target");
    (target.run)(bytes);
}
