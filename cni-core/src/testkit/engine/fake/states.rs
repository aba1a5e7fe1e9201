//! States of a small network, for any backend to walk. Never one backend's attributes: the caller adds those.

use super::{FakeDriver, FakeKey};
use crate::backend::Driver;
use crate::model::{
    Encapsulation, Endpoint, EndpointId, InterfaceName, LocalBlock, MacAddr, NetworkItem, NodeContext, NodeName, Peer,
    PeerPrefix, Underlay,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node of the fake: `192.0.2.1/24` and `2001:db8::1/64` on `eth0`, MTU 1500.
#[must_use]
pub fn node() -> NodeContext {
    NodeContext {
        labels: Default::default(),
        name: node_name("node-0"),
        underlay: Underlay {
            interface: interface("eth0"),
            index: 2,
            mtu_bytes: 1500,
            v4: Some("192.0.2.1/24".parse().expect("a literal of the right form")),
            v6: Some("2001:db8::1/64".parse().expect("a literal of the right form")),
        },
        masquerade: None,
    }
}

/// States with peers that come, go and change, endpoints, blocks, shared objects, a conflict, and an item that is not
/// acceptable (a peer without an address).
///
/// `adjust` makes each item fit a backend: it adds what the backend's own peers publish, or leaves the item out.
pub fn network_states(adjust: impl Fn(NetworkItem) -> Option<NetworkItem>) -> Vec<Vec<NetworkItem>> {
    let moved = Peer { v4: Some(Ipv4Addr::new(192, 0, 2, 99)), ..peer(1, &["10.1.1.0/26"]) };
    let addressless = Peer { v4: None, v6: None, ..peer(2, &["10.1.2.0/26"]) };
    // Two peers behind one address: their neighbour is the same object.
    let twin = Peer { v4: Some(Ipv4Addr::new(192, 0, 2, 12)), v6: None, ..peer(7, &["10.1.7.0/26"]) };
    let states: Vec<Vec<NetworkItem>> = vec![
        vec![],
        vec![NetworkItem::Peer(peer(1, &["10.1.1.0/26", "fd00:1::/122"]))],
        vec![
            NetworkItem::Peer(peer(1, &["10.1.1.0/26", "10.1.5.0/26", "fd00:1::/122"])),
            NetworkItem::Peer(peer(2, &["10.1.2.0/26"])),
            block("10.1.0.0/26"),
            endpoint("c1", 5),
            endpoint("c2", 6),
        ],
        // Moved, without its address, exchanged prefixes, an address that went from one pod to another.
        vec![
            NetworkItem::Peer(moved),
            NetworkItem::Peer(addressless),
            NetworkItem::Peer(peer(3, &["10.1.5.0/26", "10.1.2.0/26"])),
            block("10.1.0.0/26"),
            endpoint("c2", 7),
            endpoint("c3", 5),
        ],
        // One prefix claimed by a block, which comes first, and by two peers; two pods with one address.
        vec![
            NetworkItem::Peer(peer(2, &["10.1.0.0/26", "10.1.2.0/26"])),
            NetworkItem::Peer(peer(4, &["10.1.0.0/26", "10.1.4.0/26"])),
            NetworkItem::Peer(Peer { attributes: peer(2, &[]).attributes, ..twin }),
            block("10.1.0.0/26"),
            endpoint("c1", 5),
            endpoint("c4", 5),
        ],
        // The same two peers without the block: the lesser takes over.
        vec![
            NetworkItem::Peer(peer(2, &["10.1.0.0/26"])),
            NetworkItem::Peer(peer(4, &["10.1.0.0/26", "10.1.4.0/26"])),
            endpoint("c4", 5),
        ],
    ];
    states.into_iter().map(|items| items.into_iter().filter_map(&adjust).collect()).collect()
}

/// A peer that needs a tunnel.
pub(super) fn tunnelled_peer() -> NetworkItem {
    let mut peer = peer(9, &["10.1.9.0/26"]);
    for prefix in &mut peer.prefixes {
        prefix.encapsulation = Some(Encapsulation::Always);
    }
    NetworkItem::Peer(peer)
}

/// The key with this name, if an object of some state has it.
pub(super) fn key_of(driver: &mut FakeDriver, name: &str) -> Option<FakeKey> {
    let items = network_states(Some).into_iter().flatten();
    let compiled = items.filter_map(|item| driver.compile(&item).ok()).chain(driver.base()).flatten();
    let keys: Vec<FakeKey> = compiled.map(|(key, _)| key).collect();
    keys.into_iter().find(|key| key.to_string() == name)
}

fn peer(number: u8, prefixes: &[&str]) -> Peer {
    let prefixes = prefixes
        .iter()
        .map(|prefix| PeerPrefix { prefix: prefix.parse().expect("a literal of the right form"), encapsulation: None });
    let mac = MacAddr::from_name(&format!("vtep node-{number}"));
    Peer {
        node: node_name(&format!("node-{number}")),
        v4: Some(Ipv4Addr::new(192, 0, 2, 10 + number)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10 + u16::from(number))),
        prefixes: prefixes.collect(),
        labels: [("number".into(), number.to_string().into())].into(),
        attributes: [("mac".into(), mac.to_string().into())].into(),
    }
}

fn block(prefix: &str) -> NetworkItem {
    let prefix = prefix.parse().expect("a literal of the right form");
    NetworkItem::Block(LocalBlock { prefix, pool: None, encapsulation: None, node_address: None })
}

fn endpoint(container: &str, last: u8) -> NetworkItem {
    NetworkItem::Endpoint(Endpoint {
        id: EndpointId::of(container, "eth0").expect("a literal of the right form"),
        pod: None,
        host_interface: interface(&format!("cni{container}")),
        host_mac: MacAddr::from_name(&format!("host {container}")),
        pod_mac: MacAddr::from_name(&format!("pod {container}")),
        addresses: vec![
            IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last))),
        ],
    })
}

fn node_name(name: &str) -> NodeName {
    NodeName::new(name).expect("a literal of the right form")
}

fn interface(name: &str) -> InterfaceName {
    InterfaceName::new(name).expect("a literal of the right form")
}
