//! What others do to our objects, and what nodes do to each other: repaired within a second, and nothing foreign touched.

use backend_vxlan::Vxlan;
use backend_vxlan::vtep;
use cni_core::backend::{Change, ErrorKind};
use cni_core::model::{NetworkItem, NetworkKey, Peer};
use net_linux::sysctl;
use serde_json::json;
use std::time::Duration;
use testlab::bed::{Cluster, Node, Underlays, run, run_json, try_run, v4_of, wait_for};

const A_SECOND: Duration = Duration::from_secs(1);

/// All that the backend has in a node's kernel, as iproute2 shows it.
fn state_of(node: &Node) -> Vec<String> {
    node.netns
        .run(|| {
            let commands = [
                "ip -details link show dev cnidarian.1",
                "ip address show dev cnidarian.1",
                "ip -4 route show protocol 203",
                "ip -6 route show protocol 203",
                "ip neigh show nud permanent",
                "bridge fdb show dev cnidarian.1",
                "ip nexthop",
                "sysctl -n net.ipv4.ip_forward net.ipv4.conf.cnidarian/1.rp_filter",
            ];
            let mut lines: Vec<String> = commands
                .iter()
                .flat_map(|command| {
                    let shown = try_run(command).unwrap_or_default();
                    // The index of a device that was made anew is another.
                    shown
                        .lines()
                        .map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned())
                        .collect::<Vec<_>>()
                })
                .collect();
            lines.sort();
            lines
        })
        .unwrap()
}

#[test]
fn whatever_is_deleted_behind_our_back_is_back_within_a_second() {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 3], &json!({}));
    cluster.all_pairs_talk();
    let node = &cluster.nodes[0];
    let mac = vtep::mac_of(&cluster.nodes[1].name());
    let gateway = vtep::link_local(mac);
    let before = state_of(node);
    let own = vtep::link_local(vtep::mac_of(&node.name()));
    for deed in [
        "ip link delete cnidarian.1".to_owned(),
        "ip link set cnidarian.1 down".to_owned(),
        "ip link set cnidarian.1 mtu 1300".to_owned(),
        "ip link set cnidarian.1 address 02:00:00:00:00:77".to_owned(),
        format!("ip address delete {own}/64 dev cnidarian.1"),
        "ip route delete 10.244.2.0/24".to_owned(),
        "ip -6 route delete fd00:2::/64".to_owned(),
        "ip route delete unreachable 10.244.1.0/24".to_owned(),
        "ip route delete 10.244.1.2/32".to_owned(),
        format!("bridge fdb delete {mac} dev cnidarian.1"),
        format!("bridge fdb replace {mac} dev cnidarian.1 dst 192.0.2.99"),
        format!("ip neigh delete {gateway} dev cnidarian.1"),
        format!("ip neigh replace {gateway} dev cnidarian.1 lladdr 02:00:00:00:00:99 nud permanent"),
        "ip nexthop flush".to_owned(),
    ] {
        node.netns.run(|| run(&deed)).unwrap();
        let took = wait_for(&format!("repair after `{deed}`"), A_SECOND, || state_of(node) == before);
        println!("{deed}: repaired after {took:?}");
        cluster.pods[0].talks_to(cluster.pods[1].addresses[0]);
        cluster.pods[0].talks_to(cluster.pods[1].addresses[1]);
    }
}

/// Those that Linux tells of: no resync by the clock is due in this time.
#[test]
fn a_setting_that_somebody_changes_is_back_within_a_second() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    let node = &cluster.nodes[0];
    for (path, ours, theirs) in [
        ("net/ipv4/ip_forward", "1", "0"),
        ("net/ipv6/conf/all/forwarding", "1", "0"),
        ("net/ipv4/conf/cnidarian.1/rp_filter", "2", "1"),
    ] {
        let read = || node.netns.run(|| sysctl::read(path).unwrap()).unwrap();
        assert_eq!(read(), ours);
        node.netns.run(|| sysctl::write(path, theirs).unwrap()).unwrap();
        let took = wait_for(&format!("{path} is {ours} again"), A_SECOND, || read() == ours);
        println!("{path}: repaired after {took:?}");
    }
    cluster.all_pairs_talk();
}

#[test]
fn an_agent_that_starts_again_finds_what_its_predecessor_left_and_repairs_what_happened_meanwhile() {
    let mut cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    cluster.nodes[0].stop();
    cluster.all_pairs_talk();
    let node = &mut cluster.nodes[0];
    node.netns.run(|| run("ip route delete 10.244.2.0/24")).unwrap();
    node.netns.run(|| run("ip route add unreachable 10.77.0.0/16 protocol 203")).unwrap();
    node.start();
    let peer = cluster.nodes[1].peer();
    let node = &cluster.nodes[0];
    let all = node.blocks().into_iter().chain([Change::Put(NetworkItem::Peer(peer))]).collect();
    let early = node.stage(all);
    assert_eq!(early.written, 1, "only what was missing is written: {early:#?}");
    // The pod of the former run and the orphan: nothing is deleted before the first full state.
    assert_eq!(early.waiting_for_sync, 5);
}

