//! Pods of several nodes over BGP: who is reached, by which way, and that nothing is lost when nodes and roles change.

use crate::sessions::Sessions;
use backend_bgp::Bgp;
use cni_core::backend::{Change, Gauge};
use cni_core::model::{Endpoint, EndpointId, NetworkItem, NetworkKey};
use net_linux::marks::LEARNED_PROTOCOL;
use net_linux::monitor::{Event, Group, Monitor};
use net_linux::netns::NetNs;
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use testlab::bed::{Cluster, Stream, run, try_run};
use tokio::runtime::Runtime;

fn no_loss(stream: Stream) {
    assert!(stream.sent > 20, "{stream:?} proves nothing");
    assert_eq!(stream.sent, stream.came, "{stream:?}");
}

/// Counts changes of learned routes in a namespace.
struct Writes(Runtime, Monitor);

impl Writes {
    fn count(netns: &NetNs) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let monitor = runtime.block_on(async { Monitor::open_in(netns, &[Group::Routes]).unwrap() });
        Self(runtime, monitor)
    }

    fn taken(mut self) -> usize {
        // The host route that shows that a session is there again may still be on its way out.
        let is_learned = |event: &Event| match event {
            Event::Route(_, route) => {
                let is_host = route.destination.prefix_len() == route.destination.max_prefix_len();
                route.protocol == LEARNED_PROTOCOL && !is_host
            }
            _ => false,
        };
        self.0.block_on(async {
            let heard = std::iter::from_fn(|| self.1.try_next().unwrap());
            heard.filter(|notice| is_learned(&notice.event)).count()
        })
    }
}

#[test]
fn routes_are_plain_inside_a_segment_and_tunnelled_across() {
    let cluster = Cluster::new(&Bgp, &[1, 2, 9], &json!({ "encapsulation": "CrossSubnet" }));
    cluster.wait_all_pairs();
    let way = |prefix: &str| {
        let family = if prefix.contains(':') { "-6" } else { "-4" };
        cluster.nodes[0].netns.run(|| run(&format!("ip {family} route get {prefix}"))).unwrap()
    };
    for (address, device) in
        [("10.244.2.2", "eth0"), ("fd00:2::2", "eth0"), ("10.244.9.2", "cnidarian.bgp"), ("fd00:9::2", "cnidarian.bgp")]
    {
        let found = way(address);
        assert!(found.contains(&format!("dev {device} ")), "{address}: {found}");
    }
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1450);
}

#[test]
fn always_wraps_inside_a_segment_too() {
    let cluster = Cluster::new(&Bgp, &[1, 2], &json!({ "encapsulation": "Always" }));
    cluster.wait_all_pairs();
    let found = cluster.nodes[0].netns.run(|| run("ip route get 10.244.2.2")).unwrap();
    assert!(found.contains("dev cnidarian.bgp"), "{found}");
}

#[test]
fn an_agent_that_restarts_loses_no_packet_and_no_route() {
    let mut cluster = Cluster::new(&Bgp, &[1, 2, 9], &json!({ "encapsulation": "CrossSubnet" }));
    cluster.wait_all_pairs();
    let pod = cluster.pods.remove(0);
    let (near, far) = (cluster.pods[0].addresses[0], cluster.pods[1].addresses[1]);
    // More than once: what is gone for half a millisecond is not lost each time.
    for (at, address) in [(1, near), (2, far), (1, near), (2, far)] {
        let writes = Writes::count(&cluster.nodes[at].netns);
        let outcome = pod.stream_while(address, || {
            cluster.nodes[at].stop();
            cluster.nodes[at].start();
            cluster.introduce(&cluster.nodes[at]);
            // Established again on both sides when a new route gets through.
            let extra = Change::Put(NetworkItem::Endpoint(cluster.nodes[at].endpoint_with([10, 99, 0, 1].into())));
            cluster.nodes[at].stage_all(vec![extra]);
            cluster.wait_learned(0, "10.99.0.1/32", true);
        });
        no_loss(outcome);
        assert_eq!(writes.taken(), 0, "learned routes were written that were there");
        let endpoint = cluster.nodes[at].endpoint_with([10, 99, 0, 1].into());
        let addresses = vec![endpoint.addresses[0], endpoint.addresses[1]];
        let plain = Endpoint { addresses, ..endpoint };
        cluster.nodes[at].stage_all(vec![Change::Put(NetworkItem::Endpoint(plain))]);
        cluster.wait_learned(0, "10.99.0.1/32", false);
    }
}

