//! Next hops of what is told: RFC 4271, section 5.1.3; RFC 2545, with the whole speaker.

use super::bed::{SOON, address, announce, arrives, chain, chain_configs, config, network, peer, prefix};
use crate::config::{PeerAddress, PeerConfig, TtlSecurity};
use crate::export::{Advertisement, Withheld};
use crate::policy::Policy;
use crate::rib::{PathState, Refused};
use crate::speaker::Beginning;
use crate::testkit::{Network, NodeId};
use crate::types::Family;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

fn next_hop(network: &Network, node: NodeId, prefix: IpNet) -> Option<IpAddr> {
    network.fib(node).get(&prefix).map(|hops| hops[0].address)
}

/// Waits until a node's kernel has a route by way of an address.
fn goes_by(network: &mut Network, node: NodeId, prefix: IpNet, hop: impl Into<IpAddr>) -> bool {
    let hop = Some(hop.into());
    network.run_until(SOON, |network| next_hop(network, node, prefix) == hop).is_some()
}

fn sessions(network: &Network, nodes: &[NodeId]) -> Vec<u64> {
    let peers = nodes.iter().flat_map(|node| network.speaker(*node).unwrap().peers());
    peers.map(|peer| peer.counters.sessions).collect()
}

#[test]
fn a_third_partys_next_hop_is_kept_towards_an_external_peer_on_the_same_network_and_changes_with_it() {
    let (mut network, nodes) = chain();
    let own = prefix("192.0.2.2/24");
    network.attach(nodes[1], [own]);
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(goes_by(&mut network, nodes[2], first, address(1)), "three reaches one without two");
    network.attach(nodes[1], [prefix("192.0.2.2/32")]);
    assert!(goes_by(&mut network, nodes[2], first, address(2)), "they are on no network together any more");
    network.attach(nodes[1], [own]);
    assert!(goes_by(&mut network, nodes[2], first, address(1)));
    let [_, mut two, _] = chain_configs();
    two.peers.get_mut("three").unwrap().next_hop_self = true;
    network.with(nodes[1], |speaker, now, out| speaker.reconfigure(now, two, out)).unwrap().unwrap();
    assert!(goes_by(&mut network, nodes[2], first, address(2)), "as it is configured");
    assert_eq!(sessions(&network, &nodes), [1, 1, 1, 1]);
}

#[test]
fn a_third_partys_next_hop_is_not_kept_where_nothing_is_known_of_networks_or_it_is_on_another() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(goes_by(&mut network, nodes[2], first, address(2)));
    // Three is in the longer network, and one is not.
    network.attach(nodes[1], [prefix("192.0.2.2/30"), prefix("192.0.2.2/31"), prefix("192.0.2.4/32")]);
    network.run_for(SOON);
    assert_eq!(next_hop(&network, nodes[2], first), Some(address(2).into()));
    // A route of our own has our own.
    network.attach(nodes[1], [prefix("192.0.2.2/24")]);
    let own = announce(&mut network, nodes[1], "10.0.1.0/24");
    assert!(goes_by(&mut network, nodes[2], own, address(2)));
}

#[test]
fn no_external_peer_is_told_of_its_own_address_as_next_hop() {
    let [mut one, two, three] = chain_configs();
    // One says that three is the way.
    let says = r#"{ "statements": [{ "set": { "next-hop": "192.0.2.3" }, "then": "accept" }], "default": "accept" }"#;
    let says = Policy::export(&serde_json::from_str(says).unwrap()).unwrap();
    one.peers.get_mut("two").unwrap().export = Some(Arc::new(says));
    let (mut network, nodes) = network(&[one, two, three]);
    network.attach(nodes[1], [prefix("192.0.2.2/24")]);
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(goes_by(&mut network, nodes[2], first, address(2)), "to three it is two who passes packets on");
}

/// Two speakers, a session over IPv4.
fn pair() -> (Network, Vec<NodeId>) {
    let (mut one, mut two) = (config(1, 65_001), config(2, 65_002));
    one.peers.insert("two".into(), peer(2, 65_002));
    two.peers.insert("one".into(), peer(1, 65_001));
    network(&[one, two])
}

#[test]
fn only_a_peer_that_knows_such_is_told_of_an_ipv4_address_inside_of_an_ipv6_one() {
    let (mut network, nodes) = pair();
    let first = announce(&mut network, nodes[0], "2001:db8:1::/48");
    network.run_for(SOON);
    assert_eq!(next_hop(&network, nodes[1], first), None, "a router would make nothing of it");
    let mut one = config(1, 65_001);
    one.peers.insert("two".into(), PeerConfig { mapped_next_hop: true, ..peer(2, 65_002) });
    network.with(nodes[0], |speaker, now, out| speaker.reconfigure(now, one, out)).unwrap().unwrap();
    assert!(goes_by(&mut network, nodes[1], first, address(1).to_ipv6_mapped()));
    assert_eq!(sessions(&network, &nodes), [1, 1]);
}

