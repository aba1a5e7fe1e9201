//! IPIP on kernels that have it; on others that it is refused with the reason, and the rest is skipped by name.

use crate::sessions::Sessions;
use backend_bgp::Bgp;
use backend_bgp::config::TunnelKind;
use backend_bgp::probe::probe;
use cni_core::backend::{Backend, Capability, ErrorKind, OpenRequest};
use serde_json::{Value, json};
use testlab::bed::{Cluster, run};

fn section(encapsulation: &str) -> Value {
    json!({ "encapsulation": encapsulation, "tunnel": "ipip" })
}

/// Whether to go on; says why not.
fn is_there(test: &str) -> bool {
    match probe(Some(&TunnelKind::Ipip)).require(&[Capability::Tunnel]) {
        Ok(()) => true,
        Err(error) => {
            println!("skipped {test}: {error}");
            false
        }
    }
}

fn way(cluster: &Cluster, address: &str) -> String {
    cluster.nodes[0].netns.run(|| run(&format!("ip route get {address}"))).unwrap()
}

#[test]
fn ipip_is_refused_with_the_reason_where_the_kernel_has_none() {
    if probe(Some(&TunnelKind::Ipip)).has(Capability::Tunnel) {
        println!("skipped: this kernel has ipip");
        return;
    }
    // A node for its context: the backend it runs is another.
    let cluster = Cluster::new(&Bgp, &[1], &json!({}));
    let request = OpenRequest {
        node: cluster.nodes[0].context(),
        config: section("Always"),
        state_dir: std::env::temp_dir(),
        host_stack_for: Vec::new(),
    };
    let open = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Bgp.open(request)).map(|_| ()).unwrap_err()
    };
    let error = cluster.nodes[0].netns.run(open).unwrap();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.to_string().contains("load the kernel's module ipip, or write `tunnel: vxlan`"), "{error}");
}

#[test]
fn ipip_wraps_ipv4_across_segments_and_leaves_the_rest_plain() {
    if !is_there("ipip_wraps_ipv4_across_segments_and_leaves_the_rest_plain") {
        return;
    }
    let cluster = Cluster::new(&Bgp, &[1, 2, 9], &section("CrossSubnet"));
    assert_eq!(cluster.nodes[0].pod_mtu_bytes, 1480);
    (0..3).for_each(|at| cluster.wait_sessions(at, 2));
    // IPv6 across is plain, and the router knows no pods.
    let pods = &cluster.pods;
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let of = cluster.nodes[to].number;
        cluster.wait_learned(from, &format!("10.244.{of}.0/24"), true);
        pods[from].talks_to(pods[to].addresses[0]);
    }
    pods[0].talks_to(pods[1].addresses[1]);
    assert!(way(&cluster, "10.244.9.2").contains("dev cnidarian.bgp "), "{}", way(&cluster, "10.244.9.2"));
    assert!(way(&cluster, "10.244.2.2").contains("via 192.0.2.2 dev eth0 "), "{}", way(&cluster, "10.244.2.2"));
    assert!(way(&cluster, "fd00:9::2").contains("dev eth0 "), "{}", way(&cluster, "fd00:9::2"));
}

#[test]
fn ipip_always_wraps_inside_a_segment_too_and_its_device_comes_back() {
    if !is_there("ipip_always_wraps_inside_a_segment_too_and_its_device_comes_back") {
        return;
    }
    let mut cluster = Cluster::new(&Bgp, &[1, 2], &section("Always"));
    cluster.wait_all_pairs();
    assert!(way(&cluster, "10.244.2.2").contains("dev cnidarian.bgp "), "{}", way(&cluster, "10.244.2.2"));
    cluster.nodes[0].netns.run(|| run("ip link delete cnidarian.bgp")).unwrap();
    cluster.wait_all_pairs();
    // Another agent finds all as it wants it, and loses nothing.
    let pod = cluster.pods.remove(0);
    let address = cluster.pods[0].addresses[0];
    let stream = pod.stream_while(address, || {
        cluster.nodes[0].stop();
        cluster.nodes[0].start();
        cluster.introduce(&cluster.nodes[0]);
        cluster.wait_sessions(0, 1);
    });
    assert_eq!(stream.sent, stream.came, "{stream:?}");
}

/// The rules as people read them; what they do to packets is tested with the tunnel in UDP.
#[test]
fn ipip_hears_nodes_only() {
    if !is_there("ipip_hears_nodes_only") {
        return;
    }
    let cluster = Cluster::new(&Bgp, &[1, 2], &section("Always"));
    cluster.wait_all_pairs();
    let rules = cluster.nodes[0].netns.run(|| run("nft list table inet cnidarian")).unwrap();
    for rule in ["ip daddr 192.0.2.1 ip saddr @tunnel-ends4 accept", "ip daddr @tunnel-ends4 drop"] {
        assert!(rules.contains(rule), "{rules}");
    }
}
