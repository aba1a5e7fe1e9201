//! Laws of the translation, worked on one node at 192.0.2.1/24 and 2001:db8::1/64.

use super::Compiler;
use super::node::Objects;
use crate::config::Config;
use crate::object::{Hop, Key, Object, Target};
use crate::vtep;
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Gate, Result};
use cni_core::model::{Encapsulation, InterfaceName, LocalBlock, NodeContext, NodeName, Peer, PeerPrefix, Underlay};
use ipnet::IpNet;
use net_linux::host::{self, wanted};
use net_linux::tunnel_ends;
use proptest::prelude::*;
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

fn node() -> NodeContext {
    NodeContext {
        labels: Default::default(),
        name: NodeName::new("node-1").unwrap(),
        underlay: Underlay {
            interface: InterfaceName::new("eth0").unwrap(),
            index: 2,
            mtu_bytes: 1500,
            v4: Some("192.0.2.1/24".parse().unwrap()),
            v6: Some("2001:db8::1/64".parse().unwrap()),
        },
        masquerade: None,
    }
}

fn capable() -> Capabilities {
    Capabilities::default()
        .with(Capability::NextHopObjects)
        .with(Capability::UntrackedTunnel)
        .with(Capability::GuardedTunnel)
}

fn compiler(section: serde_json::Value) -> Compiler {
    Compiler::new(&Config::from_json(&section).unwrap(), &node(), &capable()).unwrap()
}

fn prefix(text: &str) -> PeerPrefix {
    PeerPrefix { prefix: text.parse().unwrap(), encapsulation: None }
}

/// A peer on our segment with a block of each family.
fn near() -> Peer {
    let node = NodeName::new("node-2").unwrap();
    Peer {
        v4: Some(Ipv4Addr::new(192, 0, 2, 2)),
        v6: Some("2001:db8::2".parse().unwrap()),
        prefixes: vec![prefix("10.244.2.0/24"), prefix("fd00:2::/64")],
        labels: Default::default(),
        attributes: [(vtep::ATTRIBUTE_MAC.into(), vtep::mac_of(&node).to_string().into())].into(),
        node,
    }
}

/// A peer behind a router.
fn far() -> Peer {
    Peer { v4: Some(Ipv4Addr::new(198, 51, 100, 2)), v6: Some("2001:db8:9::2".parse().unwrap()), ..near() }
}

fn route_of(objects: &Objects, prefix: &str) -> Target {
    let key = Key::Route(prefix.parse().unwrap());
    match objects.iter().find(|(found, _)| *found == key) {
        Some((_, Object::Route(target))) => target.clone(),
        other => panic!("no route {prefix}: {other:?}"),
    }
}

fn gateway_of(objects: &Objects, prefix: &str) -> IpAddr {
    match route_of(objects, prefix) {
        Target::Object(hop) | Target::Via(hop) => hop.gateway,
        other => panic!("route {prefix} has no gateway: {other:?}"),
    }
}

fn refused(result: Result<Objects>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    error
}

#[test]
fn a_peer_is_one_end_one_fdb_entry_one_neighbour_one_next_hop_and_a_route_per_prefix() {
    let peer = near();
    let mac = vtep::mac_of(&peer.node);
    let device = InterfaceName::new("cnidarian.1").unwrap();
    let hop = Arc::new(Hop { device: device.clone(), gateway: vtep::link_local(mac).into() });
    let link = compiler(json!({})).base().into_iter().find(|(key, _)| matches!(key, Key::Link(_))).unwrap();
    let expected = vec![
        end("192.0.2.2"),
        link,
        (Key::Fdb(device.clone(), mac), Object::Fdb("192.0.2.2".parse().unwrap())),
        (Key::Neighbour(device, vtep::link_local(mac).into()), Object::Neighbour(mac)),
        (Key::NextHop(hop.clone()), Object::NextHop),
        (Key::Route("10.244.2.0/24".parse().unwrap()), Object::Route(Target::Object(hop.clone()))),
        (Key::Route("fd00:2::/64".parse().unwrap()), Object::Route(Target::Object(hop))),
    ];
    assert_eq!(compiler(json!({})).peer(&peer).unwrap(), expected);
}

/// The object of an end that the tunnel hears.
fn end(address: &str) -> (Key, Object) {
    let (key, object) = wanted::heard(address.parse().unwrap());
    (Key::Host(key), Object::Host(object))
}

