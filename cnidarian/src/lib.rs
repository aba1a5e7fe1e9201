//! A pluggable multi-backend CNI as a library: one feature per backend, and a node to embed.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what a node is opened with, read from a document and checked |
//! | `node` | [`Node`], a whole node in process |
//! | `registry` | [`built_in`], the backends of this build |
//! | `uninstall` | [`uninstall()`], the end of a node's pod network |
//!
//! Backends and policy engines are additive features, all on by default: `vxlan`, `bgp`, `ebpf`, `policy-nftables`,
//! `policy-ebpf`.

#![forbid(unsafe_code)]

pub mod config;
mod node;
mod registry;
mod uninstall;

pub use cni_core::rpc::Attachment;
pub use net_linux::netns::NetNs;
/// What the allocator keeps; a program that runs a node of a large cluster calls `keep_little` first of all.
pub use net_linux::{heap, pipe};
pub use node::{
    AttachRequest, CheckRequest, EndpointStatus, Event, HostStatus, IpamFindings, Node, NodeError, NodeStatus,
    Observer, PartDropped, PartTable, PoolStatus, Problem, ServiceBackendStatus, ServiceStatus, Silent,
};
pub use registry::built_in;
pub use uninstall::{Uninstall, UninstallError, Uninstalled, uninstall};
