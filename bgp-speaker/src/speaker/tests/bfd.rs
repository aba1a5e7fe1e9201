//! BFD and graceful restart together: RFC 5882, section 4.3, with the whole speaker. What BFD says is said by the test.

use super::bed::{SOON, announce, arrives, chain_configs, network};
use crate::config::{Bfd, Config};
use crate::speaker::{Beginning, Input};
use crate::testkit::{Network, NodeId};
use crate::types::Family;
use ipnet::IpNet;
use std::time::Duration;

/// One, two and three in a row; three asks for BFD with two, which says that two is there.
fn watched(independent: bool) -> (Network, Vec<NodeId>, IpNet) {
    let mut configs = chain_configs();
    let bfd = Bfd { interval: Duration::from_millis(100), multiplier: 3 };
    configs[2].peers.get_mut("two").unwrap().bfd = Some(bfd);
    let (mut network, nodes) = network(&configs);
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    network.run_for(SOON);
    says(&mut network, nodes[2], true, independent);
    (network, nodes, first)
}

/// BFD of a node says something of its peer "two".
fn says(network: &mut Network, node: NodeId, up: bool, independent: bool) {
    let peer = network.speaker(node).unwrap().peer("two").unwrap().id;
    network.with(node, |speaker, now, out| speaker.handle(now, Input::Bfd { peer, up, independent }, out));
    // What was left to be told is told.
    network.run_for(Duration::from_millis(100));
}

fn is_watched(network: &Network, node: NodeId) -> bool {
    network.speaker(node).unwrap().peer("two").unwrap().bfd.is_some()
}

fn sessions(network: &Network, node: NodeId) -> u64 {
    network.speaker(node).unwrap().peer("two").unwrap().counters.sessions
}

/// Two comes back, and cannot send its End-of-RIB yet: it waits for one, which does not come.
fn comes_back(network: &mut Network, nodes: &[NodeId], independent: bool) {
    network.kill(nodes[0]);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(1));
    let [_, two, _]: [Config; 3] = chain_configs();
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    let is_back = network.run_until(Duration::from_secs(15), |network| sessions(network, nodes[2]) == 2);
    assert!(is_back.is_some());
    says(network, nodes[2], true, independent);
    let stale = network.speaker(nodes[2]).unwrap().peer("two").unwrap().stale;
    assert!(!stale.is_empty(), "its restart is not over");
}

#[test]
fn section_4_3_1_a_path_lost_while_a_peer_restarts_ends_the_restart_where_the_c_bit_is_set() {
    let (mut network, nodes, first) = watched(true);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(10));
    assert!(network.fib(nodes[2]).contains_key(&first), "two still forwards, as BFD says");
    assert!(is_watched(&network, nodes[2]));
    says(&mut network, nodes[2], false, true);
    assert!(!network.fib(nodes[2]).contains_key(&first), "two forwards nothing");
    assert!(!is_watched(&network, nodes[2]), "there is nothing left to watch over");
}

#[test]
fn section_4_3_1_a_path_lost_after_a_peer_came_back_ends_its_session_where_the_c_bit_is_set() {
    let (mut network, nodes, first) = watched(true);
    comes_back(&mut network, &nodes, true);
    says(&mut network, nodes[2], false, true);
    assert!(!network.fib(nodes[2]).contains_key(&first));
    let last = network.speaker(nodes[2]).unwrap().peer("two").unwrap().last;
    assert!(last.is_some_and(|last| last.to_string().contains("BFD")), "the session has ended");
}

#[test]
fn section_4_3_2_bfd_that_goes_down_with_a_restarting_peer_ends_no_restart_where_the_c_bit_is_clear() {
    let (mut network, nodes, first) = watched(false);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(1));
    assert!(!is_watched(&network, nodes[2]), "BFD says nothing of a peer with which it dies");
    // It was on its way.
    says(&mut network, nodes[2], false, false);
    network.run_for(Duration::from_secs(10));
    assert!(network.fib(nodes[2]).contains_key(&first));
}

#[test]
fn section_4_3_2_bfd_that_goes_down_before_the_restart_is_over_ends_no_session_where_the_c_bit_is_clear() {
    let (mut network, nodes, first) = watched(false);
    comes_back(&mut network, &nodes, false);
    says(&mut network, nodes[2], false, false);
    network.run_for(Duration::from_secs(2));
    assert!(network.fib(nodes[2]).contains_key(&first));
    assert_eq!(sessions(&network, nodes[2]), 2);
    // The restart ends as it would have: two has not heard of one again, and says so with its End-of-RIB.
    network.run_for(SOON);
    let two = network.speaker(nodes[2]).unwrap().peer("two").unwrap();
    assert!(two.stale.is_empty() && !network.fib(nodes[2]).contains_key(&first));
    assert_eq!((two.counters.sessions, two.last), (2, None));
}

/// Section 4.3.2.2: BFD was faster than any sign of a restart, so the topology has changed.
#[test]
fn section_4_3_2_2_a_path_lost_while_nobody_restarts_keeps_no_routes_whatever_the_c_bit_says() {
    for independent in [false, true] {
        let (mut network, nodes, first) = watched(independent);
        says(&mut network, nodes[2], false, independent);
        assert!(!network.fib(nodes[2]).contains_key(&first), "{independent}");
    }
}

#[test]
fn bfd_that_outlived_a_session_ends_with_the_restart_time_and_with_its_configuration() {
    let (mut network, nodes, first) = watched(true);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(119));
    assert!(is_watched(&network, nodes[2]) && network.fib(nodes[2]).contains_key(&first));
    network.run_for(Duration::from_secs(2));
    assert!(!is_watched(&network, nodes[2]) && !network.fib(nodes[2]).contains_key(&first));

    let (mut network, nodes, first) = watched(true);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(1));
    assert!(is_watched(&network, nodes[2]));
    let [_, _, three] = chain_configs();
    network.with(nodes[2], |speaker, now, out| speaker.reconfigure(now, three, out)).unwrap().unwrap();
    assert!(!is_watched(&network, nodes[2]));
    network.run_for(Duration::from_secs(1));
    assert!(network.fib(nodes[2]).contains_key(&first));
}
