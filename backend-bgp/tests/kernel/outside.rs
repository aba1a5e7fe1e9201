//! Peers that are no nodes, of other makes: how their sessions are made and kept, what they are told, and how fast a way
//! through one of them is left.

use crate::routers::{Bird, Frr, Host};
use crate::sessions::Sessions;
use backend_bgp::Bgp;
use cni_core::backend::Change;
use cni_core::model::{LocalBlock, NetworkItem};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use testlab::bed::{Cluster, Underlays, cable, run, wait_for};

/// What routers outside announce.
const TARGET: &str = "203.0.113.1";
const PATIENCE: Duration = Duration::from_secs(30);
/// Hold time is 90 s.
const LONG_BEFORE_HOLD_TIME: Duration = Duration::from_secs(20);

fn target() -> IpAddr {
    TARGET.parse().unwrap()
}

/// A peer on segment A.
fn peer(name: &str, number: u8, session: Value) -> Value {
    json!({ "name": name, "address": format!("192.0.2.{number}"), "asn": 65_000 + u32::from(number), "session": session })
}

/// BIRD's side of that, to the first node.
fn session(number: u8, more: &str) -> String {
    format!(
        "protocol bgp node1 from node {{ local 192.0.2.{number} as {}; neighbor 192.0.2.1 as 64512; {more} }}\n",
        65_000 + u32::from(number)
    )
}

fn bird(underlays: &Underlays, number: u8, more: &str) -> Bird {
    Bird::start(Host::plugged(underlays, number, TARGET), &session(number, more))
}

/// The kernel's way from the first node.
fn way(cluster: &Cluster) -> String {
    cluster.nodes[0].netns.run(|| run(&format!("ip route get {TARGET}"))).unwrap()
}

#[test]
fn bfd_leaves_the_way_through_a_router_that_went_silent_long_before_the_hold_time() {
    let bfd = json!({ "bfd": { "intervalMilliseconds": 100, "multiplier": 3 } });
    let section = json!({ "peers": [peer("first", 7, bfd.clone()), peer("second", 8, bfd)] });
    let cluster = Cluster::new(&Bgp, &[1], &section);
    let bfd = "protocol bfd { interface \"*\" { min rx interval 100 ms; min tx interval 100 ms; multiplier 3; }; }\n";
    let longer = "ipv4 { export filter { bgp_path.prepend(65008); accept; }; };";
    let start = |number, more| {
        let sessions = bfd.to_owned() + &session(number, &format!("bfd; {more}"));
        Bird::start(Host::plugged(&cluster.underlays, number, TARGET), &sessions)
    };
    let _routers = [start(7, ""), start(8, longer)];
    cluster.wait_sessions(0, 2);
    let through = |number: u8| way(&cluster).contains(&format!("via 192.0.2.{number} "));
    wait_for("the short way is taken", PATIENCE, || through(7));
    let up = || {
        let peers = cluster.nodes[0].ask("bgp peers", &[]).unwrap();
        peers.as_array().unwrap().iter().all(|peer| peer["bfd"] == "up")
    };
    wait_for("BFD is up", PATIENCE, up);
    let pod = &cluster.pods[0];
    wait_for("the target answers", PATIENCE, || pod.reaches(target()));
    let stream = pod.stream_while(target(), || {
        // Nobody else's carrier changes: only silence tells.
        cluster.underlays.cut(7);
        wait_for("the other way is taken", LONG_BEFORE_HOLD_TIME, || through(8));
        wait_for("the target answers by the other way", LONG_BEFORE_HOLD_TIME, || pod.reaches(target()));
    });
    println!("longest gap after a cut, BFD 3 x 100 ms: {:?}", stream.longest_gap);
    assert!(stream.longest_gap > Duration::ZERO, "nothing was cut");
    assert!(stream.longest_gap < LONG_BEFORE_HOLD_TIME, "{stream:?}");
}

#[test]
fn an_unnumbered_peer_is_found_on_its_device_and_carries_pods() {
    let uplink = json!({ "name": "uplink", "interface": "eth1", "asn": "external" });
    let cluster = Cluster::new(&Bgp, &[1], &json!({ "peers": [uplink] }));
    let host = Host::apart(TARGET);
    cable((&cluster.nodes[0].netns, "eth1"), (&host.pod.netns, "net0"));
    cluster.nodes[0].netns.run(|| run("ip link set eth1 up")).unwrap();
    host.pod.netns.run(|| run("ip link set net0 up")).unwrap();
    let bgpd = format!(
        "router bgp 65007\n bgp router-id {TARGET}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         neighbor net0 interface remote-as external\n neighbor net0 timers connect 1\n address-family ipv4 unicast\n  \
         network {TARGET}/32\n  neighbor net0 activate\n exit-address-family\n"
    );
    let frr = Frr::start(host, &bgpd);
    let found = || {
        let peers = cluster.nodes[0].ask("bgp peers", &[]).unwrap();
        peers[0]["state"] == "Established" && peers[0]["address"].as_str().is_some_and(|at| at.starts_with("fe80::"))
    };
    wait_for("the session is there", PATIENCE, found);
    let pod = &cluster.pods[0];
    wait_for("the target answers", PATIENCE, || pod.reaches(target()));
    assert!(way(&cluster).contains("via inet6 fe80::"), "{}", way(&cluster));
    assert!(frr.host.way("10.244.1.2").contains("via inet6 fe80::"), "{}", frr.host.way("10.244.1.2"));
}

