//! Where a learned route leads in this node's kernel: plainly, or into the tunnel. Pure.

use crate::table::Wanted;
use bgp_speaker::speaker::Hop;
use cni_core::model::Encapsulation;
use ipnet::IpNet;
use net_linux::fib::{Fib, Target, Tracker};
use net_linux::route::{TunnelKey, Way};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The address that the kernel knows a next hop by: IPv4 inside IPv6 is how a node without an IPv6 address announces IPv6.
pub(super) fn underlay_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// What is known for the decision.
pub(super) struct Carrier<'a> {
    /// The table.
    pub(super) wanted: &'a Wanted,
    /// The kernel's ways to next hops.
    pub(super) tracker: &'a Tracker,
    /// Indices of devices, by name.
    pub(super) links: &'a HashMap<Arc<str>, u32>,
}

impl Carrier<'_> {
    /// Sets a route as it has to be now. One whose next hops were not looked at yet stays as it is until they are.
    pub(super) fn set(&self, fib: &mut Fib, prefix: IpNet, hops: &[Hop]) {
        let address = |hop: &Hop| underlay_address(hop.address);
        let is_open = |hop: &&Hop| hop.interface.is_none() && self.tracker.resolution(&address(hop).into()).is_none();
        if hops.iter().any(|hop| is_open(&hop)) {
            return;
        }
        match self.target(prefix, hops) {
            Some(target) => fib.set(prefix, &target),
            None => fib.remove(prefix),
        }
    }

    /// The target; `None` where the route must not be, or cannot be written.
    fn target(&self, prefix: IpNet, hops: &[Hop]) -> Option<Target> {
        let ground = self.wanted.ground.as_ref()?;
        if ground.segments.iter().any(|segment| segment.contains(&prefix)) {
            // Part of the underlay: it would lead sessions and tunnels astray.
            return None;
        }
        let how = self.wanted.carriage_of(prefix);
        let ways: Vec<(Way, u8)> = hops.iter().flat_map(|hop| self.ways(prefix, hop, how)).collect();
        (!ways.is_empty()).then_some(Target::Ways(ways))
    }

    fn ways(&self, prefix: IpNet, hop: &Hop, how: Encapsulation) -> Vec<(Way, u8)> {
        if let Some(interface) = &hop.interface {
            return self.links.get(interface).map(|index| (Way::via(hop.address, *index), 1)).into_iter().collect();
        }
        let address = underlay_address(hop.address);
        if self.is_wrapped(prefix, address, how)
            && let Some(way) = self.tunnelled(hop.address)
        {
            return vec![(way, 1)];
        }
        let plain = self.tracker.resolution(&address.into()).map(|found| found.ways.clone()).unwrap_or_default();
        // The kernel has no IPv4 gateways for IPv6 routes.
        plain
            .into_iter()
            .filter(|(way, _)| prefix.addr().is_ipv4() || way.via.is_none_or(|via| via.is_ipv6()))
            .collect()
    }

    fn is_wrapped(&self, prefix: IpNet, address: IpAddr, how: Encapsulation) -> bool {
        let segments = self.wanted.ground.iter().flat_map(|ground| &ground.segments);
        let is_near = segments.into_iter().any(|segment| segment.contains(&address));
        let plain_works = prefix.addr().is_ipv4() || address.is_ipv6();
        match how {
            Encapsulation::Always => true,
            Encapsulation::CrossSubnet => !is_near || !plain_works,
            Encapsulation::Never => false,
        }
    }

    /// The way into the tunnel, to a node of the cluster.
    fn tunnelled(&self, next_hop: IpAddr) -> Option<Way> {
        let tunnel = self.wanted.ground.as_ref()?.tunnel.as_ref()?;
        let far = self.wanted.nodes.get(&next_hop)?;
        let index = self.links.get(tunnel.device.as_str())?;
        let key = TunnelKey { id: tunnel.vni.into(), destination: far.outer, source: Some(tunnel.own) };
        Some(Way::tunnelled(far.neighbour.into(), *index, key))
    }
}
