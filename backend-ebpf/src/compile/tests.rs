//! Items as kernel objects, in both modes. Never a kernel.

use super::Compiler;
use crate::config::Config;
use crate::object::{Carriage, Key, Object, Target};
use cni_core::backend::{Capabilities, Capability};
use cni_core::model::{Encapsulation, Masquerade, NetworkItem, NodeContext, NodeName, Peer, PeerPrefix};
use cni_core::testkit::engine::fake;
use net_linux::host;
use serde_json::{Value, json};

fn compiler(section: Value) -> Compiler {
    let capabilities = Capabilities::default().with(Capability::GuardedTunnel);
    Compiler::new(&Config::from_json(&section).unwrap(), &fake::node(), &capabilities).unwrap()
}

fn peer(prefix: &str) -> Peer {
    Peer {
        node: NodeName::new("node-1").unwrap(),
        v4: Some([192, 0, 2, 11].into()),
        v6: Some("2001:db8::11".parse().unwrap()),
        prefixes: vec![PeerPrefix { prefix: prefix.parse().unwrap(), encapsulation: None }],
        labels: Default::default(),
        attributes: Default::default(),
    }
}

fn of(compiler: &Compiler, peer: Peer) -> Vec<(Key, Object)> {
    compiler.compile(&NetworkItem::Peer(peer)).unwrap()
}

fn refused_field(compiler: &Compiler, peer: Peer) -> &'static str {
    compiler.compile(&NetworkItem::Peer(peer)).unwrap_err().field.unwrap()
}

#[test]
fn a_peer_behind_the_tunnel_is_an_entry_and_a_route_into_the_device() {
    let compiler = compiler(json!({}));
    let objects = of(&compiler, peer("fd00:1::/64"));
    let prefix = "fd00:1::/64".parse().unwrap();
    assert!(objects.contains(&(Key::Way(prefix), Object::Way([192, 0, 2, 11].into(), Carriage::Wrapped))));
    let target = Target::Device(compiler.config().device.clone());
    assert!(objects.contains(&(Key::Route(prefix), Object::Route(target))));
    assert!(objects.iter().any(|(key, _)| matches!(key, Key::Host(host::Key::Ends(_)))), "the peer is heard");
}

#[test]
fn plain_routes_need_no_program_but_for_the_fast_path() {
    let is_of_programs = |section| {
        let compiler = compiler(section);
        let objects = of(&compiler, peer("10.1.1.0/26")).into_iter().chain(compiler.base());
        objects.filter(|(key, _)| key.is_of_programs()).count()
    };
    assert_eq!(is_of_programs(json!({ "mode": "native" })), 0);
    // The peer's entry and how long its prefix is, and the programs that it and the node want.
    assert_eq!(is_of_programs(json!({ "mode": "native", "fastPath": true })), 4);
}

#[test]
fn ipv6_pods_need_an_ipv6_gateway_and_ipv4_pods_take_either() {
    let compiler = compiler(json!({ "mode": "native" }));
    let only_v6 = Peer { v4: None, ..peer("10.1.1.0/26") };
    let gateway = Target::Via(fake::node().underlay.interface, "2001:db8::11".parse().unwrap());
    assert!(of(&compiler, only_v6).contains(&(Key::Route("10.1.1.0/26".parse().unwrap()), Object::Route(gateway))));
    assert_eq!(refused_field(&compiler, Peer { v6: None, ..peer("fd00:1::/64") }), "v6");
}

#[test]
fn a_peer_that_cannot_be_reached_here_names_its_field() {
    let (vxlan, native) = (compiler(json!({})), compiler(json!({ "mode": "native" })));
    assert_eq!(refused_field(&vxlan, Peer { v4: None, ..peer("10.1.1.0/26") }), "v4");
    assert_eq!(
        refused_field(&native, Peer { v4: Some([198, 51, 100, 1].into()), v6: None, ..peer("10.1.1.0/26") }),
        "v4"
    );
    assert_eq!(refused_field(&vxlan, peer("192.0.2.128/25")), "prefixes");
    let pooled = |encapsulation| {
        let mut peer = peer("10.1.1.0/26");
        peer.prefixes[0].encapsulation = Some(encapsulation);
        peer
    };
    assert_eq!(refused_field(&vxlan, pooled(Encapsulation::Never)), "encapsulation");
    assert_eq!(refused_field(&native, pooled(Encapsulation::Always)), "encapsulation");
    let other = Peer { attributes: [(super::ATTRIBUTE_TUNNEL.into(), "2/8472".into())].into(), ..peer("10.1.1.0/26") };
    assert_eq!(refused_field(&vxlan, other), super::ATTRIBUTE_TUNNEL);
    assert_eq!(refused_field(&vxlan, Peer { node: fake::node().name, ..peer("10.1.1.0/26") }), "node");
}

#[test]
fn programs_get_the_prefixes_that_the_chain_would_get_and_never_both() {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let (sources, keep) = (prefixes(&["10.1.0.0/17", "10.1.128.0/17"]), prefixes(&["10.1.0.0/16", "172.16.0.0/12"]));
    let node = NodeContext { masquerade: Some(Masquerade { sources, keep: keep.clone() }), ..fake::node() };
    for engine in ["nftables", "ebpf"] {
        let config = Config::from_json(&json!({ "mode": "native", "masquerade": engine })).unwrap();
        let base = Compiler::new(&config, &node, &Capabilities::default()).unwrap().base();
        let chains = base.iter().filter(|(key, _)| matches!(key, Key::Host(host::Key::Masquerade(_)))).count();
        let programs: Vec<_> = base
            .iter()
            .filter_map(|(_, object)| match object {
                Object::Masquerade(object) => Some(object.clone()),
                _ => None,
            })
            .collect();
        assert_eq!((chains, programs.len()), if engine == "ebpf" { (0, 1) } else { (1, 0) });
        for object in programs {
            assert_eq!((&object.sources, &object.keep), (&prefixes(&["10.1.0.0/16"]), &keep));
            assert_eq!(object.ports, (61_000, 4536));
        }
        let off = Compiler::new(&config, &fake::node(), &Capabilities::default()).unwrap().base();
        assert!(!off.iter().any(|(key, _)| matches!(key, Key::Masquerade | Key::Host(host::Key::Masquerade(_)))));
    }
}