#[test]
fn udp_pods_talk_again_when_the_agent_is_back() {
    let mut cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "udp" }));
    cluster.all_pairs_talk();
    cluster.nodes[0].stop();
    let (pods, peer) = (&cluster.pods, cluster.nodes[1].peer());
    assert!(!pods[0].reaches(pods[1].addresses[0]));
    let device = "cnidarian-udp";
    let routes = cluster.nodes[0].netns.run(|| run_json(&format!("ip -j route show dev {device}"))).unwrap();
    assert!(routes.iter().any(|route| route["dst"] == "10.244.2.0/24"), "the routes outlive the agent: {routes:?}");
    cluster.nodes[0].start();
    cluster.nodes[0].stage_all(vec![Change::Put(NetworkItem::Peer(peer))]);
    pods[0].talks_to(pods[1].addresses[0]);
    let node = &cluster.nodes[0];
    node.netns.run(|| run(&format!("ip link delete {device}"))).unwrap();
    wait_for("the device is made anew and served", A_SECOND, || pods[0].reaches(pods[1].addresses[1]));
}

#[test]
fn a_node_that_leaves_takes_its_routes_along_and_the_others_talk_on() {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 3], &json!({}));
    let gone = &cluster.nodes[2];
    for node in &cluster.nodes[..2] {
        node.stage_all(vec![Change::Remove(NetworkKey::Peer(gone.name()))]);
        let state = state_of(node).join("\n");
        let mac = vtep::mac_of(&gone.name());
        for trace in
            ["10.244.3.0", "fd00:3::", &mac.to_string(), &vtep::link_local(mac).to_string(), &v4_of(3).to_string()]
        {
            assert!(!state.contains(trace), "{trace} is still in\n{state}");
        }
    }
    cluster.pods[0].talks_to(cluster.pods[1].addresses[0]);
}

#[test]
fn a_node_that_changes_its_address_stays_reachable() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    let [one, two] = &cluster.nodes[..] else { unreachable!() };
    // Another address.
    two.netns
        .run(|| {
            run("ip address delete 192.0.2.2/24 dev eth0");
            run("ip address add 192.0.2.77/24 dev eth0");
        })
        .unwrap();
    let mut moved = two.context();
    moved.underlay.v4 = Some("192.0.2.77/24".parse().unwrap());
    two.stage_all(vec![Change::Node(moved)]);
    let peer = Peer { v4: Some("192.0.2.77".parse().unwrap()), ..two.peer() };
    one.stage_all(vec![Change::Put(NetworkItem::Peer(peer))]);
    cluster.all_pairs_talk();
}

#[test]
fn two_nodes_with_one_pod_prefix_are_told_apart_and_the_first_keeps_it() {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 3], &json!({}));
    let thief = Peer { prefixes: cluster.nodes[1].peer().prefixes, ..cluster.nodes[2].peer() };
    let report = cluster.nodes[0].stage(vec![Change::Put(NetworkItem::Peer(thief))]);
    let error = report.problem_of(&NetworkKey::Peer(cluster.nodes[2].name())).expect("a conflict is told");
    assert_eq!(error.kind, ErrorKind::Conflict);
    cluster.pods[0].talks_to(cluster.pods[1].addresses[0]);
}

#[test]
fn host_gw_refuses_only_the_peer_behind_a_router() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "host-gw" }));
    let far = Node::new(&cluster.underlays, 9, &Vxlan, &json!({ "mode": "host-gw" }));
    let report = cluster.nodes[0].stage(vec![Change::Put(NetworkItem::Peer(far.peer()))]);
    let error = report.problem_of(&NetworkKey::Peer(far.name())).expect("the peer is refused");
    assert_eq!((error.kind, error.field), (ErrorKind::Invalid, Some("v4")));
    cluster.all_pairs_talk();
}

