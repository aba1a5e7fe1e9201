//! Laws of the configuration: defaults, ranges, refusals.

use super::*;
use bgp_speaker::config::TtlSecurity;
use serde_json::json;

fn refusal(section: &serde_json::Value) -> String {
    Config::from_json(section).unwrap_err().to_string()
}

#[test]
fn an_empty_section_is_a_mesh_in_one_system_without_tunnel() {
    let config = Config::from_json(&serde_json::Value::Null).unwrap();
    assert_eq!((config.asn.get(), config.port.get()), (64_512, 179));
    assert_eq!((config.mode, config.encapsulation, config.tunnel), (Mode::Mesh, Encapsulation::Never, None));
    assert_eq!(config.families, Family::ALL);
}

#[test]
fn each_bad_value_names_key_value_and_what_is_right() {
    let peer = |more: serde_json::Value| {
        let mut peer = json!({ "name": "tor", "address": "192.0.2.254", "asn": 65001 });
        for (key, value) in more.as_object().unwrap() {
            peer[key] = value.clone();
        }
        json!({ "peers": [peer] })
    };
    for (section, message) in [
        (json!({ "asn": 0 }), "bgp.asn: is 0; write an AS number from 1 to 4294967295"),
        (
            json!({ "routerId": "0.0.0.0" }),
            "bgp.routerId: is 0.0.0.0; write a BGP identifier like 192.0.2.1, not 0.0.0.0",
        ),
        (json!({ "port": 0 }), "bgp.port: is 0; write a port from 1 to 65535"),
        (
            json!({ "mode": "reflectors" }),
            "bgp.reflectors: is missing: mode reflectors needs `reflectors: {selector: ..}`",
        ),
        (
            json!({ "vxlan": {} }),
            "bgp.vxlan: is given, but `encapsulation` is Never; set that to CrossSubnet or Always, or remove this",
        ),
        (
            json!({ "encapsulation": "Always", "vxlan": { "vni": 0 } }),
            "bgp.vxlan.vni: is 0; write an integer from 1 to 16777215",
        ),
        (
            json!({ "tunnel": "ipip" }),
            "bgp.tunnel: is given, but `encapsulation` is Never; set that to CrossSubnet or Always, or remove this",
        ),
        (
            json!({ "encapsulation": "Always", "tunnel": "ipip", "vxlan": {} }),
            "bgp.vxlan: is given, but `tunnel` is ipip; set that to vxlan, or remove this",
        ),
        (
            json!({ "encapsulation": "Always", "ipip": {} }),
            "bgp.ipip: is given, but `tunnel` is vxlan; set that to ipip, or remove this",
        ),
        (
            json!({ "encapsulation": "Always", "tunnel": "ipip", "families": ["ipv6"] }),
            "bgp.tunnel: is ipip, which carries IPv4 only, and `families` has none of it; write vxlan",
        ),
        (
            json!({ "encapsulation": "Always", "tunnel": "ipip", "ipip": { "deviceName": "" } }),
            "bgp.ipip.deviceName: is \"\"; write an interface name of 1 to 15 bytes",
        ),
        (json!({ "modes": "mesh" }), "bgp.modes: no such key; did you mean `mode`?"),
        (
            peer(json!({ "asn": "internl" })),
            "bgp.peers[0].asn: is \"internl\"; write an AS number from 1 to 4294967295, internal, or external",
        ),
        (
            peer(json!({ "session": { "holdSeconds": 2 } })),
            "bgp.peers[0].session.holdSeconds: is 2 s; must be 0, or 3 to 65535 s (RFC 4271, section 4.2)",
        ),
        (
            peer(json!({ "session": { "import": "none" } })),
            "bgp.peers[0].session.import: is \"none\"; write the name of one of `policies`: there are none",
        ),
        (
            peer(json!({ "session": { "multihop": 2, "gtsm": 1 } })),
            "bgp.peers[0].session.gtsm: stands beside `multihop`; leave one (gtsm says how many hops, too)",
        ),
        (
            peer(json!({ "peerSelector": "all()" })),
            "bgp.peers[0]: has a peerSelector beside an address or interface; leave one",
        ),
        (peer(json!({ "reflectorClient": true })), "bgp.peers[0].reflectorClient: needs an internal peer"),
        (
            json!({ "communities": { "p": ["65001"] } }),
            "bgp.communities.p[0]: \"65001\" is no community: ASN:VALUE with two numbers of 0 to 65535, or a well-known name such as no-export; or three numbers for a large one",
        ),
    ] {
        assert_eq!(refusal(&section), message);
    }
    let twice = json!({ "listenRanges": [
        { "name": "a", "range": "10.0.0.0/8", "asn": 65001 }, { "name": "b", "range": "10.1.0.0/16", "asn": 65001 }
    ] });
    assert!(refusal(&twice).starts_with("bgp.listenRanges[1].range: "), "{}", refusal(&twice));
    for section in [
        json!({ "nodes": [{ "selector": "role ==" }] }),
        json!({ "nodes": [{ "selector": 7 }] }),
        json!({ "peers": [{ "name": "x" }] }),
        json!({ "peers": [{ "name": "a/b", "address": "192.0.2.9", "asn": 1 }] }),
        json!({ "families": ["ipv4", "ipv4"] }),
        json!({ "mtu": 1279 }),
        json!({ "session": { "passwordFile": "secret" } }),
        json!({ "serviceAdvertisement": { "clusterIPs": ["10.96.0.1/12"] } }),
        json!({ "serviceAdvertisement": { "clusterIPs": ["0.0.0.0/0"] } }),
        json!({ "serviceAdvertisement": { "clusterIPs": ["10.96.0.0/12", "127.0.0.0/8"] } }),
        json!({ "serviceAdvertisement": { "clusterIPs": ["fe80::/64"] } }),
        json!({ "policies": { "p": { "statements": [{ "set": { "next-hop": "nowhere" } }], "default": "accept" } } }),
    ] {
        assert!(refusal(&section).starts_with("bgp."), "{section}: {}", refusal(&section));
    }
    assert_eq!(refused(Config::from_json(&json!({ "asn": 0 })).unwrap_err()).field, Some("asn"));
}

