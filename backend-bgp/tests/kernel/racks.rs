//! Two racks, each a system of its own with a router on top: who has sessions with whom, and that pods reach each other
//! across, plainly.
//!
//! ```text
//!   rack a, 64701:  node 1  node 2          rack b, 64709:  node 9  node 10
//!                      \    /                                  \    /
//!                   tor a, 65007  ------- a cable --------  tor b, 65020
//! ```

use crate::routers::{Bird, Host};
use crate::sessions::Sessions;
use backend_bgp::Bgp;
use serde_json::json;
use testlab::bed::{Cluster, cable, run, v4_of};

/// A router's sessions: with the nodes of its rack, and with the other router.
fn sessions(own: u8, nodes: [u8; 2], rack: u32, other: u8) -> String {
    let asn = |number: u8| 65_000 + u32::from(number);
    let node = |number: u8| {
        let (us, they) = (v4_of(own), v4_of(number));
        format!("protocol bgp node{number} from node {{ local {us} as {}; neighbor {they} as {rack}; }}\n", asn(own))
    };
    let across = format!(
        "protocol bgp across from node {{ local 172.16.0.{own} as {}; neighbor 172.16.0.{other} as {}; }}\n",
        asn(own),
        asn(other)
    );
    nodes.map(node).concat() + &across
}

#[test]
fn nodes_of_a_rack_have_its_router_and_each_other_and_pods_reach_the_other_rack_through_both_routers() {
    let section = json!({
        "mode": "none",
        "nodes": [{ "selector": "has(rack-a)", "asn": 64701 }, { "selector": "has(rack-b)", "asn": 64709 }],
        "peers": [
            { "name": "tor-a", "nodeSelector": "has(rack-a)", "address": "192.0.2.7", "asn": 65007 },
            { "name": "tor-b", "nodeSelector": { "matchExpressions": [{ "key": "rack-b", "operator": "Exists" }] },
              "address": "198.51.100.20", "asn": "external" },
            { "name": "in-a", "nodeSelector": "has(rack-a)", "peerSelector": "has(rack-a)" },
            { "name": "in-b", "nodeSelector": "has(rack-b)", "peerSelector": "has(rack-b)" },
        ],
    });
    let labels = [(1, "rack-a"), (2, "rack-a"), (9, "rack-b"), (10, "rack-b")];
    let cluster = Cluster::labelled(&Bgp, &[1, 2, 9, 10], &section, &labels);
    let (a, b) =
        (Host::plugged(&cluster.underlays, 7, "203.0.113.7"), Host::plugged(&cluster.underlays, 20, "203.0.113.20"));
    cable((&a.pod.netns, "across"), (&b.pod.netns, "across"));
    for (host, own) in [(&a, 7), (&b, 20)] {
        let settle = || {
            run(&format!("ip address add 172.16.0.{own}/24 dev across"));
            run("ip link set across up");
        };
        host.pod.netns.run(settle).unwrap();
    }
    let _routers =
        [Bird::start(a, &sessions(7, [1, 2], 64_701, 20)), Bird::start(b, &sessions(20, [9, 10], 64_709, 7))];
    (0..4).for_each(|at| cluster.wait_sessions(at, 2));
    let names = |at: usize| {
        let peers = cluster.nodes[at].ask("bgp peers", &[]).unwrap();
        let mut names: Vec<String> =
            peers.as_array().unwrap().iter().map(|peer| peer["peer"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(0), ["node/node-2", "tor-a"]);
    assert_eq!(names(3), ["node/node-9", "tor-b"]);
    (0..4).for_each(|at| {
        ["10.244.1.0/24", "10.244.9.0/24"].iter().enumerate().for_each(|(of, prefix)| {
            cluster.wait_learned(at, prefix, at != 2 * of);
        })
    });
    for from in &cluster.pods {
        cluster.pods.iter().for_each(|to| from.talks_to(to.addresses[0]));
    }
    let path = cluster.nodes[0].ask("bgp explain", &["10.244.9.0/24"]).unwrap();
    assert_eq!(path[0]["path"], "65007 65020 64709", "{path}");
    let way =
        |at: usize, address: &str| cluster.nodes[at].netns.run(|| run(&format!("ip route get {address}"))).unwrap();
    assert!(way(0, "10.244.10.2").contains("via 192.0.2.7 dev eth0"), "{}", way(0, "10.244.10.2"));
    assert!(way(0, "10.244.2.2").contains("via 192.0.2.2 dev eth0"), "{}", way(0, "10.244.2.2"));
}