#[test]
fn a_foreign_device_with_our_name_or_vni_is_named_and_left_alone() {
    for (foreign, named) in [
        ("ip link add cnidarian.1 type vxlan id 99 dstport 4789 nolearning", "cnidarian.1"),
        ("ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 nolearning", "flannel.1"),
    ] {
        let cluster = Cluster::new(&Vxlan, &[], &json!({}));
        let node = Node::new(&cluster.underlays, 1, &Vxlan, &json!({}));
        node.netns.run(|| run(foreign)).unwrap();
        let before = node.netns.run(|| run("ip -details link show type vxlan")).unwrap();
        let report = node.stage(vec![Change::InSync]);
        let failure = report.failed.iter().find(|failure| failure.object == "link cnidarian.1").expect("it is told");
        assert_eq!(failure.error.kind, ErrorKind::Foreign);
        assert!(failure.error.detail.contains(named), "{}", failure.error);
        assert_eq!(node.netns.run(|| run("ip -details link show type vxlan")).unwrap(), before);
    }
}

#[test]
fn a_local_pod_does_not_wait_for_the_tunnel_and_the_tunnel_comes_once_the_foreign_device_goes() {
    let underlays = Underlays::new();
    let (mut node, far) = (Node::new(&underlays, 1, &Vxlan, &json!({})), Node::new(&underlays, 2, &Vxlan, &json!({})));
    node.netns.run(|| run("ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.0.2.1 nolearning")).unwrap();
    let peer = Change::Put(NetworkItem::Peer(far.peer()));
    let report = node.stage(node.blocks().into_iter().chain([peer, Change::InSync]).collect());
    let device = report.failed.iter().find(|failure| failure.object == "link cnidarian.1").expect("it is told");
    assert!(device.items.is_empty(), "the device is the node's own, whoever waits for it: {:?}", device.items);
    let waits = report.problem_of(&NetworkKey::Peer(far.name())).expect("the peer waits");
    assert!(waits.to_string().contains("link cnidarian.1"), "{waits}");
    let (pod, report) = node.try_attach();
    assert!(report.problem_of(&NetworkKey::Endpoint(node.endpoint())).is_none(), "{report:#?}");
    for address in &pod.addresses {
        node.netns.run(|| run(&format!("ping -n -c 1 -W 5 {address}"))).unwrap();
    }
    node.netns.run(|| run("ip link delete flannel.1")).unwrap();
    let routed = || node.netns.run(|| run("ip route show 10.244.2.0/24")).unwrap().contains("cnidarian.1");
    let took = wait_for("the way to the peer after the foreign device went", A_SECOND, routed);
    println!("recovered after {took:?}");
}

#[test]
fn a_host_reaches_pods_of_other_nodes_with_an_address_of_its_own_block() {
    let cluster = Cluster::new(&Vxlan, &[1, 9], &json!({}));
    for address in &cluster.pods[1].addresses {
        let command = format!("ip -j route get {address}");
        let route = cluster.nodes[0].netns.run(|| run_json(&command)).unwrap();
        let source = route[0]["prefsrc"].as_str().unwrap_or_default();
        assert!(["10.244.1.0", "fd00:1::"].contains(&source), "{route:?}");
        cluster.nodes[0].netns.run(|| run(&format!("ping -n -c 1 -W 5 {address}"))).unwrap();
    }
}

#[test]
fn an_address_of_a_block_that_no_pod_has_is_unreachable_at_once() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    let answer = cluster.pods[0].netns.run(|| try_run("ping -n -c 1 -W 5 10.244.2.99")).unwrap();
    assert!(answer.is_err());
    let told = cluster.pods[0]
        .netns
        .run(|| std::process::Command::new("ping").args(["-n", "-c", "1", "-W", "5", "10.244.2.99"]).output().unwrap())
        .unwrap();
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(text.contains("Unreachable"), "{text}");
}

#[test]
fn what_the_backend_before_us_left_is_taken_away() {
    let mut cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    cluster.nodes[0].stop();
    let node = &mut cluster.nodes[0];
    let plant = || {
        run("ip link add cnidarian.bgp type vxlan external dstport 4790");
        run("ip link set cnidarian.bgp alias cnidarian:bgp-backend up");
        run("ip nexthop add id 3422552064 via 192.0.2.99 dev eth0 protocol 204");
        run("ip route add 10.99.0.0/24 nhid 3422552064 protocol 204 metric 2048");
        run("ip route add 10.98.0.0/24 via 192.0.2.99 dev eth0 protocol bird");
    };
    node.netns.run(plant).unwrap();
    node.start();
    let peer = cluster.nodes[1].peer();
    let node = &cluster.nodes[0];
    let all = node.blocks().into_iter().chain([Change::Put(NetworkItem::Peer(peer)), Change::InSync]).collect();
    node.stage_all(all);
    let left = || run("ip route show protocol 204") + &run("ip nexthop show protocol 204");
    assert_eq!(node.netns.run(left).unwrap(), "");
    assert!(node.netns.run(|| try_run("ip link show dev cnidarian.bgp")).unwrap().is_err());
    assert!(node.netns.run(|| run("ip route show 10.98.0.0/24")).unwrap().contains("bird"), "a stranger's stays");
}
