//! What a kernel can do for every backend that uses the host's stack. Never guesses from a version, and leaves nothing
//! behind in the node's own namespace.

use crate::link::{Ipip, NewLink, NewLinkKind, Vxlan};
use crate::netlink::{self, Socket};
use crate::nexthop::NextHop;
use crate::nft::Nft;
use crate::{masquerade, tunnel_ends, untracked};
use cni_core::backend::{Capabilities, Capability, Support};
use std::path::Path;

/// What such backends share. Probes in the network namespace of the calling thread.
#[must_use]
pub fn host_stack() -> Capabilities {
    let v6 = Path::new("/proc/sys/net/ipv6").exists();
    let next_hops = Socket::route().and_then(|mut socket| NextHop::dump(&mut socket, None));
    Capabilities::default()
        .with(Capability::Ipv4)
        .with(Capability::DirectRouting)
        .probed(Capability::Ipv6, v6.then_some(()).ok_or("the kernel was started without IPv6"))
        .probed(Capability::NextHopObjects, next_hops.map(|_| ()))
        .probed(Capability::Masquerade, in_nftables(masquerade::probe))
        .probed(Capability::UntrackedTunnel, in_nftables(untracked::probe))
        .probed(Capability::GuardedTunnel, in_nftables(tunnel_ends::probe))
}

/// Makes a VXLAN device in the network namespace of the calling thread, which has to be one that goes away with it.
///
/// # Errors
/// This kernel does not make it.
pub fn vxlan(device: Vxlan) -> netlink::Result<()> {
    let device = NewLink::new("probe-vxlan", NewLinkKind::Vxlan(device));
    Socket::route().and_then(|mut socket| device.create(&mut socket)).map(|_| ())
}

/// Makes an IPIP device whose packets' routes say their tunnel, in the network namespace of the calling thread, which has to
/// be one that goes away with it.
///
/// # Errors
/// This kernel does not make it.
pub fn ipip() -> netlink::Result<()> {
    let device = NewLink::new("probe-ipip", NewLinkKind::Ipip(Ipip { collect_metadata: true, local: None }));
    Socket::route().and_then(|mut socket| device.create(&mut socket)).map(|_| ())
}

fn in_nftables(probe: fn(&mut Nft) -> Support) -> Result<(), String> {
    match probe(&mut Nft::open().map_err(|error| error.to_string())?) {
        Support::Yes => Ok(()),
        Support::No { reason } => Err(reason),
    }
}
