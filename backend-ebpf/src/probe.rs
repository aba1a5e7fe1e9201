//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::{Config, Engine, Family, Mode};
use crate::kernel::{Hook, KernelError, forward, masquerade};
use cni_core::backend::{Capabilities, Capability};
use net_linux::link::Vxlan;
use net_linux::netns::NetNs;
use net_linux::probe;
use std::fmt::Display;

/// Probes in the network namespace of the calling thread and in ones of its own, for programs at hooks of this kind.
#[must_use]
pub fn probe(config: &Config, hook: Hook) -> Capabilities {
    let programs = tried(|| forward::probe(hook), "maxPods, maxPrefixes");
    let device = || probe::vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 8472) }).map_err(text);
    let made = NetNs::new().and_then(|namespace| namespace.run(device)).map_err(text).flatten();
    let fast_path = match (&programs, config.fast_path) {
        (Ok(()), false) => Err("it is off: `fastPath` is not set".to_owned()),
        (known, _) => known.clone(),
    };
    let host_stack = match config.masquerade {
        Engine::Nftables => probe::host_stack(),
        Engine::Ebpf => {
            probe::host_stack().probed(Capability::Masquerade, tried(|| masquerade::probe(hook), "maxMasqueraded"))
        }
    };
    host_stack
        .probed(Capability::Tunnel, programs.and(made))
        .probed(Capability::FastPath, fast_path)
        .with(Capability::SurvivesAgent)
        .without(
            Capability::ServiceAddresses,
            "this backend speaks to nobody outside of the cluster; use `backend: bgp`",
        )
}

/// Loads programs, and tries the hooks; `room` are the keys with the sizes of their maps.
fn tried(probe: impl FnOnce() -> Result<(), KernelError> + Send, room: &str) -> Result<(), String> {
    NetNs::new().and_then(|namespace| namespace.run(probe)).map_err(text)?.map_err(|error| match error {
        KernelError::Hook { source, .. } | KernelError::Query { source, .. } | KernelError::Move { source, .. } => {
            format!("programs need TCX (Linux 6.6) or clsact with its programs (`sch_ingress`, `cls_bpf`): {source}")
        }
        error => error.reason(room),
    })
}

/// What a configuration cannot do without.
#[must_use]
pub fn needed(config: &Config, masquerade: bool) -> Vec<Capability> {
    let mut needed = vec![match config.mode {
        Mode::Vxlan => Capability::Tunnel,
        Mode::Native => Capability::DirectRouting,
    }];
    if config.families.contains(&Family::Ipv6) {
        needed.push(Capability::Ipv6);
    }
    if config.fast_path {
        needed.push(Capability::FastPath);
    }
    if masquerade {
        needed.push(Capability::Masquerade);
    }
    needed
}

fn text(error: impl Display) -> String {
    error.to_string()
}
