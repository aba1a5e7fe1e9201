//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::Config;
use bgp_speaker::types::Family;
use cni_core::backend::{Capabilities, Capability, Support};
use net_linux::link::{NewLink, NewLinkKind, Vxlan};
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use net_linux::nexthop::NextHop;
use net_linux::nft::Nft;
use net_linux::{masquerade, tunnel_ends, untracked};
use std::fmt::Display;
use std::path::Path;

/// Probes in the network namespace of the calling thread and in one of its own.
#[must_use]
pub fn probe() -> Capabilities {
    let mut found = Capabilities::default().with(Capability::Ipv4).with(Capability::DirectRouting);
    // Learned routes stay in the kernel, and peers keep ours (RFC 4724).
    found = found.with(Capability::SurvivesAgent);
    let mut note = |capability, result: Result<(), String>| {
        let known = std::mem::take(&mut found);
        found = match result {
            Ok(()) => known.with(capability),
            Err(reason) => known.without(capability, reason),
        };
    };
    let v6 = Path::new("/proc/sys/net/ipv6").exists();
    note(Capability::Ipv6, if v6 { Ok(()) } else { Err("the kernel was started without IPv6".to_owned()) });
    let next_hops = Socket::route().and_then(|mut socket| NextHop::dump(&mut socket, None));
    note(Capability::NextHopObjects, next_hops.map(|_| ()).map_err(text));
    let apart = NetNs::new().and_then(|namespace| namespace.run(vxlan)).map_err(text);
    note(Capability::Tunnel, apart.and_then(|result| result));
    note(Capability::Masquerade, in_nftables(masquerade::probe));
    note(Capability::UntrackedTunnel, in_nftables(untracked::probe));
    note(Capability::GuardedTunnel, in_nftables(tunnel_ends::probe));
    found
}

/// What a configuration cannot do without.
#[must_use]
pub fn needed(config: &Config, masquerade: bool) -> Vec<Capability> {
    let mut needed = vec![Capability::DirectRouting];
    // The neighbours behind tunnelled routes have IPv6 addresses.
    if config.families.contains(&Family::Ipv6) || config.tunnel.is_some() {
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

fn in_nftables(probe: fn(&mut Nft) -> Support) -> Result<(), String> {
    match probe(&mut Nft::open().map_err(text)?) {
        Support::Yes => Ok(()),
        Support::No { reason } => Err(reason),
    }
}

fn vxlan() -> Result<(), String> {
    let kind = NewLinkKind::Vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 4789) });
    let device = NewLink::new("probe-vxlan", kind);
    Socket::route().and_then(|mut socket| device.create(&mut socket)).map(|_| ()).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