/// Fields are called as they are written, not as the speaker calls them: each refusal names a key that the section takes.
#[test]
fn what_the_speaker_refuses_is_named_by_the_key_of_the_section() {
    for (key, value) in [
        ("multihop", json!(0)),
        ("gtsm", json!(255)),
        ("holdSeconds", json!(1)),
        ("connectRetrySeconds", json!(0)),
        ("sendHoldSeconds", json!(9)),
        ("shutdown", json!("x".repeat(256))),
        ("bfd.intervalMilliseconds", json!(1)),
        ("bfd.multiplier", json!(0)),
        ("addPath.sendMax", json!(0)),
        ("maxPrefixes.limit", json!(0)),
        ("maxPrefixes.warnPercent", json!(101)),
        ("longLivedStaleSeconds", json!(0)),
        ("strictRole", json!(true)),
        ("localAddress", json!("2001:db8::1")),
        ("removePrivateAsns", json!(true)),
        ("role", json!("peer")),
        ("defaultOriginate", json!(["ipv6"])),
    ] {
        let mut session = json!({ "families": ["ipv4"] });
        let (outer, inner) = key.split_once('.').unwrap_or((key, ""));
        session[outer] = match (outer, inner) {
            (_, "") => value,
            ("addPath", _) => json!({ "mode": "both", inner: value }),
            ("maxPrefixes", "warnPercent") => json!({ "limit": 1, inner: value }),
            _ => json!({ inner: value }),
        };
        let asn = if ["role", "removePrivateAsns"].contains(&key) { "internal" } else { "external" };
        let peer = json!({ "name": "tor", "address": "192.0.2.254", "asn": asn, "session": session });
        let refused = refusal(&json!({ "peers": [peer] }));
        assert!(refused.starts_with(&format!("bgp.peers[0].session.{key}: ")), "{key}: {refused}");
        if key != "localAddress" {
            let range = json!({ "name": "far", "range": "192.0.2.0/24", "asn": asn, "session": session });
            let refused = refusal(&json!({ "listenRanges": [range] }));
            assert!(refused.starts_with(&format!("bgp.listenRanges[0].session.{key}: ")), "{key}: {refused}");
        }
        if asn == "external" && !["strictRole", "localAddress"].contains(&key) {
            let refused = refusal(&json!({ "session": session }));
            assert!(refused.starts_with(&format!("bgp.session.{key}: ")), "{key}: {refused}");
        }
    }
    for (section, path) in [
        (json!({ "selection": { "maxPaths": 65 } }), "bgp.selection.maxPaths: "),
        (json!({ "gracefulRestart": { "timeSeconds": 4096 } }), "bgp.gracefulRestart.timeSeconds: "),
        (json!({ "gracefulRestart": { "staleTimeSeconds": 0 } }), "bgp.gracefulRestart.staleTimeSeconds: "),
    ] {
        assert!(refusal(&section).starts_with(path), "{}", refusal(&section));
    }
}