#[test]
fn every_peer_and_this_node_are_heard_in_the_families_of_the_tunnel_however_we_send_to_them() {
    let ends = |objects: Objects| -> Vec<(Key, Object)> {
        let of_end = |key: &Key| matches!(key, Key::Host(host::Key::Ends(tunnel_ends::Key::End(_))));
        objects.into_iter().filter(|(key, _)| of_end(key)).collect()
    };
    for (section, own, heard) in [
        (json!({}), vec!["192.0.2.1"], vec!["192.0.2.2"]),
        (json!({ "underlay": "ipv6" }), vec!["2001:db8::1"], vec!["2001:db8::2"]),
        (json!({ "mode": "udp" }), vec!["192.0.2.1"], vec!["192.0.2.2"]),
        (
            json!({ "mode": "direct-routing", "underlay": "both" }),
            vec!["192.0.2.1", "2001:db8::1"],
            vec!["192.0.2.2", "2001:db8::2"],
        ),
        (json!({ "mode": "host-gw" }), vec![], vec![]),
    ] {
        let compiler = compiler(section);
        assert_eq!(ends(compiler.base()), own.into_iter().map(end).collect::<Vec<_>>());
        assert_eq!(ends(compiler.peer(&near()).unwrap()), heard.into_iter().map(end).collect::<Vec<_>>());
    }
    let incapable = Compiler::new(&Config::default(), &node(), &Capabilities::default()).unwrap();
    assert!(ends(incapable.base()).is_empty() && ends(incapable.peer(&near()).unwrap()).is_empty());
}

#[test]
fn without_next_hop_objects_each_route_has_its_own_gateway() {
    let compiler = Compiler::new(&Config::default(), &node(), &Capabilities::default()).unwrap();
    let objects = compiler.peer(&near()).unwrap();
    assert!(objects.iter().all(|(key, _)| !matches!(key, Key::NextHop(_))));
    assert!(matches!(route_of(&objects, "10.244.2.0/24"), Target::Via(_)));
}

#[test]
fn ipv6_pods_travel_over_an_ipv4_underlay_and_the_other_way_round() {
    for (underlay, outer) in [("ipv4", "192.0.2.2"), ("ipv6", "2001:db8::2")] {
        let objects = compiler(json!({ "underlay": underlay })).peer(&near()).unwrap();
        assert!(objects.contains(&(
            Key::Fdb(InterfaceName::new("cnidarian.1").unwrap(), vtep::mac_of(&near().node)),
            Object::Fdb(outer.parse().unwrap())
        )));
        assert_eq!(gateway_of(&objects, "10.244.2.0/24"), gateway_of(&objects, "fd00:2::/64"));
    }
}