fn with_password(file: &Path) -> Value {
    json!({ "passwordFile": file })
}

#[test]
fn a_session_comes_about_with_the_password_of_the_file_and_with_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (right, wrong) = (write("right", "geheim\n"), write("wrong", "falsch\n"));
    let peers = [peer("tor", 7, with_password(&right)), peer("other", 8, with_password(&wrong))];
    let cluster = Cluster::new(&Bgp, &[1], &json!({ "peers": peers }));
    let password = "password \"geheim\";";
    let (first, second) = (bird(&cluster.underlays, 7, password), bird(&cluster.underlays, 8, password));
    first.wait_established("node1");
    cluster.wait_learned(0, &format!("{TARGET}/32"), true);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        let said = second.ask("show protocols node1");
        assert!(!said.contains("Established"), "{said}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// BIRD works out anew what its clock showed then, so it differs by a millisecond now and then.
const SAME_SESSION: Duration = Duration::from_millis(500);

/// The time of day since when BIRD's session with the first node is established.
fn since(bird: &Bird) -> Duration {
    let answer = bird.ask("show protocols node1");
    let line = answer.lines().find(|line| line.contains("Established")).unwrap_or_else(|| panic!("{answer}"));
    let time = line.split_whitespace().find(|word| word.contains(':')).unwrap_or_else(|| panic!("{line}"));
    time.split(':')
        .map(|part| part.parse::<f64>().unwrap())
        .fold(Duration::ZERO, |sum, part| sum * 60 + Duration::from_secs_f64(part))
}

#[test]
fn a_password_that_changes_in_its_file_counts_soon_and_a_file_that_goes_away_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "falsch").unwrap();
    let cluster = Cluster::new(&Bgp, &[1], &json!({ "peers": [peer("tor", 7, with_password(&file))] }));
    let tor = bird(&cluster.underlays, 7, "password \"geheim\";");
    cluster.wait_sessions(0, 0);
    // As secrets are mounted: a new file takes the place of the old one.
    let new = directory.path().join("new");
    std::fs::write(&new, "geheim\n").unwrap();
    std::fs::rename(&new, &file).unwrap();
    tor.wait_established("node1");
    let problem = || cluster.nodes[0].ask("bgp peers", &[]).unwrap()[0]["problem"].clone();
    assert_eq!(problem(), json!(null));
    let before = since(&tor);
    let goes_on = || since(&tor).abs_diff(before) < SAME_SESSION;
    std::fs::remove_file(&file).unwrap();
    wait_for("the file is missed", PATIENCE, || problem() != json!(null));
    assert!(goes_on());
    std::fs::write(&file, "geheim\n").unwrap();
    wait_for("the file is there again", PATIENCE, || problem() == json!(null));
    assert!(goes_on());
}

#[test]
fn a_drained_node_says_so_and_its_traffic_moves_before_its_session_goes() {
    let section = json!({
        "nodes": [{ "selector": "has(maintenance)", "drain": true }],
        "peers": [{ "name": "tor", "nodeSelector": "!has(gone)", "address": "192.0.2.7", "asn": 65007 }],
    });
    let mut cluster = Cluster::new(&Bgp, &[1, 2], &section);
    // Both nodes announce one address, each with a pod that has it.
    for (node, pod) in cluster.nodes.iter().zip(&cluster.pods) {
        pod.netns.run(|| run("ip address add 10.99.0.1/32 dev eth0")).unwrap();
        node.stage_all(vec![Change::Put(NetworkItem::Endpoint(node.endpoint_with([10, 99, 0, 1].into())))]);
    }
    // The first node while it is not on its way out.
    let choice = "ipv4 { import filter { if bgp_next_hop = 192.0.2.1 then bgp_local_pref = 200; \
                  if (65535,0) ~ bgp_community then bgp_local_pref = 0; accept; }; };";
    let neighbours = [1, 2].map(|node| {
        format!("protocol bgp node{node} from node {{ local 192.0.2.7 as 65007; neighbor 192.0.2.{node} as 64512; {choice} }}\n")
    });
    let tor = Bird::start(Host::plugged(&cluster.underlays, 7, TARGET), &neighbours.concat());
    let through = |number: u8| tor.host.way("10.99.0.1").contains(&format!("via 192.0.2.{number} "));
    tor.wait_established("node1");
    tor.wait_established("node2");
    wait_for("the first node is used", PATIENCE, || through(1));
    let service = IpAddr::from([10, 99, 0, 1]);
    wait_for("the service answers", PATIENCE, || tor.host.pod.reaches(service));
    let from_first = "show route 10.99.0.1/32 protocol node1 all";
    assert!(!tor.ask(from_first).contains("(65535,0)"));
    let stream = tor.host.pod.stream_while(service, || {
        cluster.label(0, &["maintenance"]);
        tor.wait(from_first, |answer| answer.contains("BGP.community: (65535,0)"));
        wait_for("the second node is used", PATIENCE, || through(2));
        // The session is there still, and the pods of the node are reached.
        assert!(tor.ask("show protocols node1").contains("Established"));
        assert!(tor.host.pod.reaches([10, 244, 1, 2].into()));
        cluster.label(0, &["maintenance", "gone"]);
        tor.wait("show protocols node1", |answer| !answer.contains("Established"));
        // Its pods are reached by way of the other node.
        wait_for("the pods are reached", PATIENCE, || tor.host.pod.reaches([10, 244, 1, 2].into()));
    });
    assert!(stream.sent > 20, "{stream:?} proves nothing");
    assert_eq!(stream.sent, stream.came, "{stream:?}");
}

