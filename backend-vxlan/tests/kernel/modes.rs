//! Pods of three nodes talk in every mode, over both underlays.

use backend_vxlan::Vxlan;
use serde_json::{Value, json};
use testlab::bed::{Cluster, Node, run_json};

/// The device of the route to a pod network.
fn device_of(node: &Node, prefix: &str) -> String {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let routes = node.netns.run(|| run_json(&format!("ip -j {family} route show {prefix}"))).unwrap();
    routes[0]["dev"].as_str().unwrap().to_owned()
}

/// Nodes 1 and 2 on one segment, node 9 on the other.
fn everybody_talks(section: Value) -> Cluster {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 9], &section);
    cluster.all_pairs_talk();
    cluster
}

#[test]
fn pods_talk_through_vxlan_over_ipv4() {
    let cluster = everybody_talks(json!({}));
    assert_eq!(device_of(&cluster.nodes[0], "10.244.2.0/24"), "cnidarian.1");
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1450);
}

#[test]
fn pods_talk_through_vxlan_over_ipv6() {
    let cluster = everybody_talks(json!({ "underlay": "ipv6", "vni": 7, "port": 4789 }));
    assert_eq!(device_of(&cluster.nodes[0], "fd00:2::/64"), "cnidarian.7");
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1430);
}

#[test]
fn direct_routing_wraps_only_what_crosses_segments() {
    let cluster = everybody_talks(json!({ "mode": "direct-routing" }));
    for prefix in ["10.244.2.0/24", "fd00:2::/64"] {
        assert_eq!(device_of(&cluster.nodes[0], prefix), "eth0");
    }
    for prefix in ["10.244.9.0/24", "fd00:9::/64"] {
        assert_eq!(device_of(&cluster.nodes[0], prefix), "cnidarian.1");
    }
}

#[test]
fn host_gw_routes_plainly() {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 3], &json!({ "mode": "host-gw" }));
    cluster.all_pairs_talk();
    assert_eq!(device_of(&cluster.nodes[0], "10.244.2.0/24"), "eth0");
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1500);
}

#[test]
fn pods_talk_through_user_space_over_ipv4() {
    let cluster = everybody_talks(json!({ "mode": "udp" }));
    assert_eq!(device_of(&cluster.nodes[0], "10.244.9.0/24"), "cnidarian-udp");
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1472);
}

#[test]
fn pods_talk_through_user_space_over_ipv6() {
    everybody_talks(json!({ "mode": "udp", "underlay": "ipv6" }));
}
