//! Graceful restart: RFC 4724, with the whole speaker on both sides.

use super::bed::{SOON, announce, arrives, chain, chain_configs, config, network, peer};
use crate::speaker::Beginning;
use crate::types::Family;
use std::time::Duration;

#[test]
fn a_speaker_that_dies_and_comes_back_in_time_loses_no_route_anywhere() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    let last = announce(&mut network, nodes[2], "10.0.2.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(arrives(&mut network, nodes[0], last).is_some());
    network.run_for(SOON);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(10));
    let kept = |network: &crate::testkit::Network| {
        network.fib(nodes[2]).contains_key(&first)
            && network.fib(nodes[0]).contains_key(&last)
            && network.fib(nodes[1]).len() == 2
    };
    assert!(kept(&network), "while it is away");
    let [_, two, _] = chain_configs();
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    let lost = network.run_until(Duration::from_secs(600), |network| !kept(network));
    assert_eq!(lost, None);
    assert!(network.is_in_sync(nodes[1]));
    assert!(network.speaker(nodes[2]).unwrap().peer("two").unwrap().stale.is_empty());
}

#[test]
fn after_a_restart_the_last_end_of_rib_is_enough_also_when_nothing_else_comes() {
    let (mut network, nodes) = chain();
    network.run_for(SOON);
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(2));
    let [_, mut two, _] = chain_configs();
    // They come one by one, whenever it occurs to them.
    two.peers.values_mut().for_each(|peer| peer.passive = true);
    let patience = two.restart_patience;
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    let took = network.run_until(SOON, |network| network.is_in_sync(nodes[1]));
    assert!(took.is_some_and(|took| took < patience), "{took:?}");
}

#[test]
fn a_speaker_that_does_not_come_back_loses_its_routes_when_its_time_is_over() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(119));
    assert!(network.fib(nodes[2]).contains_key(&first));
    network.run_for(Duration::from_secs(2));
    assert!(!network.fib(nodes[2]).contains_key(&first));
}

#[test]
fn what_is_not_announced_again_after_a_restart_goes_with_the_end_of_rib() {
    let (mut network, nodes) = chain();
    let stays = announce(&mut network, nodes[1], "10.0.1.0/24");
    let ends = announce(&mut network, nodes[1], "10.0.9.0/24");
    assert!(arrives(&mut network, nodes[2], ends).is_some());
    network.run_for(SOON);
    network.kill(nodes[1]);
    let [_, two, _] = chain_configs();
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    announce(&mut network, nodes[1], "10.0.1.0/24");
    let took = network.run_until(Duration::from_secs(120), |network| {
        assert!(network.fib(nodes[2]).contains_key(&stays));
        !network.fib(nodes[2]).contains_key(&ends)
    });
    // Its peers are capable and have nothing to wait for themselves: nobody waits for a timer.
    assert!(took.is_some_and(|took| took < Duration::from_secs(30)), "{took:?}");
}

#[test]
fn a_peer_that_never_sends_its_end_of_rib_holds_nothing_back_for_longer_than_the_restart_time() {
    let mut one = config(1, 65_001);
    one.peers.insert("two".into(), peer(2, 65_002));
    one.restart.time_seconds = 40;
    // Two waits for the absent three, as long as its patience is: it owes one its End-of-RIB so long.
    let mut two = config(2, 65_002);
    two.peers.insert("one".into(), peer(1, 65_001));
    two.peers.insert("three".into(), peer(3, 65_003));
    two.restart_patience = Duration::from_secs(3_000);
    two.restart.time_seconds = 3_000;
    let (mut network, nodes) = network(&[one.clone(), two.clone()]);
    network.kill(nodes[0]);
    network.kill(nodes[1]);
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    network.start(nodes[0], one, &Beginning::Restarted(Family::ALL.into())).unwrap();
    let own = announce(&mut network, nodes[0], "10.0.0.0/24");
    // Two is restarting itself, so one owes it no waiting.
    let took = network
        .run_until(Duration::from_secs(60), |network| network.speaker(nodes[1]).unwrap().explain(&own).is_some());
    assert!(took.is_some_and(|took| took <= Duration::from_secs(41)), "{took:?}");
}

#[test]
fn a_session_shut_down_by_its_administrator_keeps_nothing() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    let [_, mut two, _] = chain_configs();
    two.peers.get_mut("three").unwrap().shutdown = Some("maintenance".to_owned());
    network.with(nodes[1], |speaker, now, out| speaker.reconfigure(now, two, out)).unwrap().unwrap();
    network.run_for(Duration::from_secs(1));
    assert!(!network.fib(nodes[2]).contains_key(&first));
    let seen = network.speaker(nodes[2]).unwrap().peer("two").unwrap().last.unwrap().to_string();
    assert!(seen.contains("maintenance"), "{seen}");
}

/// Two was killed and is back, its peers have told everything, and its kernel has not said how their next hops are reached.
fn without_next_hops() -> (crate::testkit::Network, Vec<crate::testkit::NodeId>) {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    let last = announce(&mut network, nodes[2], "10.0.2.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(arrives(&mut network, nodes[0], last).is_some());
    network.run_for(SOON);
    network.kill(nodes[1]);
    network.mute(nodes[1], true);
    network.run_for(Duration::from_secs(2));
    let [_, two, _] = chain_configs();
    network.start(nodes[1], two, &Beginning::Restarted(Family::ALL.into())).unwrap();
    network.run_for(SOON);
    let speaker = network.speaker(nodes[1]).unwrap();
    assert_eq!(speaker.rib().prefixes(Family::Ipv4), 2, "they have told everything");
    assert!(speaker.is_deferring() && !network.is_in_sync(nodes[1]));
    (network, nodes)
}

#[test]
fn after_a_restart_the_kernels_routes_stay_until_it_has_said_how_their_next_hops_are_reached() {
    let (mut network, nodes) = without_next_hops();
    let kept = network.fib(nodes[1]).clone();
    assert_eq!(kept.len(), 2, "without a next hop they would have been called gone");
    network.mute(nodes[1], false);
    let took = network.run_until(SOON, |network| {
        assert_eq!(network.fib(nodes[1]), &kept);
        network.is_in_sync(nodes[1])
    });
    assert_eq!(took, Some(Duration::ZERO), "the last answer is enough");
    network.run_for(SOON);
    assert_eq!(network.fib(nodes[1]), &kept);
}

#[test]
fn after_a_restart_a_kernel_that_says_nothing_of_next_hops_is_waited_for_as_long_as_the_restart_time_only() {
    let (mut network, nodes) = without_next_hops();
    let [_, two, _] = chain_configs();
    let limit = Duration::from_secs(two.restart.time_seconds.into()) - SOON;
    let took = network.run_until(2 * limit, |network| network.is_in_sync(nodes[1]));
    assert_eq!(took, Some(limit));
    assert!(network.fib(nodes[1]).is_empty(), "nothing is known of the ways there");
}
