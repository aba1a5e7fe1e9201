//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::{Config, Tunnel, TunnelKind};
use bgp_speaker::types::Family;
use cni_core::backend::{Capabilities, Capability};
use net_linux::link::Vxlan;
use net_linux::netns::NetNs;
use net_linux::probe;

/// Probes in the network namespace of the calling thread and in one of its own; of tunnels this kind, else VXLAN.
#[must_use]
pub fn probe(tunnel: Option<&TunnelKind>) -> Capabilities {
    let device = || match tunnel {
        Some(TunnelKind::Ipip) => probe::ipip().map_err(|error| {
            let rest = "load the kernel's module ipip, or write `tunnel: vxlan`";
            format!("this kernel makes no ipip device that asks routes ({error}); {rest}")
        }),
        _ => probe::vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 4789) }).map_err(|error| error.to_string()),
    };
    let made = NetNs::new().and_then(|namespace| namespace.run(device)).map_err(|error| error.to_string()).flatten();
    // Learned routes stay in the kernel, and peers keep ours (RFC 4724).
    let stack = probe::host_stack().probed(Capability::Tunnel, made);
    stack.with(Capability::SurvivesAgent).with(Capability::ServiceAddresses)
}

/// What a configuration cannot do without.
#[must_use]
pub fn needed(config: &Config, masquerade: bool) -> Vec<Capability> {
    let mut needed = vec![Capability::DirectRouting];
    // The neighbours behind routes through VXLAN have IPv6 addresses.
    let is_vxlan = |tunnel: &Tunnel| matches!(tunnel.kind, TunnelKind::Vxlan { .. });
    if config.families.contains(&Family::Ipv6) || config.tunnel.as_ref().is_some_and(is_vxlan) {
        needed.push(Capability::Ipv6);
    }
    if config.tunnel.is_some() {
        needed.push(Capability::Tunnel);
    }
    if masquerade {
        needed.push(Capability::Masquerade);
    }
    needed
}