#[test]
fn a_policy_that_only_makes_sense_on_the_way_out_is_refused_on_the_way_in_alone() {
    let section = |way: &str| {
        json!({
            "policies": { "own": { "statements": [{ "set": { "next-hop": "self" }, "then": "accept" }], "default": "accept" } },
            "session": { way: "own" }
        })
    };
    assert!(Config::from_json(&section("export")).is_ok());
    assert!(refusal(&section("import")).starts_with("bgp.session.import: "));
}

#[test]
fn what_is_said_of_a_session_arrives_in_it() {
    let config = Config::from_json(&json!({ "session": {
        "gtsm": 1, "holdSeconds": 9, "sendHoldSeconds": 0, "bfd": { "intervalMilliseconds": 100 }, "families": ["ipv4"],
        "maxPrefixes": { "limit": 10 }, "addPath": { "mode": "receive" }, "passwordFile": "/run/secret"
    } }))
    .unwrap();
    let session = &config.session.config;
    assert_eq!((session.ttl, session.hold.hold_seconds, session.hold.send_hold), (TtlSecurity::AtMost(1), 9, None));
    assert_eq!(session.bfd.as_ref().map(|bfd| (bfd.interval.as_millis(), bfd.multiplier)), Some((100, 3)));
    assert_eq!((session.max_prefixes.len(), session.add_path.len()), (1, 1));
    assert!(config.session.says_ttl && config.session.password_file.is_some());
}

#[test]
fn two_rules_that_one_node_has_for_certain_share_no_address_and_no_range() {
    let peers = |first: serde_json::Value, second: serde_json::Value| {
        let peer = |name: &str, nodes: serde_json::Value| {
            let mut peer = json!({ "name": name, "address": "192.0.2.254", "asn": 65001 });
            if !nodes.is_null() {
                peer["nodeSelector"] = nodes;
            }
            peer
        };
        json!({ "peers": [peer("tor", first), peer("again", second)] })
    };
    let (all, seven, eight) = (json!(null), json!("rack == '7'"), json!("rack == '8'"));
    for section in [peers(all.clone(), all.clone()), peers(seven.clone(), all.clone()), peers(all, seven.clone())] {
        let message =
            "bgp.peers[1].address: 192.0.2.254 is also that of peer tor; each peer needs an address of its own";
        assert_eq!(refusal(&section), message);
    }
    assert!(refusal(&peers(seven.clone(), seven.clone())).starts_with("bgp.peers[1].address: "));
    assert!(Config::from_json(&peers(seven, eight)).is_ok());
    let late = json!({ "listenRanges": [
        { "name": "some", "range": "10.1.0.0/16", "asn": 65001, "nodeSelector": "has(x)" },
        { "name": "all", "range": "10.0.0.0/8", "asn": 65001 }
    ] });
    assert!(refusal(&late).starts_with("bgp.listenRanges[1].range: 10.0.0.0/8 overlaps 10.1.0.0/16 of range some"));
    let twice = json!({ "listenAddresses": ["192.0.2.1", "192.0.2.1"] });
    assert_eq!(refusal(&twice), "bgp.listenAddresses[1]: is 192.0.2.1 again; write each address once");
}
