//! Where a learned route leads in this node's kernel: plainly, or into the tunnel. Pure.

use crate::table::Wanted;
use bgp_speaker::speaker::Hop;
use cni_core::model::Encapsulation;
use ipnet::IpNet;
use net_linux::fib::{Fib, Target, Tracker};
use net_linux::route::{RouteKind, TunnelKey, Way};
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

    /// The target; `None` where the route cannot be written.
    fn target(&self, prefix: IpNet, hops: &[Hop]) -> Option<Target> {
        let how = self.wanted.carriage_of(prefix);
        let ways: Vec<(Way, u8)> = hops.iter().flat_map(|hop| self.ways(prefix, hop, how)).collect();
        if ways.is_empty() && hops.iter().any(|hop| self.wants_tunnel(prefix, hop, how)) {
            // Without the tunnel the packet would follow the default route, bare.
            return Some(Target::Refuse(RouteKind::Unreachable));
        }
        (!ways.is_empty()).then_some(Target::Ways(ways))
    }

    fn ways(&self, prefix: IpNet, hop: &Hop, how: Encapsulation) -> Vec<(Way, u8)> {
        if let Some(interface) = &hop.interface {
            return self.links.get(interface).map(|index| (Way::via(hop.address, *index), 1)).into_iter().collect();
        }
        if self.wants_tunnel(prefix, hop, how) {
            return self.tunnelled(hop.address).map(|way| (way, 1)).into_iter().collect();
        }
        let address = underlay_address(hop.address);
        let plain = self.tracker.resolution(&address.into()).map(|found| found.ways.clone()).unwrap_or_default();
        // The kernel has no IPv4 gateways for IPv6 routes.
        plain
            .into_iter()
            .filter(|(way, _)| prefix.addr().is_ipv4() || way.via.is_none_or(|via| via.is_ipv6()))
            .collect()
    }

    /// Whether packets go to a node of the cluster, and not plainly.
    fn wants_tunnel(&self, prefix: IpNet, hop: &Hop, how: Encapsulation) -> bool {
        let is_node = hop.interface.is_none() && self.wanted.nodes.contains_key(&hop.address);
        is_node && self.is_wrapped(prefix, underlay_address(hop.address), how)
    }

    fn is_wrapped(&self, prefix: IpNet, address: IpAddr, how: Encapsulation) -> bool {
        let segments = self.wanted.ground.iter().flat_map(|ground| &ground.segments);
        let is_near = segments.into_iter().any(|segment| segment.contains(&address));
        let plain_works = prefix.addr().is_ipv4() || address.is_ipv6();
        let tunnel = self.wanted.ground.as_ref().and_then(|ground| ground.tunnel.as_ref());
        match how {
            // Its tunnel is not for it: Calico's IPIP leaves IPv6 plain, too.
            _ if tunnel.is_some_and(|tunnel| !tunnel.carries(&prefix)) => false,
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
        let id = tunnel.vni.unwrap_or_default().into();
        let key = TunnelKey { id, destination: far.outer, source: Some(tunnel.own) };
        Some(match tunnel.vni {
            Some(_) => Way::tunnelled(far.neighbour.into(), *index, key),
            None => Way::wrapped(*index, key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Compiler;
    use crate::config::Config;
    use crate::table::Table;
    use cni_core::backend::Capabilities;
    use cni_core::model::{InterfaceName, NodeContext, NodeName, Peer, Underlay};
    use serde_json::json;

    /// What node-1 at 192.0.2.1/24 knows of node-2 near by and node-3 behind a router.
    fn wanted(section: serde_json::Value) -> Wanted {
        let node = NodeContext {
            labels: Default::default(),
            name: NodeName::new("node-1").unwrap(),
            underlay: Underlay {
                interface: InterfaceName::new("eth0").unwrap(),
                index: 2,
                mtu_bytes: 1500,
                v4: Some("192.0.2.1/24".parse().unwrap()),
                v6: None,
            },
            masquerade: None,
        };
        let config = Config::from_json(&section).unwrap();
        let compiler = Compiler::new(&config, &node, &Capabilities::default()).unwrap();
        let peer = |name: &str, v4: &str| Peer {
            node: NodeName::new(name).unwrap(),
            v4: Some(v4.parse().unwrap()),
            v6: None,
            prefixes: Vec::new(),
            labels: Default::default(),
            attributes: Default::default(),
        };
        let peers = [peer("node-2", "192.0.2.2"), peer("node-3", "198.51.100.3")];
        let table = Table::default();
        let objects = peers.iter().flat_map(|peer| compiler.peer(peer).unwrap());
        for (key, object) in compiler.base().into_iter().chain(objects) {
            let _ = table.put(&key, &object);
        }
        table.wanted()
    }

    fn target(section: serde_json::Value, devices: &[&str], prefix: &str, hop: &str) -> Option<Target> {
        let links = devices.iter().zip(7..).map(|(name, index)| (Arc::from(*name), index)).collect();
        let hops = [Hop { address: hop.parse().unwrap(), interface: None }];
        let (wanted, tracker) = (wanted(section), Tracker::new());
        Carrier { wanted: &wanted, tracker: &tracker, links: &links }.target(prefix.parse().unwrap(), &hops)
    }

    fn outer(target: Option<Target>) -> IpAddr {
        match target {
            Some(Target::Ways(ways)) => ways[0].0.tunnel.unwrap().destination,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_far_node_is_reached_by_the_tunnel_and_a_near_one_where_it_is_always_so() {
        let (across, always) = (json!({ "encapsulation": "CrossSubnet" }), json!({ "encapsulation": "Always" }));
        let far: IpAddr = [198, 51, 100, 3].into();
        let near: IpAddr = [192, 0, 2, 2].into();
        assert_eq!(outer(target(across.clone(), &["cnidarian.bgp"], "10.3.0.0/26", "198.51.100.3")), far);
        assert_eq!(outer(target(always, &["cnidarian.bgp"], "10.2.0.0/26", "192.0.2.2")), near);
        // IPv6 of a node that has no IPv6 address.
        assert_eq!(outer(target(across.clone(), &["cnidarian.bgp"], "fd00:2::/64", "::ffff:192.0.2.2")), near);
        assert_eq!(target(across, &["cnidarian.bgp"], "10.2.0.0/26", "192.0.2.2"), None);
    }

    #[test]
    fn without_the_tunnel_device_what_wants_it_is_refused_and_never_sent_bare() {
        let found = target(json!({ "encapsulation": "Always" }), &[], "10.2.0.0/26", "192.0.2.2");
        assert_eq!(found, Some(Target::Refuse(RouteKind::Unreachable)));
    }

    #[test]
    fn ipip_wraps_ipv4_without_a_neighbour_and_leaves_ipv6_plain() {
        let of = |how: &str| json!({ "encapsulation": how, "tunnel": "ipip" });
        let hop = "198.51.100.3";
        let Some(Target::Ways(ways)) = target(of("CrossSubnet"), &["cnidarian.bgp"], "10.1.3.0/26", hop) else {
            panic!("no ways")
        };
        let [(way, 1)] = ways[..] else { panic!("{ways:?}") };
        assert_eq!((way.index, way.via, way.onlink), (7, None, false));
        let outer = TunnelKey { id: 0, destination: hop.parse().unwrap(), source: "192.0.2.1".parse().ok() };
        assert_eq!(way.tunnel, Some(outer));
        assert_eq!(
            target(of("Always"), &[], "10.1.3.0/26", hop),
            Some(Target::Refuse(RouteKind::Unreachable)),
            "without its device a packet is not sent bare"
        );
        assert_eq!(target(of("Always"), &["cnidarian.bgp"], "fd00:3::/64", "::ffff:198.51.100.3"), None);
    }
}
