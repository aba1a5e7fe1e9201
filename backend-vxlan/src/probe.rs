//! What this kernel can do for the backend. Never guesses from a version, and never touches the node's own namespace: what
//! has to be made to know is made in a namespace of the probe's own.

use crate::config::{Config, Family, Tunnel};
use cni_core::backend::{Capabilities, Capability, Support};
use cni_core::model::InterfaceName;
use net_linux::link::{NewLink, NewLinkKind, Vxlan};
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use net_linux::nexthop::NextHop;
use net_linux::nft::Nft;
use net_linux::tun::TunOptions;
use net_linux::{masquerade, tunnel_ends, untracked};
use std::fmt::Display;
use std::path::Path;

/// Probes in the network namespace of the calling thread and in one of its own.
#[must_use]
pub fn probe(config: &Config) -> Capabilities {
    let mut found = Capabilities::default().with(Capability::Ipv4).with(Capability::DirectRouting);
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
    let apart = NetNs::new().and_then(|namespace| namespace.run(|| (vxlan(), tun()))).map_err(text);
    let (vxlan, tun) = match apart {
        Ok(results) => results,
        Err(reason) => (Err(reason.clone()), Err(reason)),
    };
    note(Capability::Tunnel, vxlan);
    note(Capability::UserTunnel, tun);
    note(Capability::Masquerade, in_nftables(masquerade::probe));
    note(Capability::UntrackedTunnel, in_nftables(untracked::probe));
    note(Capability::GuardedTunnel, in_nftables(tunnel_ends::probe));
    let survives = match config.mode.tunnel() {
        Tunnel::Udp => Err("mode udp moves packets in the agent's own process".to_owned()),
        Tunnel::None | Tunnel::Vxlan => Ok(()),
    };
    note(Capability::SurvivesAgent, survives);
    found
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

fn in_nftables(probe: fn(&mut Nft) -> Support) -> Result<(), String> {
    match probe(&mut Nft::open().map_err(text)?) {
        Support::Yes => Ok(()),
        Support::No { reason } => Err(reason),
    }
}

fn vxlan() -> Result<(), String> {
    let device = NewLink::new("probe-vxlan", NewLinkKind::Vxlan(Vxlan::new(1, 8472)));
    Socket::route().and_then(|mut socket| device.create(&mut socket)).map(|_| ()).map_err(text)
}

fn tun() -> Result<(), String> {
    let name = InterfaceName::new("probe-tun").map_err(text)?;
    TunOptions::new(name).open().map(|_| ()).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