#[test]
fn labels_make_reflectors_and_move_them_without_loss() {
    let section = json!({ "mode": "reflectors", "reflectors": { "selector": "has(rr)", "clusterId": "10.0.0.1" } });
    let mut cluster = Cluster::labelled(&Bgp, &[1, 2, 3, 4], &section, &[(3, "rr")]);
    cluster.wait_all_pairs();
    let pod = cluster.pods.remove(0);
    let address = cluster.pods[0].addresses[0];
    let probe = |cluster: &Cluster, last: u8| {
        let extra = Change::Put(NetworkItem::Endpoint(cluster.nodes[1].endpoint_with([10, 99, 0, last].into())));
        cluster.nodes[1].stage_all(vec![extra]);
        cluster.wait_learned(0, &format!("10.99.0.{last}/32"), true);
    };
    let outcome = pod.stream_while(address, || {
        cluster.label(3, &["rr"]);
        probe(&cluster, 1);
        // The new one is known to all before the old one goes.
        cluster.wait_sessions(0, 2);
        probe(&cluster, 2);
        cluster.label(2, &[]);
        probe(&cluster, 3);
    });
    no_loss(outcome);
}

/// A mesh is a cluster in which every node reflects.
#[test]
fn a_mesh_becomes_reflectors_and_a_mesh_again_without_loss() {
    let section = json!({ "mode": "reflectors", "reflectors": { "selector": "!has(client)" } });
    let mut cluster = Cluster::new(&Bgp, &[1, 2, 3, 4], &section);
    cluster.wait_all_pairs();
    (0..4).for_each(|at| cluster.wait_sessions(at, 3));
    let pod = cluster.pods.remove(0);
    let address = cluster.pods[0].addresses[0];
    let outcome = pod.stream_while(address, || {
        for _ in 0..2 {
            cluster.label(0, &["client"]);
            cluster.label(1, &["client"]);
            // With nodes 3 and 4 only, once these have told what node 2 did.
            (0..2).for_each(|at| cluster.wait_sessions(at, 2));
            (2..4).for_each(|at| cluster.wait_sessions(at, 3));
            assert!(cluster.learned(0, "10.244.2.0/24"));
            cluster.label(1, &[]);
            cluster.label(0, &[]);
            (0..4).for_each(|at| cluster.wait_sessions(at, 3));
        }
    });
    no_loss(outcome);
}

/// Until the session comes up that two clients need once they are none, the reflectors go on.
#[test]
fn clients_that_become_reflectors_are_reflected_to_until_they_have_a_session_with_each_other() {
    let section = json!({ "mode": "reflectors", "reflectors": { "selector": "!has(client)" } });
    let labels = [(1, "client"), (2, "client")];
    let mut cluster = Cluster::labelled(&Bgp, &[1, 2, 3, 4], &section, &labels);
    cluster.wait_all_pairs();
    let pod = cluster.pods.remove(0);
    let address = cluster.pods[0].addresses[0];
    let first = cluster.nodes[0].netns.clone();
    let on_first = |line: &str| first.run(|| run(line)).unwrap();
    on_first("nft add table inet refuse");
    on_first("nft add counter inet refuse tries");
    for (hook, other) in [("output", "ip daddr"), ("input", "ip saddr")] {
        on_first(&format!("nft add chain inet refuse {hook} {{ type filter hook {hook} priority 0 ; }}"));
        let refuse = "tcp dport 179 counter name tries reject with tcp reset";
        on_first(&format!("nft add rule inet refuse {hook} {other} 192.0.2.2 {refuse}"));
    }
    let tries = || {
        let shown = on_first("nft list counter inet refuse tries");
        let count = shown.split_whitespace().skip_while(|word| *word != "packets").nth(1).unwrap();
        count.parse::<u32>().unwrap()
    };
    let outcome = pod.stream_while(address, || {
        cluster.label(1, &[]);
        cluster.label(0, &[]);
        // Both have tried, and one of them again a second later.
        let deadline = Instant::now() + Duration::from_secs(20);
        while tries() < 3 {
            assert!(Instant::now() < deadline, "{} tries", tries());
            std::thread::sleep(Duration::from_millis(10));
        }
        on_first("nft delete table inet refuse");
        (0..4).for_each(|at| cluster.wait_sessions(at, 3));
    });
    no_loss(outcome);
}

