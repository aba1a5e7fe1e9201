//! Laws of the translation, worked on one node at 192.0.2.1/24 and 2001:db8::1/64.

use super::Compiler;
use super::node::Objects;
use super::peer::session_name;
use crate::config::Config;
use crate::object::{DeviceKind, FarEnd, Key, Object};
use crate::tunnel;
use bgp_speaker::config::{PeerAddress, PeerConfig, RemoteAsn, TtlSecurity};
use bgp_speaker::types::{Asn, Community, Family};
use cni_core::backend::{Capabilities, Capability, Error, ErrorKind, Result};
use cni_core::model::{
    Attributes, Encapsulation, Endpoint, EndpointId, InterfaceName, LocalBlock, MacAddr, NetworkItem, NodeContext,
    NodeName, Peer, PeerPrefix, ServiceAddress, Underlay,
};
use net_linux::host::{self, wanted};
use net_linux::tunnel_ends;
use serde_json::json;
use std::net::IpAddr;

fn labels(texts: &[(&str, &str)]) -> Attributes {
    texts.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn node(own: &[(&str, &str)]) -> NodeContext {
    NodeContext {
        labels: labels(own),
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

fn compiler_on(node: &NodeContext, section: serde_json::Value) -> Compiler {
    let capabilities = Capabilities::default().with(Capability::GuardedTunnel).with(Capability::UntrackedTunnel);
    Compiler::new(&Config::from_json(&section).unwrap(), node, &capabilities).unwrap()
}

fn compiler(section: serde_json::Value) -> Compiler {
    compiler_on(&node(&[]), section)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A peer on our segment.
fn peer(own: &[(&str, &str)]) -> Peer {
    let prefix = |text: &str| PeerPrefix { prefix: text.parse().unwrap(), encapsulation: None };
    Peer {
        node: NodeName::new("node-2").unwrap(),
        v4: Some("192.0.2.2".parse().unwrap()),
        v6: Some("2001:db8::2".parse().unwrap()),
        prefixes: vec![prefix("10.244.2.0/24"), prefix("fd00:2::/64")],
        labels: labels(own),
        attributes: Attributes::default(),
    }
}

fn session(objects: &Objects) -> Option<PeerConfig> {
    let key = Key::Session(session_name(&NodeName::new("node-2").unwrap()));
    objects.iter().find(|(found, _)| *found == key).map(|(_, object)| match object {
        Object::Session(session) => session.config.clone(),
        other => panic!("{other:?}"),
    })
}

fn refused(result: Result<Objects>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    error
}

#[test]
fn without_a_tunnel_a_peer_is_its_session_and_nothing_in_the_kernel() {
    let objects = compiler(json!({})).peer(&peer(&[])).unwrap();
    assert!(objects.iter().all(|(key, _)| key.is_of_speaker()), "{objects:?}");
    let session = session(&objects).unwrap();
    assert_eq!(session.address, PeerAddress::Ip(ip("192.0.2.2")));
    assert_eq!(session.local, Some(ip("192.0.2.1")));
    assert_eq!(session.asn, RemoteAsn::Exactly(Asn::new(64_512).unwrap()));
    assert!(!session.reflector_client);
}

#[test]
fn with_a_tunnel_a_peer_is_also_its_far_end_whom_we_hear_and_how_its_next_hops_are_reached() {
    let compiler = compiler(json!({ "encapsulation": "CrossSubnet" }));
    let objects = compiler.peer(&peer(&[])).unwrap();
    let device = InterfaceName::new("cnidarian.bgp").unwrap();
    let mac = tunnel::mac_of(&peer(&[]).node);
    let far = FarEnd { outer: ip("192.0.2.2"), neighbour: tunnel::link_local(mac) };
    let (end, object) = wanted::heard(ip("192.0.2.2"));
    for expected in [
        (Key::Neighbour(device, tunnel::link_local(mac).into()), Object::Neighbour(mac)),
        (Key::Host(end), Object::Host(object)),
        (Key::Node(ip("192.0.2.2")), Object::Node(far)),
        (Key::Node(ip("2001:db8::2")), Object::Node(far)),
    ] {
        assert!(objects.contains(&expected), "{expected:?} is not in {objects:?}");
    }
    // The far end is what that node makes of itself.
    let mut there = node(&[]);
    there.name = peer(&[]).node;
    let theirs = compiler_on(&there, json!({ "encapsulation": "Always" })).base();
    let link =
        theirs.iter().find_map(|(_, object)| if let Object::Link(device) = object { Some(device) } else { None });
    assert_eq!(link.unwrap().kind, DeviceKind::Vxlan { port: 4789, mac });
    assert_eq!((compiler.pod_mtu_bytes(), self::compiler(json!({})).pod_mtu_bytes()), (1450, 1500));
}

#[test]
fn a_pool_that_says_otherwise_is_carried_otherwise_and_without_a_tunnel_refused() {
    let mut peer = peer(&[]);
    peer.prefixes[0].encapsulation = Some(Encapsulation::Always);
    peer.prefixes[1].encapsulation = Some(Encapsulation::CrossSubnet);
    let objects = compiler(json!({ "encapsulation": "CrossSubnet" })).peer(&peer).unwrap();
    let carriage: Vec<_> = objects.iter().filter(|(key, _)| matches!(key, Key::Carriage(_))).collect();
    assert_eq!(carriage, [&(Key::Carriage("10.244.2.0/24".parse().unwrap()), Object::Carriage(Encapsulation::Always))]);
    assert_eq!(refused(compiler(json!({})).peer(&peer)).field, Some("encapsulation"));
}

#[test]
fn reflectors_are_met_by_all_and_the_others_by_nobody() {
    let section = json!({ "mode": "reflectors", "reflectors": { "selector": "has(rr)", "clusterId": "10.0.0.1" } });
    for (ours, theirs, wanted, client) in [
        (&[][..], &[][..], false, false),
        (&[("rr", "")][..], &[][..], true, true),
        (&[][..], &[("rr", "")][..], true, false),
        (&[("rr", "")][..], &[("rr", "")][..], true, false),
    ] {
        let found = session(&compiler_on(&node(ours), section.clone()).peer(&peer(theirs)).unwrap());
        assert_eq!(found.is_some(), wanted, "{ours:?} {theirs:?}");
        assert_eq!(found.is_some_and(|session| session.reflector_client), client, "{ours:?} {theirs:?}");
    }
    let cluster = |own| {
        let base = compiler_on(&node(own), section.clone()).base();
        base.into_iter().find_map(|(_, object)| match object {
            Object::Speaker(ground) => Some(ground.speaker.cluster_id),
            _ => None,
        })
    };
    assert_eq!((cluster(&[]), cluster(&[("rr", "")]).flatten().is_some()), (Some(None), true));
    assert!(session(&compiler(json!({ "mode": "none" })).peer(&peer(&[])).unwrap()).is_none());
}

#[test]
fn a_rule_about_nodes_holds_on_both_ends() {
    let section = json!({ "mode": "none", "peers": [{
        "name": "racks", "nodeSelector": "role == 'edge'", "peerSelector": { "matchLabels": { "role": "core" } },
        "session": { "bfd": {} }
    }] });
    let with = |ours: &str, theirs: &str| {
        session(&compiler_on(&node(&[("role", ours)]), section.clone()).peer(&peer(&[("role", theirs)])).unwrap())
    };
    assert!(with("edge", "core").is_some_and(|session| session.bfd.is_some()));
    assert!(with("core", "edge").is_some());
    assert!(with("core", "core").is_none() && with("edge", "edge").is_none());
}

#[test]
fn the_system_of_a_node_is_what_it_says_then_what_its_labels_say() {
    let section = json!({ "nodes": [{ "selector": "rack == '7'", "asn": 65_007, "drain": true }] });
    let asn = |objects: Objects| session(&objects).unwrap().asn;
    let near = compiler(section.clone()).peer(&peer(&[("rack", "7")])).unwrap();
    assert_eq!(session(&near).unwrap().ttl, TtlSecurity::Usual);
    assert_eq!(asn(near), RemoteAsn::Exactly(Asn::new(65_007).unwrap()));
    let mut saying = peer(&[("rack", "7")]);
    saying.attributes = labels(&[("bgp-asn", "65009"), ("bgp-port", "1179")]);
    saying.v4 = Some("198.51.100.2".parse().unwrap());
    let far = session(&compiler(section.clone()).peer(&saying).unwrap()).unwrap();
    assert_eq!(far.asn, RemoteAsn::Exactly(Asn::new(65_009).unwrap()));
    // An external node behind a router.
    assert_eq!((far.ttl, far.port), (TtlSecurity::Multihop(255), 1179));
    let drained = compiler_on(&node(&[("rack", "7")]), section).peer(&peer(&[])).unwrap();
    assert!(session(&drained).unwrap().drain);
    saying.attributes = labels(&[("bgp-asn", "0")]);
    assert_eq!(refused(compiler(json!({})).peer(&saying)).field, Some("bgp-asn"));
}

#[test]
fn peers_and_ranges_are_only_on_the_nodes_that_they_are_for() {
    let section = json!({
        "peers": [{ "name": "tor", "nodeSelector": "rack == '7'", "address": "192.0.2.254", "asn": "external",
                    "session": { "gtsm": 1 } }],
        "listenRanges": [{ "name": "pods", "nodeSelector": "rack == '7'", "range": "10.244.0.0/16", "asn": 65003 }]
    });
    let count = |own: &[(&str, &str)]| {
        let base = compiler_on(&node(own), section.clone()).base();
        base.iter().filter(|(key, _)| matches!(key, Key::Session(_) | Key::Range(_))).count()
    };
    assert_eq!((count(&[("rack", "7")]), count(&[("rack", "8")]), count(&[])), (2, 0, 0));
}

#[test]
fn a_block_is_unreachable_where_no_pod_is_and_announced_with_its_pools_communities() {
    let compiler = compiler(json!({ "communities": { "blue": ["65001:7", "1:2:3"] } }));
    let block = |pool: &str| LocalBlock {
        prefix: "10.244.1.0/26".parse().unwrap(),
        pool: Some(pool.to_owned()),
        encapsulation: None,
        node_address: Some(ip("10.244.1.0")),
    };
    let objects = compiler.block(&block("blue")).unwrap();
    assert_eq!(objects[1], (Key::Route("10.244.1.0/26".parse().unwrap()), Object::Unreachable));
    let Object::Announcement(what) = &objects[0].1 else { panic!("{objects:?}") };
    assert_eq!(what.communities, ["65001:7".parse::<Community>().unwrap()]);
    assert_eq!(what.large.len(), 1);
    assert_eq!(objects.len(), 2);
    let other = compiler.block(&block("green")).unwrap();
    assert!(matches!(&other[0].1, Object::Announcement(what) if what.communities.is_empty()));
    let wrong = LocalBlock { prefix: "192.0.2.64/26".parse().unwrap(), ..block("blue") };
    assert_eq!(refused(compiler.block(&wrong)).field, Some("prefix"));
}

#[test]
fn a_pod_is_its_route_its_neighbour_and_its_address_for_the_speaker() {
    let endpoint = Endpoint {
        id: EndpointId::of("c1", "eth0").unwrap(),
        pod: None,
        host_interface: InterfaceName::new("cnic1").unwrap(),
        host_mac: MacAddr([2; 6]),
        pod_mac: MacAddr([4; 6]),
        addresses: vec![ip("10.244.1.5")],
    };
    let objects = compiler(json!({})).compile(&NetworkItem::Endpoint(endpoint)).unwrap();
    let own = (Key::PodAddress("10.244.1.5/32".parse().unwrap()), Object::PodAddress);
    assert!(objects.contains(&own) && objects.len() == 3, "{objects:?}");
}

#[test]
fn a_peer_that_cannot_be_is_refused_by_field() {
    let compiler = compiler(json!({ "encapsulation": "Always" }));
    let mut own = peer(&[]);
    own.v4 = Some("192.0.2.1".parse().unwrap());
    assert_eq!(refused(compiler.peer(&own)).field, Some("v4"));
    let mut lost = peer(&[]);
    (lost.v4, lost.v6) = (None, None);
    assert_eq!(refused(compiler.peer(&lost)).field, Some("v4"));
    let mut other = peer(&[]);
    other.attributes = labels(&[("bgp-tunnel", "7/4789")]);
    assert_eq!(refused(compiler.peer(&other)).field, Some("bgp-tunnel"));
    let mut only_v6 = peer(&[]);
    only_v6.v4 = None;
    assert_eq!(refused(compiler.peer(&only_v6)).field, Some("v4"));
}

#[test]
fn a_node_without_ipv6_is_the_next_hop_of_ipv6_routes_to_nodes_by_its_ipv4_address() {
    let mut bare = node(&[]);
    bare.underlay.v6 = None;
    let base = compiler_on(&bare, json!({ "encapsulation": "Always" })).base();
    let ground =
        base.iter().find_map(|(_, object)| if let Object::Speaker(ground) = object { Some(ground) } else { None });
    let speaker = &ground.unwrap().speaker;
    assert_eq!(speaker.next_hop_v6, None, "routers would make nothing of a mapped one");
    assert_eq!(speaker.listen, ["192.0.2.1:179".parse().unwrap()]);
    let mut there = peer(&[]);
    there.v6 = None;
    let objects = compiler_on(&bare, json!({ "encapsulation": "Always" })).peer(&there).unwrap();
    let far = |key: &Key| objects.iter().find(|(found, _)| found == key).map(|(_, object)| object.clone());
    let mapped = far(&Key::Node(ip("::ffff:192.0.2.2")));
    assert!(mapped.is_some() && mapped == far(&Key::Node(ip("192.0.2.2"))));
    let session = session(&objects).unwrap();
    assert!(session.mapped_next_hop);
    assert_eq!(session.families, [Family::Ipv4, Family::Ipv6].into());
}

#[test]
fn an_ipip_tunnel_is_a_device_and_whom_it_hears_and_costs_twenty_bytes() {
    let compiler = compiler(json!({ "encapsulation": "CrossSubnet", "tunnel": "ipip" }));
    assert_eq!(compiler.pod_mtu_bytes(), 1480);
    assert_eq!(compiler.attributes()["bgp-tunnel"].as_ref(), "ipip");
    let base = compiler.base();
    let on_device =
        |key: &Key| matches!(key, Key::Address(..) | Key::Neighbour(..) | Key::Host(host::Key::Untracked(_)));
    assert!(!base.iter().any(|(key, _)| on_device(key)), "{base:?}");
    let guard = base.iter().find_map(|(_, object)| match object {
        Object::Host(host::Object::Ends(tunnel_ends::Object::Guard { tunnels, .. })) => Some(tunnels.clone()),
        _ => None,
    });
    assert_eq!(guard, Some(vec![tunnel_ends::Tunnel::Ipip([192, 0, 2, 1].into())]));
    let objects = compiler.peer(&peer(&[])).unwrap();
    assert!(!objects.iter().any(|(key, _)| on_device(key)), "{objects:?}");
    assert!(objects.iter().any(|(key, _)| *key == Key::Host(host::Key::Ends(tunnel_ends::Key::End(ip("192.0.2.2"))))));
    let other = Peer { attributes: labels(&[("bgp-tunnel", "4096/4789")]), ..peer(&[]) };
    assert_eq!(refused(compiler.peer(&other)).field, Some("bgp-tunnel"));
}

#[test]
fn a_pool_of_ipv6_that_wants_ipip_is_refused_and_one_that_says_nothing_stays_plain() {
    let compiler = compiler(json!({ "encapsulation": "Always", "tunnel": "ipip" }));
    let block = |prefix: &str, encapsulation| {
        let prefix: ipnet::IpNet = prefix.parse().unwrap();
        let node_address = Some(prefix.network());
        compiler.block(&LocalBlock { prefix, pool: None, encapsulation, node_address })
    };
    let has_address = |objects: Objects| objects.iter().any(|(key, _)| matches!(key, Key::Address(..)));
    assert!(has_address(block("10.1.0.0/26", Some(Encapsulation::Always)).unwrap()));
    assert!(!has_address(block("fd00:1::/64", None).unwrap()));
    let error = refused(block("fd00:1::/64", Some(Encapsulation::CrossSubnet)));
    assert!(error.to_string().contains("ipip carries IPv4 only"), "{error}");
    let mut bare = node(&[]);
    bare.underlay.v4 = None;
    let config = Config::from_json(&json!({ "encapsulation": "Always", "tunnel": "ipip" })).unwrap();
    let error = Compiler::new(&config, &bare, &Capabilities::default()).unwrap_err();
    assert_eq!((error.kind, error.field), (ErrorKind::Unsupported, Some("underlay")));
}

#[test]
fn an_address_of_a_service_is_one_host_route_and_never_on_the_underlay() {
    let compile = |address: &str| {
        let services = vec!["default/web".to_owned()];
        compiler(json!({})).compile(&NetworkItem::ServiceAddress(ServiceAddress { address: ip(address), services }))
    };
    for (address, prefix) in [("203.0.113.7", "203.0.113.7/32"), ("2001:db8:7::7", "2001:db8:7::7/128")] {
        let objects = compile(address).unwrap();
        let [(Key::Announcement(announced), Object::Announcement(_))] = &objects[..] else { panic!("{objects:?}") };
        assert_eq!(announced.to_string(), prefix);
    }
    assert_eq!(refused(compile("192.0.2.254")).field, Some("address"));
    assert_eq!(refused(compile("127.0.0.1")).field, Some("address"));
}

#[test]
fn addresses_of_services_that_every_node_announces_lie_outside_of_the_underlay() {
    let with = |prefix: &str| {
        let config = Config::from_json(&json!({ "serviceAdvertisement": { "clusterIPs": [prefix] } })).unwrap();
        Compiler::new(&config, &node(&[]), &Capabilities::default())
    };
    for part in ["192.0.2.0/24", "192.0.2.128/25", "192.0.0.0/16", "2001:db8::/96"] {
        let error = with(part).unwrap_err();
        assert_eq!((error.kind, error.field), (ErrorKind::Invalid, Some("serviceAdvertisement.clusterIPs")), "{part}");
    }
    assert!(with("10.96.0.0/12").is_ok());
}

#[test]
fn a_change_that_peers_would_have_to_know_of_is_called_by_its_own_key() {
    let usual = json!({ "encapsulation": "Always" });
    let key = |change: serde_json::Value| {
        let mut other = usual.clone();
        other.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        compiler(other).told_otherwise(&compiler(usual.clone()))
    };
    assert_eq!(key(json!({ "port": 1179 })), Some("port"));
    assert_eq!(key(json!({ "asn": 64513 })), Some("asn"));
    assert_eq!(key(json!({ "vxlan": { "vni": 7 } })), Some("tunnel"));
    assert_eq!(key(json!({ "selection": { "maxPaths": 1 } })), None);
}
