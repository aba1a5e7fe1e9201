//! Outer packets and connection tracking: what is tracked, and what an operator's firewall makes of it.

use backend_vxlan::Vxlan;
use cni_core::backend::Change;
use net_linux::conntrack::Conntrack;
use serde_json::json;
use std::time::Duration;
use testlab::bed::{Cluster, Node, run, wait_for};

/// A host firewall that lets in what belongs to connections, and what `rule` says besides.
fn firewall(node: &Node, rule: &str) {
    let script = format!(
        "table inet fw {{ chain in {{ type filter hook input priority 0; policy drop; \
         ct state established,related accept; iifname lo accept; meta l4proto {{ icmp, ipv6-icmp }} accept; {rule}; }}; }}"
    );
    let load = || {
        let output = std::process::Command::new("nft").arg(&script).output().expect("the Debian package nftables");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    };
    node.netns.run(load).unwrap();
}

fn cluster(tracked: bool) -> Cluster {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "trackOuterPackets": tracked, "checksumOffload": "on" }));
    cluster.all_pairs_talk();
    cluster
}

/// How many connections to the tunnel's port a node tracks.
fn tracked_tunnels(node: &Node) -> usize {
    let flows = node.netns.run(|| Conntrack::open().unwrap().list().unwrap()).unwrap();
    flows.iter().filter(|flow| flow.original.ports.is_some_and(|(_, to)| to == 8472)).count()
}

#[test]
fn outer_packets_are_tracked_only_where_the_operator_wants_it() {
    for tracked in [false, true] {
        let cluster = cluster(tracked);
        for node in &cluster.nodes {
            firewall(node, "udp dport 8472 accept");
        }
        cluster.all_pairs_talk();
        for node in &cluster.nodes {
            assert_eq!(tracked_tunnels(node) > 0, tracked, "node {}", node.number);
        }
    }
}

/// The reason for the default: no firewall can let VXLAN in by `established`, tracked or not, so each has a rule for the
/// port. Only one that asks for `new` besides has to say `untracked` too.
#[test]
fn a_firewall_needs_a_rule_for_the_port_whether_or_not_outer_packets_are_tracked() {
    for (rule, through_untracked, through_tracked) in [
        ("accept", true, true),
        ("udp dport 8472 accept", true, true),
        ("udp dport 8472 ct state { new, untracked } accept", true, true),
        ("udp dport 8472 ct state new accept", false, true),
        ("udp dport 8473 accept", false, false),
    ] {
        for (tracked, through) in [(false, through_untracked), (true, through_tracked)] {
            let cluster = cluster(tracked);
            firewall(&cluster.nodes[1], rule);
            let reaches = (0..5).any(|_| cluster.pods[0].reaches(cluster.pods[1].addresses[0]));
            assert_eq!(reaches, through, "{rule}, trackOuterPackets: {tracked}");
        }
    }
}

#[test]
fn whatever_is_done_to_the_untracked_rules_is_put_back_and_they_go_with_the_setting() {
    let mut cluster = cluster(false);
    let node = &mut cluster.nodes[0];
    let rules = |node: &Node| node.netns.run(|| run("nft list ruleset")).unwrap().matches("notrack").count();
    assert_eq!(rules(node), 2);
    node.netns.run(|| run("nft delete table inet cnidarian")).unwrap();
    wait_for("the rules are back", Duration::from_secs(1), || rules(node) == 2);
    node.stop();
    node.section = json!({ "trackOuterPackets": true });
    node.start();
    node.stage(vec![Change::InSync]);
    assert_eq!(rules(node), 0);
}
