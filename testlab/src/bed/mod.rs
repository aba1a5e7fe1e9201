//! The bed of a backend's own tests on the real kernel: nodes of one backend in namespaces, pods, and the laws of the
//! engine. Never knows which backend, and never touches the namespace that it was started in.
//!
//! It needs root and iproute2, and it panics where something goes wrong, for it is part of a test.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod cluster;
mod daemon;
mod laws;
mod node;
mod pod;
mod shell;
mod sockets;
mod underlay;
mod wait;

pub use cluster::Cluster;
pub use daemon::Daemon;
pub use laws::{Own, keeps_every_law};
pub use node::Node;
pub use pod::{Pod, Stream, tcp, udp};
pub use shell::{run, run_json, try_run};
pub use sockets::{Cgroup, Client, answer_a_client, serve_named};
pub use underlay::{Underlays, cable, v4_of, v6_of};
pub use wait::wait_for;