#[test]
fn with_both_families_outside_each_peer_takes_ipv4_where_it_has_it() {
    let compiler = compiler(json!({ "underlay": "both" }));
    let device = |peer: &Peer| match route_of(&compiler.peer(peer).unwrap(), "10.244.2.0/24") {
        Target::Object(hop) => hop.device.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(device(&near()), "cnidarian.1");
    assert_eq!(device(&Peer { v4: None, ..near() }), "cnidarian.1v6");
    assert_eq!(compiler.pod_mtu_bytes(), 1430);
}

#[test]
fn direct_routing_is_decided_per_peer() {
    let compiler = compiler(json!({ "mode": "direct-routing" }));
    let direct = compiler.peer(&near()).unwrap();
    assert_eq!(gateway_of(&direct, "10.244.2.0/24"), IpAddr::from([192, 0, 2, 2]));
    assert_eq!(gateway_of(&direct, "fd00:2::/64"), "2001:db8::2".parse::<IpAddr>().unwrap());
    let wrapped = compiler.peer(&far()).unwrap();
    assert_eq!(gateway_of(&wrapped, "10.244.2.0/24"), vtep::link_local(vtep::mac_of(&far().node)));
}

#[test]
fn host_gw_refuses_a_peer_of_another_segment_and_says_what_to_do() {
    let compiler = compiler(json!({ "mode": "host-gw" }));
    assert!(compiler.peer(&near()).is_ok());
    let error = refused(compiler.peer(&far()));
    assert_eq!((error.object.as_str(), error.field), ("peer node-2", Some("v4")));
    assert!(error.detail.contains("198.51.100.2") && error.detail.contains("direct-routing"), "{error}");
}

#[test]
fn ipv4_pods_go_plainly_over_an_ipv6_gateway_but_ipv6_pods_never_over_ipv4() {
    let compiler = compiler(json!({ "mode": "host-gw" }));
    let v6_only = Peer { v4: None, ..near() };
    assert!(gateway_of(&compiler.peer(&v6_only).unwrap(), "10.244.2.0/24").is_ipv6());
    assert_eq!(refused(compiler.peer(&Peer { v6: None, ..near() })).field, Some("v6"));
}

#[test]
fn what_the_pool_says_wins_over_the_mode() {
    let with = |encapsulation| Peer {
        prefixes: vec![PeerPrefix { encapsulation: Some(encapsulation), ..prefix("10.244.2.0/24") }],
        ..near()
    };
    let vxlan = compiler(json!({}));
    for encapsulation in [Encapsulation::Never, Encapsulation::CrossSubnet] {
        assert!(gateway_of(&vxlan.peer(&with(encapsulation)).unwrap(), "10.244.2.0/24").is_ipv4());
    }
    let direct = compiler(json!({ "mode": "direct-routing" }));
    assert!(gateway_of(&direct.peer(&with(Encapsulation::Always)).unwrap(), "10.244.2.0/24").is_ipv6());
    let gateway = compiler(json!({ "mode": "host-gw" }));
    assert_eq!(refused(gateway.peer(&with(Encapsulation::Always))).field, Some("encapsulation"));
    let never_far = Peer { v4: far().v4, v6: far().v6, ..with(Encapsulation::Never) };
    assert!(refused(vxlan.peer(&never_far)).detail.contains("wants plain routes"));
}

#[test]
fn udp_mode_forwards_in_user_space_and_routes_into_the_device() {
    let objects = compiler(json!({ "mode": "udp" })).peer(&far()).unwrap();
    let prefix: IpNet = "fd00:2::/64".parse().unwrap();
    assert!(objects.contains(&(Key::Forward(prefix), Object::Forward(Box::new("198.51.100.2:8285".parse().unwrap())))));
    let device = InterfaceName::new("cnidarian-udp").unwrap();
    assert_eq!(route_of(&objects, "fd00:2::/64"), Target::Device(device));
}

#[test]
fn a_peer_that_is_ourselves_is_refused() {
    let compiler = compiler(json!({}));
    let ours = Peer { node: node().name, ..near() };
    assert_eq!(refused(compiler.peer(&ours)).field, Some("node"));
    let our_address = Peer { v4: Some(Ipv4Addr::new(192, 0, 2, 1)), ..near() };
    assert_eq!(refused(compiler.peer(&our_address)).field, Some("v4"));
    let our_v6 = Peer { v6: Some("2001:db8::1".parse().unwrap()), ..near() };
    assert_eq!(refused(compiler.peer(&our_v6)).field, Some("v6"));
}

/// A VTEP's MAC address follows from its node's name, so no node can take another's, ours neither.
#[test]
fn a_peer_that_claims_the_vtep_of_another_node_is_refused_and_the_other_is_not() {
    let compiler = compiler(json!({}));
    for victim in [node().name, NodeName::new("node-3").unwrap()] {
        let stolen = vtep::mac_of(&victim).to_string();
        let thief = Peer { attributes: [(vtep::ATTRIBUTE_MAC.into(), stolen.as_str().into())].into(), ..near() };
        let error = refused(compiler.peer(&thief));
        assert_eq!(error.field, Some("vtep-mac"));
        assert!(
            error.detail.contains(&stolen) && error.detail.contains(&vtep::mac_of(&near().node).to_string()),
            "{error}"
        );
    }
    assert!(compiler.peer(&near()).is_ok());
}

#[test]
fn what_needs_the_device_waits_for_it_and_nothing_else_does() {
    let wants = |objects: &Objects| objects.iter().any(|(key, _)| matches!(key, Key::Link(_)));
    let direct = compiler(json!({ "mode": "direct-routing" }));
    assert!(wants(&direct.peer(&far()).unwrap()));
    assert!(!wants(&direct.peer(&near()).unwrap()));
    assert!(wants(&compiler(json!({ "mode": "udp" })).peer(&near()).unwrap()));
    let gates: Vec<Gate> = direct.base().iter().map(|(key, _)| key.rank().gate).collect();
    assert!(gates.contains(&Gate::Item) && !gates.contains(&Gate::All));
}

#[test]
fn outer_packets_are_untracked_by_default_where_the_kernel_can_and_only_those_of_vxlan() {
    let tunnels = |compiler: Compiler| {
        let base = compiler.base().into_iter();
        let found = base.filter_map(|(_, object)| match object {
            Object::Host(host::Object::Untracked(object)) => Some(object.tunnels),
            _ => None,
        });
        found.flatten().map(|tunnel| tunnel.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(tunnels(compiler(json!({}))), ["192.0.2.1:8472"]);
    let both = tunnels(compiler(json!({ "underlay": "both", "port": 4789, "mode": "direct-routing" })));
    assert_eq!(both, ["192.0.2.1:4789", "[2001:db8::1]:4789"]);
    for section in [json!({ "trackOuterPackets": true }), json!({ "mode": "udp" }), json!({ "mode": "host-gw" })] {
        assert!(tunnels(compiler(section)).is_empty());
    }
    let incapable = Compiler::new(&Config::default(), &node(), &Capabilities::default()).unwrap();
    assert!(tunnels(incapable).is_empty());
}

#[test]
fn a_peer_without_the_familys_address_is_refused_by_name() {
    let error = refused(compiler(json!({ "underlay": "ipv6" })).peer(&Peer { v6: None, ..near() }));
    assert_eq!(error.field, Some("v6"));
    assert!(error.to_string().contains("peer node-2"), "{error}");
}

#[test]
fn a_peers_attributes_are_checked() {
    let compiler = compiler(json!({}));
    let with = |key: &str, value: &str| {
        let mut peer = near();
        peer.attributes = peer
            .attributes
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .chain([(key.into(), value.into())])
            .collect();
        peer
    };
    for (key, value) in [
        (vtep::ATTRIBUTE_MAC, "twelve"),
        (vtep::ATTRIBUTE_MAC, "01:00:5e:00:00:01"),
        (vtep::ATTRIBUTE_MAC, "00:00:00:00:00:00"),
        (vtep::ATTRIBUTE_VNI, "7"),
        (vtep::ATTRIBUTE_PORT, "4789"),
    ] {
        assert_eq!(refused(compiler.peer(&with(key, value))).field, Some(key));
    }
    let silent = Peer { attributes: [].into(), ..near() };
    assert_eq!(refused(compiler.peer(&silent)).field, Some("vtep-mac"));
}

#[test]
fn a_prefix_that_would_break_the_node_is_refused() {
    let compiler = compiler(json!({}));
    for bad in [
        "192.0.2.128/25",
        "192.0.0.0/16",
        "0.0.0.0/0",
        "::/0",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "169.254.0.0/16",
        "fe80::/64",
        "2001:db8::/48",
    ] {
        let error = refused(compiler.peer(&Peer { prefixes: vec![prefix(bad)], ..near() }));
        assert_eq!(error.field, Some("prefixes"), "{bad}");
    }
    let host_bits = PeerPrefix { prefix: "10.1.2.3/24".parse().unwrap(), encapsulation: None };
    assert!(refused(compiler.peer(&Peer { prefixes: vec![host_bits], ..near() })).detail.contains("write 10.1.2.0/24"));
    let own = Peer { v4: Some(Ipv4Addr::new(10, 9, 9, 9)), prefixes: vec![prefix("10.9.0.0/16")], ..near() };
    assert!(refused(compiler.peer(&own)).detail.contains("10.9.9.9"));
}

#[test]
fn a_family_that_is_off_is_refused() {
    assert_eq!(refused(compiler(json!({ "families": ["ipv4"] })).peer(&near())).field, Some("prefixes"));
}

#[test]
fn unknown_addresses_of_a_local_block_are_unreachable_and_do_not_loop() {
    let compiler = compiler(json!({}));
    let block = LocalBlock {
        prefix: "10.244.1.0/24".parse().unwrap(),
        pool: None,
        encapsulation: None,
        node_address: Some("10.244.1.0".parse().unwrap()),
    };
    let objects = compiler.block(&block).unwrap();
    assert_eq!(route_of(&objects, "10.244.1.0/24"), Target::Unreachable);
    let device = InterfaceName::new("cnidarian.1").unwrap();
    assert!(objects.contains(&(Key::Address(device, "10.244.1.0/32".parse().unwrap()), Object::Address)));
    let outside = LocalBlock { node_address: Some("10.244.2.1".parse().unwrap()), ..block };
    assert_eq!(refused(compiler.block(&outside)).field, Some("nodeAddress"));
}

#[test]
fn the_mtu_is_the_underlays_less_the_overhead_of_the_mode() {
    for (section, mtu) in [
        (json!({}), 1450),
        (json!({ "underlay": "ipv6" }), 1430),
        (json!({ "mode": "direct-routing" }), 1450),
        (json!({ "mode": "host-gw" }), 1500),
        (json!({ "mode": "udp" }), 1472),
        (json!({ "mode": "udp", "underlay": "ipv6" }), 1452),
        (json!({ "mtu": 1400 }), 1400),
    ] {
        assert_eq!(compiler(section).pod_mtu_bytes(), mtu);
    }
}

#[test]
fn an_mtu_that_the_path_does_not_carry_is_refused_with_the_most_it_does() {
    let config = Config::from_json(&json!({ "mtu": 1451 })).unwrap();
    let error = Compiler::new(&config, &node(), &capable()).unwrap_err();
    assert_eq!(error.field, Some("mtu"));
    assert!(error.detail.contains("at most 1450"), "{error}");
    let mut small = node();
    small.underlay.mtu_bytes = 1300;
    let error = Compiler::new(&Config::default(), &small, &capable()).unwrap_err();
    assert!(error.detail.contains("raise it to 1330"), "{error}");
    let v4_only = Config::from_json(&json!({ "families": ["ipv4"] })).unwrap();
    assert_eq!(Compiler::new(&v4_only, &small, &capable()).unwrap().pod_mtu_bytes(), 1250);
}

#[test]
fn a_node_without_the_underlay_family_is_refused() {
    let mut v6_only = node();
    v6_only.underlay.v4 = None;
    let wants_v4 = Config::from_json(&json!({ "underlay": "ipv4" })).unwrap();
    assert_eq!(Compiler::new(&wants_v4, &v6_only, &capable()).unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(Compiler::new(&Config::default(), &v6_only, &capable()).unwrap().pod_mtu_bytes(), 1430);
}

#[test]
fn devices_are_written_before_what_hangs_on_them_and_routes_last() {
    let compiler = compiler(json!({}));
    let rank = |objects: &Objects, wanted: fn(&Key) -> bool| {
        objects.iter().find(|(key, _)| wanted(key)).map(|(key, _)| key.rank().level).unwrap()
    };
    let (base, peer) = (compiler.base(), compiler.peer(&near()).unwrap());
    let levels = [
        rank(&base, |key| matches!(key, Key::Host(host::Key::Ends(tunnel_ends::Key::Guard)))),
        rank(&base, |key| matches!(key, Key::Link(_))),
        rank(&base, |key| matches!(key, Key::Address(..))),
        rank(&peer, |key| matches!(key, Key::Neighbour(..))),
        rank(&peer, |key| matches!(key, Key::NextHop(_))),
        rank(&peer, |key| matches!(key, Key::Route(_))),
    ];
    assert!(levels.is_sorted_by(|a, b| a < b), "{levels:?}");
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let prefixes = proptest::collection::vec((any::<u32>(), 0_u8..=32, 0_u8..4), 0..5);
    (0..50_u16, any::<[u8; 4]>(), any::<Option<[u8; 16]>>(), prefixes, any::<bool>()).prop_map(
        |(number, v4, v6, prefixes, published)| {
            let node = NodeName::new(&format!("node-{number}")).unwrap();
            let mac = vtep::mac_of(&node).to_string();
            let prefixes = prefixes.into_iter().map(|(address, length, encapsulation)| PeerPrefix {
                prefix: IpNet::new(Ipv4Addr::from(address).into(), length).unwrap(),
                encapsulation: [
                    None,
                    Some(Encapsulation::Always),
                    Some(Encapsulation::CrossSubnet),
                    Some(Encapsulation::Never),
                ][usize::from(encapsulation)],
            });
            Peer {
                node,
                v4: Some(Ipv4Addr::from(v4)),
                v6: v6.map(Ipv6Addr::from),
                prefixes: prefixes.collect(),
                labels: Default::default(),
                attributes: if published { [(vtep::ATTRIBUTE_MAC.into(), mac.into())].into() } else { [].into() },
            }
        },
    )
}

proptest! {
    #[test]
    fn whatever_a_peer_is_it_compiles_twice_to_the_same_or_is_refused_by_name(peer in any_peer(), mode in 0_usize..4) {
        let mode = ["vxlan", "direct-routing", "host-gw", "udp"][mode];
        let compiler = compiler(json!({ "mode": mode }));
        match (compiler.peer(&peer), compiler.peer(&peer)) {
            (Ok(first), Ok(second)) => prop_assert_eq!(first, second),
            (Err(error), Err(_)) => {
                prop_assert!(error.field.is_some());
                prop_assert_eq!(error.object, format!("peer {}", peer.node));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn every_accepted_prefix_has_exactly_one_route_and_no_key_comes_twice(peer in any_peer()) {
        if let Ok(objects) = compiler(json!({ "mode": "direct-routing" })).peer(&peer) {
            let mut prefixes: Vec<IpNet> = peer.prefixes.iter().map(|prefix| prefix.prefix).collect();
            prefixes.sort();
            prefixes.dedup();
            let routes: Vec<IpNet> =
                objects.iter().filter_map(|(key, _)| if let Key::Route(prefix) = key { Some(*prefix) } else { None }).collect();
            prop_assert_eq!(routes, prefixes);
            prop_assert!(objects.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