#[test]
fn a_borrowed_address_is_announced_alone_and_withdrawn_with_its_pod() {
    let cluster = Cluster::new(&Bgp, &[1, 2], &json!({}));
    cluster.wait_all_pairs();
    let borrowed: IpAddr = [10, 244, 1, 77].into();
    let endpoint = cluster.nodes[1].endpoint_with(borrowed);
    let id = endpoint.id.clone();
    cluster.nodes[1].stage_all(vec![Change::Put(NetworkItem::Endpoint(endpoint))]);
    // More specific than the unreachable block of node 1 itself.
    cluster.wait_learned(0, "10.244.1.77/32", true);
    assert!(!cluster.learned(0, "10.244.2.2/32"), "a pod inside its node's block is not announced alone");
    cluster.nodes[1].stage_all(vec![Change::Remove(NetworkKey::Endpoint(id))]);
    cluster.wait_learned(0, "10.244.1.77/32", false);
    assert!(cluster.learned(0, "10.244.2.0/24"));
    // With the node all of its routes go.
    cluster.nodes[0].stage_all(vec![Change::Remove(NetworkKey::Peer(cluster.nodes[1].name()))]);
    cluster.wait_learned(0, "10.244.2.0/24", false);
    cluster.wait_learned(0, "fd00:2::/64", false);
}

#[test]
fn a_tunnel_device_that_somebody_deletes_comes_back_with_all_that_hangs_on_it() {
    let cluster = Cluster::new(&Bgp, &[1, 9], &json!({ "encapsulation": "CrossSubnet" }));
    cluster.wait_all_pairs();
    cluster.nodes[0].netns.run(|| run("ip link delete cnidarian.bgp")).unwrap();
    cluster.wait_all_pairs();
}

#[test]
fn a_route_into_the_underlay_is_learned_by_nobodys_kernel() {
    let cluster = Cluster::new(&Bgp, &[1, 2], &json!({}));
    // An address of the segment on a pod is announced like any that lies outside of the node's blocks.
    let endpoint = cluster.nodes[1].endpoint_with([192, 0, 2, 200].into());
    cluster.nodes[1].stage_all(vec![Change::Put(NetworkItem::Endpoint(endpoint))]);
    let endpoint = cluster.nodes[1].endpoint_with([10, 99, 0, 1].into());
    let other = Endpoint { id: EndpointId::of("other", "eth0").unwrap(), ..endpoint };
    let addresses = other.addresses[2..].to_vec();
    let other = Endpoint { addresses, ..other };
    cluster.nodes[1].stage_all(vec![Change::Put(NetworkItem::Endpoint(other))]);
    // What was announced later is there.
    cluster.wait_learned(0, "10.99.0.1/32", true);
    assert!(!cluster.learned(0, "192.0.2.200/32"));
}

#[test]
fn a_learned_route_that_somebody_deletes_comes_back() {
    let cluster = Cluster::new(&Bgp, &[1, 2], &json!({}));
    cluster.wait_all_pairs();
    cluster.nodes[0].netns.run(|| run("ip route delete 10.244.2.0/24 protocol 204")).unwrap();
    cluster.wait_learned(0, "10.244.2.0/24", true);
    // The device's fall takes routes and objects along; afterwards all of them are there again.
    cluster.nodes[0]
        .netns
        .run(|| {
            run("ip link set eth0 down");
            run("ip link set eth0 up");
            run("ip address replace 2001:db8:a::1/64 dev eth0 nodad");
        })
        .unwrap();
    cluster.wait_learned(0, "10.244.2.0/24", true);
    cluster.wait_learned(0, "fd00:2::/64", true);
}

