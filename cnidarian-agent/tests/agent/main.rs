//! The real agent and the real executable on a real kernel, in namespaces of their own. Never the host's network.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod at_sockets;
mod bad_input;
mod crash;
mod ebpf;
mod flows;
mod full_disk;
mod health;
mod hosts;
mod killed;
mod meters;
mod pods;
mod policy;
mod reload;
mod services;
mod uninstall;
mod verbs;
mod world;
