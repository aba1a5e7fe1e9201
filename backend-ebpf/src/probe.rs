//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::{Config, Engine, Family, Mode};
use crate::kernel::{forward, masquerade};
use cni_core::backend::{Capabilities, Capability};
use net_linux::link::Vxlan;
use net_linux::netns::NetNs;
use net_linux::probe;
use std::fmt::Display;

/// Probes in the network namespace of the calling thread and in one of its own.
#[must_use]
pub fn probe(config: &Config) -> Capabilities {
    let programs = programs();
    let device = || probe::vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 8472) }).map_err(text);
    let made = NetNs::new().and_then(|namespace| namespace.run(device)).map_err(text).flatten();
    let fast_path = match (&programs, config.fast_path) {
        (Ok(()), false) => Err("it is off: `fastPath` is not set".to_owned()),
        (known, _) => known.clone(),
    };
    let host_stack = match config.masquerade {
        Engine::Nftables => probe::host_stack(),
        Engine::Ebpf => probe::host_stack().probed(Capability::Masquerade, masquerading()),
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

/// Loads the programs, and asks for their hooks.
fn programs() -> Result<(), String> {
    forward::probe().map_err(|error| format!("this kernel has no TCX hooks (Linux 6.6): {error}"))?;
    forward::tags().map(drop).map_err(|error| error.reason("maxPods, maxPrefixes"))
}

/// The same of masquerading's.
fn masquerading() -> Result<(), String> {
    forward::probe().map_err(|error| format!("this kernel has no TCX hooks (Linux 6.6): {error}"))?;
    masquerade::tags().map(drop).map_err(|error| error.reason("maxMasqueraded"))
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
