//! Broken checksum offload on the path is found, turned off there, and told.

use crate::card;
use backend_vxlan::Vxlan;
use net_linux::ethtool::{Ethtool, TX_CHECKSUM_IP_GENERIC};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use testlab::bed::{Cluster, Node, tcp, try_run, udp, wait_for};

fn offload_is_on(node: &Node) -> bool {
    let features = node.netns.run(|| Ethtool::open().unwrap().features("cnidarian.1").unwrap()).unwrap();
    features.is_on(TX_CHECKSUM_IP_GENERIC)
}

#[test]
fn without_the_test_a_broken_card_lets_pings_through_and_nothing_else() {
    let cluster = Cluster::on(card::broken(), &Vxlan, &[1, 2], &json!({ "checksumOffload": "on" }));
    let (from, to) = (&cluster.pods[0], cluster.pods[1].addresses[0]);
    from.netns.run(|| try_run(&format!("ping -n -c 1 -W 5 {to}")).unwrap()).unwrap();
    assert!(!from.reaches(to) && !from.reaches(to), "the card is not broken, so the other test proves nothing");
}

#[test]
fn a_broken_path_is_found_and_offload_goes_off_and_stays_off() {
    let mut cluster = Cluster::on(card::broken(), &Vxlan, &[1, 2], &json!({}));
    for node in &cluster.nodes {
        let found = wait_for("offload goes off", Duration::from_secs(20), || !offload_is_on(node));
        println!("node {}: off after {found:?}", node.number);
    }
    let (from, to) = (&cluster.pods[0], &cluster.pods[1].addresses);
    for address in to {
        let echo = SocketAddr::new(*address, 7);
        from.netns.run(|| udp(echo, 500).unwrap()).unwrap();
        from.netns.run(|| tcp(echo, 1_000).unwrap()).unwrap();
    }
    let node = &mut cluster.nodes[0];
    node.stop();
    node.start();
    assert!(node.notices.iter().any(|notice| notice.contains("stays off")), "{:?}", node.notices);
    node.stage_all(vec![]);
    assert!(!offload_is_on(node));
}

#[test]
fn a_sound_path_keeps_its_offload_and_the_operator_can_turn_it_off() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({}));
    cluster.all_pairs_talk();
    assert!(cluster.nodes.iter().all(offload_is_on));
    let off = Cluster::new(&Vxlan, &[1, 2], &json!({ "checksumOffload": "off" }));
    off.all_pairs_talk();
    assert!(!off.nodes.iter().any(offload_is_on));
}
