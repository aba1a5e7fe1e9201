//! What this kernel can do for services at sockets. Never leaves anything behind.

use super::config::Config;
use super::hooks::error_of;
use super::{outside, pins};
use crate::bpffs;
use crate::kernel::KernelError;
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Result};
use net_linux::netns::NetNs;
use std::path::PathBuf;

/// Why nobody outside is served, where the operator wants it so.
const OFF: &str = "it is off: `outsideClients` is false";

/// Of a node that has what is needed.
pub(super) fn capabilities(config: &Config) -> Capabilities {
    let outside = if config.outside_clients { outside::refusal() } else { Some(OFF.to_owned()) };
    Capabilities::default()
        .with(Capability::Ipv4)
        .with(Capability::Ipv6)
        .with(Capability::Services)
        .with(Capability::SurvivesAgent)
        .probed(Capability::OutsideClients, outside.map_or(Ok(()), Err))
}

/// Looks for what is needed beside the programs themselves, and answers where they belong and in which network namespace we are.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with what is missing.
pub(super) fn needs(config: &Config) -> Result<(PathBuf, NetNs)> {
    let missing = |reason| Error::new(ErrorKind::Unsupported, "open", "services in eBPF", reason);
    let cgroup = pins::cgroup(config.cgroup.as_deref())?;
    if let Some(reason) = bpffs::refusal(&config.bpffs) {
        return Err(missing(reason));
    }
    let own = NetNs::current().and_then(|netns| netns.cookie().map(|_| netns));
    Ok((cgroup, own.map_err(|error| missing(error.to_string()))?))
}

/// Why the programs cannot be loaded.
pub(super) fn unloadable(error: KernelError) -> Error {
    let is_refused = error.is_verifiers();
    let told = error_of("open", "services in eBPF", error);
    if told.kind != ErrorKind::Kernel && !is_refused {
        return told;
    }
    let detail =
        format!("this kernel does not take the programs, which are made for Linux 6.1 and later: {}", told.detail);
    Error { kind: ErrorKind::Unsupported, detail, ..told }
}