#[test]
fn ipv6_routes_on_a_session_over_ipv4_have_the_ipv6_address_of_its_device_as_next_hop() {
    let (mut network, nodes) = pair();
    let first = announce(&mut network, nodes[0], "2001:db8:1::/48");
    network.run_for(SOON);
    assert_eq!(next_hop(&network, nodes[1], first), None, "one has no IPv6 address as far as it knows");
    network.attach(nodes[0], ["192.0.2.1/24", "fe80::1/64", "2001:db8::1/64"].map(prefix));
    assert!(goes_by(&mut network, nodes[1], first, "2001:db8::1".parse::<Ipv6Addr>().unwrap()));
    let mut one = config(1, 65_001);
    one.peers.insert("two".into(), peer(2, 65_002));
    one.next_hop_v6 = Some("2001:db8::77".parse().unwrap());
    network.with(nodes[0], |speaker, now, out| speaker.reconfigure(now, one, out)).unwrap().unwrap();
    assert!(goes_by(&mut network, nodes[1], first, "2001:db8::77".parse::<Ipv6Addr>().unwrap()), "what is configured");
    assert_eq!(sessions(&network, &nodes), [1, 1]);
    let other = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[1], other).is_some());
}

/// RFC 8950, section 4: without the capability, no UPDATE can carry an IPv6 next hop of an IPv4 route.
#[test]
fn a_route_whose_next_hop_the_session_cannot_carry_is_shown_as_withheld_and_not_as_told() {
    let ends: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
    let mut network = Network::new(Duration::from_millis(1));
    let nodes = ends.map(|end| network.add(&[end]));
    let configs = |extended: bool| {
        let (mut one, mut two) = (config(1, 65_001), config(2, 65_002));
        for (config, end, number) in [(&mut one, ends[1], 65_002), (&mut two, ends[0], 65_001)] {
            let mut other = peer(9, number);
            (other.address, other.extended_next_hop) = (PeerAddress::Ip(end), extended);
            config.peers.insert("other".into(), other);
        }
        [one, two]
    };
    for (node, config) in nodes.into_iter().zip(configs(false)) {
        network.start(node, config, &Beginning::Fresh).unwrap();
    }
    let own = announce(&mut network, nodes[0], "10.0.0.0/24");
    let said = |network: &Network| {
        let speaker = network.speaker(nodes[0]).unwrap();
        let id = speaker.peer("other").unwrap().id;
        (speaker.advertised(id, Family::Ipv4).len(), speaker.explain_to(id, &own))
    };
    network.run_for(SOON);
    assert_eq!(next_hop(&network, nodes[1], own), None);
    assert_eq!(said(&network), (0, Advertisement::Withheld(Withheld::NextHop)));
    for (node, config) in nodes.into_iter().zip(configs(true)) {
        network.with(node, |speaker, now, out| speaker.reconfigure(now, config, out)).unwrap().unwrap();
    }
    assert!(goes_by(&mut network, nodes[1], own, ends[0]));
    assert!(matches!(said(&network), (1, Advertisement::Told(_))));
}

/// RFC 4271, section 6.3: from a peer one hop away, a next hop on no network that we share with it is wrong, and so its route is
/// not taken, and the session stays.
#[test]
fn a_next_hop_off_the_link_of_a_one_hop_external_peer_is_ignored_with_its_reason() {
    let says = |hop: &str| {
        let text = r#"{ "statements": [{ "set": { "next-hop": "HOP" }, "then": "accept" }], "default": "accept" }"#;
        Some(Arc::new(Policy::export(&serde_json::from_str(&text.replace("HOP", hop)).unwrap()).unwrap()))
    };
    let on_link = ["192.0.2.1", "192.0.2.77"];
    let off_link = ["8.8.8.8", "192.0.2.0", "192.0.2.255"];
    let configs = |hop: &str, multihop: bool| {
        let (mut one, mut two) = (config(1, 65_001), config(2, 65_002));
        one.peers.insert("two".into(), PeerConfig { export: says(hop), ..peer(2, 65_002) });
        two.peers.insert("one".into(), peer(1, 65_001));
        if multihop {
            one.peers.get_mut("two").unwrap().ttl = TtlSecurity::Multihop(2);
            two.peers.get_mut("one").unwrap().ttl = TtlSecurity::Multihop(2);
        }
        [one, two]
    };
    let said = |network: &Network, node: NodeId, prefix: &IpNet| {
        let explained = network.speaker(node).unwrap().explain(prefix).unwrap();
        explained.paths[0].state
    };
    for (hop, is_refused) in on_link.map(|hop| (hop, false)).into_iter().chain(off_link.map(|hop| (hop, true))) {
        let (mut network, nodes) = network(&configs(hop, false));
        let first = announce(&mut network, nodes[0], "10.0.0.0/24");
        network.run_for(SOON);
        let refused = PathState::Refused(Refused::OffLink);
        assert_ne!(said(&network, nodes[1], &first), refused, "{hop}: nothing is known of the link yet");
        network.attach(nodes[1], [prefix("192.0.2.2/24")]);
        network.run_for(SOON);
        assert_eq!(said(&network, nodes[1], &first) == refused, is_refused, "{hop}");
        network.attach(nodes[1], [prefix("192.0.2.2/32")]);
        network.run_for(SOON);
        assert_ne!(said(&network, nodes[1], &first), refused, "{hop}: the peer is on no network of ours");
        assert_eq!(sessions(&network, &nodes), [1, 1]);
    }
    let (mut network, nodes) = network(&configs("8.8.8.8", true));
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    network.attach(nodes[1], [prefix("192.0.2.2/24")]);
    network.run_for(SOON);
    assert_ne!(said(&network, nodes[1], &first), PathState::Refused(Refused::OffLink), "several hops away");
}
