//! Ends of tunnels: Ethernet and link-local addresses that follow from the name of the node, so that nobody has to publish
//! them, and a node that gets another address keeps them. Never allocates or asks anybody.
//!
//! A packet of a tunnelled route goes to the neighbour [`link_local`] on the tunnel device, which has the Ethernet address
//! [`mac_of`]; the far end's device has just that one. Only the outer destination in the next-hop object says which node.
//! An IPIP device has no neighbours: there the outer destination is all.

use crate::config::TunnelKind;
use cni_core::model::{MacAddr, NodeName};
use std::net::Ipv6Addr;

/// The Ethernet address of a node's tunnel device. Nodes of different versions have to agree: it must not change.
#[must_use]
pub fn mac_of(node: &NodeName) -> MacAddr {
    MacAddr::from_name(&format!("bgp-tunnel/{node}"))
}

/// `fe80::` and the modified EUI-64 of the MAC address. RFC 4291, appendix A.
#[must_use]
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
}

/// Bytes that wrapping adds to a pod's packet: outer IP 20 or 40; with VXLAN also UDP 8, VXLAN 8, inner Ethernet 14
/// (RFC 7348, section 5), with IPIP nothing (RFC 2003, section 3).
#[must_use]
pub const fn overhead_bytes(kind: &TunnelKind, outer_ipv6: bool) -> u32 {
    let outer_ip = if outer_ipv6 { 40 } else { 20 };
    match kind {
        TunnelKind::Vxlan { .. } => outer_ip + 8 + 8 + 14,
        TunnelKind::Ipip => outer_ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_end_for_ever() {
        let mac = mac_of(&NodeName::new("node-1").unwrap());
        assert!(mac.is_unicast());
        assert_eq!(mac.to_string(), "46:bb:9c:94:7d:1f");
    }

    #[test]
    fn overhead_is_worked_by_hand_from_the_headers() {
        let vxlan = TunnelKind::Vxlan { vni: 1, port: std::num::NonZeroU16::MIN, track_outer: false };
        assert_eq!([false, true].map(|v6| overhead_bytes(&vxlan, v6)), [50, 70]);
        assert_eq!(overhead_bytes(&TunnelKind::Ipip, false), 20);
    }
}
