//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::{Config, Family, Tunnel};
use cni_core::backend::{Capabilities, Capability};
use cni_core::model::InterfaceName;
use net_linux::link::Vxlan;
use net_linux::netns::NetNs;
use net_linux::probe;
use net_linux::tun::TunOptions;
use std::fmt::Display;

/// Probes in the network namespace of the calling thread and in one of its own.
#[must_use]
pub fn probe(config: &Config) -> Capabilities {
    let devices = || (probe::vxlan(Vxlan::new(1, 8472)).map_err(text), tun());
    let (vxlan, tun) = match NetNs::new().and_then(|namespace| namespace.run(devices)).map_err(text) {
        Ok(results) => results,
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    let survives = match config.mode.tunnel() {
        Tunnel::Udp => Err("mode udp moves packets in the agent's own process"),
        Tunnel::None | Tunnel::Vxlan => Ok(()),
    };
    probe::host_stack()
        .probed(Capability::Tunnel, vxlan)
        .probed(Capability::UserTunnel, tun)
        .probed(Capability::SurvivesAgent, survives)
        .without(
            Capability::ServiceAddresses,
            "this backend speaks to nobody outside of the cluster; use `backend: bgp`",
        )
}

/// What a configuration cannot do without.
#[must_use]
pub fn needed(config: &Config, masquerade: bool) -> Vec<Capability> {
    let mut needed = vec![];
    // The next hop of every tunnelled route is an IPv6 address.
    if config.families.contains(&Family::Ipv6) || config.mode.tunnel() == Tunnel::Vxlan {
        needed.push(Capability::Ipv6);
    }
    match config.mode.tunnel() {
        Tunnel::Vxlan => needed.push(Capability::Tunnel),
        Tunnel::Udp => needed.push(Capability::UserTunnel),
        Tunnel::None => needed.push(Capability::DirectRouting),
    }
    if masquerade {
        needed.push(Capability::Masquerade);
    }
    needed
}

fn tun() -> Result<(), String> {
    let name = InterfaceName::new("probe-tun").map_err(text)?;
    TunOptions::new(name).open().map(|_| ()).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