#[test]
fn people_are_told_what_is_announced_to_whom_and_why() {
    let cluster = Cluster::new(&Bgp, &[1, 2], &json!({ "communities": { "blue": ["65001:7"] } }));
    cluster.wait_all_pairs();
    let node = &cluster.nodes[0];
    let peers = node.ask("bgp peers", &[]).unwrap();
    assert_eq!((&peers[0]["peer"], &peers[0]["state"]), (&json!("node/node-2"), &json!("Established")), "{peers}");
    let prefixes = |answer: serde_json::Value| -> Vec<String> {
        let mut found: Vec<String> =
            answer.as_array().unwrap().iter().map(|row| row["prefix"].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    assert_eq!(prefixes(node.ask("bgp received", &["node-2"]).unwrap()), ["10.244.2.0/24", "fd00:2::/64"]);
    assert_eq!(prefixes(node.ask("bgp advertised", &["node/node-2"]).unwrap()), ["10.244.1.0/24", "fd00:1::/64"]);
    assert_eq!(node.ask("bgp routes", &[]).unwrap().as_array().unwrap().len(), 4);
    let why = node.ask("bgp explain", &["10.244.2.0/24"]).unwrap();
    assert_eq!((&why[0]["from"], &why[0]["verdict"]), (&json!("node/node-2"), &json!("best")), "{why}");
    assert_eq!(why[0]["match"], "exact", "{why}");
    let told = node.ask("bgp explain", &["10.244.1.0/24", "node-2"]).unwrap();
    assert_eq!(told["verdict"], "told");
    // A pod's address is in no table: the block that leads there is.
    let why = node.ask("bgp explain", &["10.244.2.2"]).unwrap();
    let found = (&why[0]["prefix"], &why[0]["match"], &why[0]["from"]);
    assert_eq!(
        found,
        (&json!("10.244.2.0/24"), &json!("longest that holds 10.244.2.2"), &json!("node/node-2")),
        "{why}"
    );
    let told = node.ask("bgp explain", &["10.244.1.2", "node-2"]).unwrap();
    assert_eq!((&told["prefix"], &told["verdict"]), (&json!("10.244.1.0/24"), &json!("told")), "{told}");
    assert!(node.ask("bgp explain", &["198.51.100.1"]).is_err());
    assert!(node.ask("bgp received", &["nobody"]).is_err());
    assert!(node.ask("bgp weather", &[]).unwrap_err().to_string().contains("bgp peers"));
    let up = node.gauges().into_iter().find(|gauge| gauge.name == "bgp_peer_up").unwrap();
    assert_eq!((up.labels, up.value), (vec![("peer", "node/node-2".to_owned())], 1.0));
}

#[test]
fn a_plan_says_what_another_section_would_do_to_sessions_and_does_nothing() {
    let section = json!({ "communities": { "blue": ["65001:7"] } });
    let cluster = Cluster::new(&Bgp, &[1, 2], &section);
    cluster.wait_sessions(0, 1);
    let plan = |change: serde_json::Value| {
        let mut other = section.clone();
        other.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let plan = cluster.nodes[0].plan_for(&other).unwrap();
        plan.steps.iter().map(|step| format!("{:?} {}: {}", step.action, step.object, step.detail)).collect::<Vec<_>>()
    };
    let node = |effect: &str| vec![format!("Update bgp peer node/node-2: {effect}")];
    assert_eq!(plan(json!({})), [""; 0]);
    assert_eq!(plan(json!({ "session": { "maxPrefixes": { "limit": 100 } } })), node("applied live"));
    let resets = node("session resets: ttl is agreed on when a session begins");
    assert_eq!(plan(json!({ "session": { "gtsm": 1 } })), resets);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "geheim").unwrap();
    let resets = node("session resets: password is agreed on when a session begins");
    assert_eq!(plan(json!({ "session": { "passwordFile": file } })), resets);
    let tor = json!({ "peers": [{ "name": "tor", "address": "192.0.2.254", "asn": 65001 }] });
    assert_eq!(plan(tor), ["Create bgp peer tor: a session with 192.0.2.254 begins"]);
    let all = "Update bgp speaker: all sessions reset: routerId is agreed on when a session begins";
    assert_eq!(plan(json!({ "routerId": "198.51.100.9" })), [all]);
    let none = plan(json!({ "mode": "none" }));
    let gone = "Delete bgp peer node/node-2: the session with 192.0.2.2 ends, and its routes go";
    assert!(none.contains(&gone.to_owned()), "{none:?}");
    let refused = cluster.nodes[0].plan_for(&json!({ "session": { "bfd": { "multiplier": 0 } } })).unwrap_err();
    assert!(refused.to_string().contains("bgp.session.bfd.multiplier: "), "{refused}");
    cluster.wait_sessions(0, 1);
}

#[test]
fn what_the_backend_before_us_left_is_taken_away_and_does_not_hold_the_port_of_our_tunnel() {
    let mut cluster = Cluster::new(&Bgp, &[1, 2], &json!({ "encapsulation": "Always" }));
    cluster.wait_all_pairs();
    cluster.nodes[0].stop();
    let plant = || {
        run("ip link delete cnidarian.bgp");
        run("ip link add cnidarian.1 type vxlan id 1 local 192.0.2.1 dstport 4789");
        run("ip link set cnidarian.1 alias cnidarian:vxlan-backend up");
        run("ip nexthop add id 3405774849 via 192.0.2.99 dev eth0 protocol 203");
        run("ip route add 10.99.0.0/24 nhid 3405774849 protocol 203");
    };
    cluster.nodes[0].netns.run(plant).unwrap();
    cluster.nodes[0].start();
    cluster.introduce(&cluster.nodes[0]);
    let left = || run("ip route show 10.99.0.0/24") + &run("ip nexthop show protocol 203");
    assert_eq!(cluster.nodes[0].netns.run(left).unwrap(), "");
    assert!(cluster.nodes[0].netns.run(|| try_run("ip link show dev cnidarian.1")).unwrap().is_err());
    cluster.wait_all_pairs();
}

#[test]
fn an_address_that_is_not_the_nodes_own_is_a_problem_that_people_see_until_it_is() {
    let cluster = Cluster::new(&Bgp, &[1], &json!({ "listenAddresses": ["198.51.100.77"] }));
    cluster.introduce(&cluster.nodes[0]);
    let deadline = Instant::now() + testlab::patience::stretched(Duration::from_secs(10));
    let wait = |what: &str, holds: &dyn Fn(&str) -> bool| {
        while !cluster.nodes[0].ask("bgp peers", &[]).is_ok_and(|peers| holds(&peers.to_string())) {
            assert!(Instant::now() < deadline, "{what}: {}", cluster.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait("it is told of", &|peers| peers.contains("this node") && peers.contains("198.51.100.77:179"));
    cluster.nodes[0].netns.run(|| run("ip address add 198.51.100.77/32 dev lo")).unwrap();
    wait("it is heard at", &|peers| !peers.contains("this node"));
}

#[test]
fn a_peer_whose_password_comes_after_the_start_is_served_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let session = json!({ "passwordFile": file });
    let tor = json!({ "name": "tor", "address": "192.0.2.254", "asn": 65001, "session": session });
    let mut cluster = Cluster::new(&Bgp, &[1, 2], &json!({ "peers": [tor] }));
    // Anew, so that no device comes up after the start: that would be a reason to look again.
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    cluster.introduce(&cluster.nodes[0]);
    let deadline = Instant::now() + testlab::patience::stretched(Duration::from_secs(10));
    let wait = |what: &str, holds: &dyn Fn(&str) -> bool| {
        while !cluster.nodes[0].ask("bgp peers", &[]).is_ok_and(|peers| holds(&peers.to_string())) {
            assert!(Instant::now() < deadline, "{what}: {}", cluster.survey());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait("the speaker does not begin without it", &|peers| peers.contains("node/"));
    let row = || {
        let peers = cluster.nodes[0].ask("bgp peers", &[]).unwrap();
        peers.as_array().unwrap().iter().find(|peer| peer["peer"] == "tor").cloned().unwrap_or_default()
    };
    let value = |name: &str| {
        let gauges = cluster.nodes[0].gauges();
        let is_it = |gauge: &&Gauge| gauge.name == name && gauge.labels[0].1 == "tor";
        gauges.iter().find(is_it).map(|gauge| (gauge.labels.clone(), gauge.value))
    };
    let problem = format!("password file {}: entity not found", file.display());
    assert_eq!((&row()["state"], &row()["address"]), (&json!("left out"), &json!("192.0.2.254")));
    assert_eq!(row()["problem"], json!(problem));
    assert_eq!(value("bgp_peer_up").unwrap().1, 0.0);
    let labels = vec![("peer", "tor".to_owned()), ("reason", "password-file".to_owned())];
    assert_eq!(value("bgp_peer_problem"), Some((labels, 1.0)));
    std::fs::write(&file, "geheim").unwrap();
    wait("the password is there and the peer is not", &|peers| !peers.contains("left out"));
    assert_eq!(row()["problem"], json!(null));
    assert_eq!(value("bgp_peer_problem"), None);
}