/// A block of a pool on the first node.
fn block(cluster: &Cluster, prefix: &str, pool: &str) {
    let (prefix, pool) = (prefix.parse().unwrap(), Some(pool.into()));
    let block = LocalBlock { prefix, pool, encapsulation: None, node_address: None };
    cluster.nodes[0].stage_all(vec![Change::Put(NetworkItem::Block(block))]);
}

#[test]
fn blocks_carry_the_communities_of_their_pool_and_a_filter_decides_which_go_out() {
    let section = |default: &str| {
        let blue = json!({ "if": { "communities": { "any": ["65001:7"] } }, "then": "accept" });
        let red = json!({ "if": { "prefixes": [{ "prefix": "10.246.0.0/16", "at-most": 32 }] },
                          "set": { "communities": { "add": ["65001:9"] }, "prepend": { "times": 2 } }, "then": "accept" });
        json!({
            "communities": { "blue": ["65001:7", "65001:1:2"] },
            "policies": { "out": { "statements": [blue, red], "default": default } },
            "peers": [peer("tor", 7, json!({ "export": "out" }))],
        })
    };
    let cluster = Cluster::new(&Bgp, &[1], &section("reject"));
    block(&cluster, "10.245.1.0/26", "blue");
    block(&cluster, "10.246.1.0/26", "red");
    let tor = bird(&cluster.underlays, 7, "");
    let blue = tor.wait("show route 10.245.1.0/26 all", |answer| answer.contains("BGP.as_path: 64512"));
    assert!(blue.contains("BGP.community: (65001,7)\n"), "{blue}");
    assert!(blue.contains("BGP.large_community: (65001, 1, 2)"), "{blue}");
    let red = tor.wait("show route 10.246.1.0/26 all", |answer| answer.contains("BGP.as_path: 64512 64512 64512"));
    assert!(red.contains("BGP.community: (65001,9)\n"), "{red}");
    let all = tor.ask("show route protocol node1");
    assert!(!all.contains("10.244.1.0/24"), "what no statement lets out: {all}");
    // Another policy is told on the same session.
    let before = since(&tor);
    cluster.nodes[0].stage_all(vec![Change::Config(section("accept"))]);
    tor.wait("show route protocol node1", |answer| answer.contains("10.244.1.0/24"));
    assert!(since(&tor).abs_diff(before) < SAME_SESSION);
}

#[test]
fn a_peer_outside_cannot_lead_what_goes_to_nodes_its_way_and_nobody_else_is_told() {
    let peers = [peer("tor", 7, json!({})), peer("other", 8, json!({}))];
    let cluster = Cluster::new(&Bgp, &[1, 9], &json!({ "encapsulation": "CrossSubnet", "peers": peers }));
    let refused = [
        ("198.51.100.9/32", "NodeAddress"),
        ("192.0.2.1/32", "Underlay"),
        ("192.0.2.128/25", "Underlay"),
        ("169.254.169.254/32", "SpecialAddresses"),
    ];
    let routes: String = refused.iter().map(|(prefix, _)| format!("route {prefix} blackhole; ")).collect();
    let sessions = session(7, "") + &format!("protocol static taken {{ ipv4; {routes} }}\n");
    let _tor = Bird::start(Host::plugged(&cluster.underlays, 7, TARGET), &sessions);
    let other = bird(&cluster.underlays, 8, "");
    cluster.wait_learned(0, &format!("{TARGET}/32"), true);
    other.wait_established("node1");
    let node = &cluster.nodes[0];
    for (prefix, why) in refused {
        let verdict = || node.ask("bgp explain", &[prefix]).map(|paths| paths[0]["verdict"].clone());
        wait_for("it came", PATIENCE, || verdict().is_ok_and(|verdict| verdict == format!("refused: {why}")));
        assert!(!cluster.learned(0, prefix), "{prefix}");
    }
    let told = node.ask("bgp advertised", &["other"]).unwrap().to_string();
    assert!(refused.iter().all(|(prefix, _)| !told.contains(prefix)), "{told}");
    let received = node.ask("bgp received", &["tor"]).unwrap();
    let reasons = received.as_array().unwrap().iter().filter(|row| row["refused"] != json!(null)).count();
    assert_eq!(reasons, refused.len(), "{received}");
    cluster.wait_all_pairs();
}
