//! Who a tunnel endpoint is: its MAC address and the addresses that follow from it. Never allocates or asks anybody.
//!
//! Every VTEP has the IPv6 link-local address that follows from its MAC address (RFC 4291, appendix A). It is the next
//! hop of that peer's routes, the IPv4 ones too (`RTA_VIA`, kernel 5.2), so one permanent neighbour per peer serves both
//! families and no address is allocated. See `docs/adr` on VTEP addressing.

use cni_core::backend::{Error, Result};
use cni_core::model::{MacAddr, NodeName, Peer};
use std::fmt;
use std::net::Ipv6Addr;

/// The attribute with the VTEP's MAC address.
pub const ATTRIBUTE_MAC: &str = "vtep-mac";
/// The attribute with the VXLAN network identifier.
pub const ATTRIBUTE_VNI: &str = "vtep-vni";
/// The attribute with the tunnel's UDP port.
pub const ATTRIBUTE_PORT: &str = "tunnel-port";

/// The MAC address of a node's VTEP: the same after every restart, and on every node that computes it. It must not change
/// between versions: a peer that publishes another is refused.
#[must_use]
pub fn mac_of(node: &NodeName) -> MacAddr {
    MacAddr::from_name(&format!("vtep/{node}"))
}

/// `fe80::` and the modified EUI-64 of the MAC address. RFC 4291, appendix A.
#[must_use]
pub fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
}

/// What a peer published as its VTEP's MAC address.
///
/// # Errors
/// It is missing, no Ethernet address, or no station's.
pub(crate) fn mac_of_peer(peer: &Peer) -> Result<Option<MacAddr>> {
    let refuse = |detail: &dyn fmt::Display| Err(Error::invalid(object(peer), ATTRIBUTE_MAC, detail));
    let Some(text) = peer.attributes.get(ATTRIBUTE_MAC) else { return Ok(None) };
    match text.parse::<MacAddr>() {
        Err(error) => refuse(&error),
        Ok(mac) if !mac.is_unicast() => {
            refuse(&format_args!("is {mac}, which no station can have; a VTEP needs a unicast address"))
        }
        Ok(mac) => Ok(Some(mac)),
    }
}

/// Refuses a peer that says it is reached by another VNI or port than ours: its packets would be lost without a trace.
pub(crate) fn same(peer: &Peer, attribute: &'static str, ours: &str) -> Result<()> {
    match peer.attributes.get(attribute) {
        Some(theirs) if &**theirs != ours => {
            let detail = format!("is {theirs} there and {ours} here; set the same on all nodes");
            Err(Error::invalid(object(peer), attribute, detail))
        }
        _ => Ok(()),
    }
}

pub(crate) fn object(peer: &Peer) -> String {
    format!("peer {}", peer.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 4291, appendix A: 34-56-78-9A-BC-DE gives 36-56-78-FF-FE-9A-BC-DE.
    #[test]
    fn the_link_local_address_is_the_modified_eui_64() {
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(link_local(mac), "fe80::3656:78ff:fe9a:bcde".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn a_vtep_is_not_the_interface_of_the_same_name() {
        let node = NodeName::new("node-1").unwrap();
        assert_ne!(mac_of(&node), MacAddr::from_name("node-1"));
        assert!(mac_of(&node).is_unicast());
    }

    #[test]
    fn a_node_keeps_its_vtep_for_ever() {
        assert_eq!(mac_of(&NodeName::new("node-1").unwrap()).to_string(), "ba:55:54:26:83:4e");
    }

    #[test]
    fn five_thousand_nodes_have_five_thousand_vteps() {
        let macs: std::collections::BTreeSet<MacAddr> =
            (0..5_000).map(|n| mac_of(&NodeName::new(&format!("node-{n}.example.com")).unwrap())).collect();
        assert_eq!(macs.len(), 5_000);
    }

    proptest! {
        #[test]
        fn two_macs_never_share_a_link_local_address(a: [u8; 6], b: [u8; 6]) {
            prop_assert_eq!(a == b, link_local(MacAddr(a)) == link_local(MacAddr(b)));
        }
    }
}
