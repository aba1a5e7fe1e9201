//! Graceful restart: RFC 4724, with the whole speaker on both sides.

use super::bed::{SOON, address, announce, arrives, asn, chain, chain_configs, config, network, peer};
use crate::config::Config;
use crate::session;
use crate::speaker::{Beginning, ConnId, Input, Output, Speaker};
use crate::types::{Family, RouterId};
use crate::wire::Encoder;
use std::time::{Duration, Instant};

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

/// An UPDATE that withdraws 10.9.0.0/16, which nobody has: the peer still speaks. RFC 4271, section 4.3.
fn an_update() -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend([0, 26, 2, 0, 3, 16, 10, 9, 0, 0]);
    bytes
}

/// Two has restarted; one connects at once, is capable of graceful restart, has not restarted, and owes its End-of-RIB.
fn owed_by_one(two: Config) -> (Instant, Speaker) {
    let offer = session::Config {
        asn: asn(65_001),
        router_id: RouterId::new(address(1)).unwrap(),
        peer: peer(2, 65_002),
        restart: two.restart.clone(),
        restarting: false,
        forwarding_kept: Family::ALL.into(),
    };
    let (now, conn) = (Instant::now(), ConnId::In(7));
    let mut speaker = Speaker::new(now, two, &Beginning::Restarted(Family::ALL.into()), 1).unwrap();
    let (mut out, ends) = (Vec::new(), |node| (address(node), 179).into());
    speaker.handle(now, Input::Tick, &mut out);
    speaker.handle(now, Input::Accepted { conn, local: ends(2), remote: ends(1), interface: None }, &mut out);
    for bytes in [Encoder::open(&offer.open()), Encoder::keepalive()] {
        speaker.handle(now, Input::Received { conn, bytes: &bytes }, &mut out);
    }
    assert!(speaker.peer("one").unwrap().session.is_some(), "{out:?}");
    (now, speaker)
}

fn is_deferring_at(speaker: &mut Speaker, now: Instant) -> bool {
    let mut out: Vec<Output> = Vec::new();
    speaker.handle(now, Input::Tick, &mut out);
    assert_eq!(speaker.is_deferring(), !out.iter().any(|out| matches!(out, Output::InSync { .. })));
    speaker.is_deferring()
}

#[test]
fn a_peer_that_owes_its_end_of_rib_and_sends_nothing_is_waited_for_as_long_as_the_patience_only() {
    let mut two = config(2, 65_002);
    two.peers.insert("one".into(), crate::config::PeerConfig { passive: true, ..peer(1, 65_001) });
    let (patience, instant) = (two.restart_patience, Duration::from_millis(1));
    assert!(patience * 2 < Duration::from_secs(two.restart.time_seconds.into()));
    let (start, mut speaker) = owed_by_one(two.clone());
    assert!(is_deferring_at(&mut speaker, start + patience - instant));
    assert_eq!(speaker.deadline(), Some(start + patience));
    assert!(!is_deferring_at(&mut speaker, start + patience));
    // One that still sends is waited for from its last UPDATE on.
    let (start, mut speaker) = owed_by_one(two);
    let heard = start + patience / 2;
    speaker.handle(heard, Input::Received { conn: ConnId::In(7), bytes: &an_update() }, &mut Vec::new());
    assert!(is_deferring_at(&mut speaker, heard + patience - instant));
    assert!(!is_deferring_at(&mut speaker, heard + patience));
}

/// What two said of the F bit of IPv4 when its session with three began.
fn says_it_kept(network: &crate::testkit::Network, three: crate::testkit::NodeId) -> bool {
    let session = network.speaker(three).unwrap().peer("two").unwrap().session.unwrap();
    session.graceful_restart.unwrap().families.iter().all(|kept| kept.forwarding_kept)
}

#[test]
fn a_session_that_resets_without_a_restart_drops_no_route_on_either_side() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    let last = announce(&mut network, nodes[2], "10.0.2.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(arrives(&mut network, nodes[0], last).is_some());
    network.run_for(SOON);
    let sessions = |network: &crate::testkit::Network| {
        network.speaker(nodes[1]).unwrap().peers().iter().map(|peer| peer.counters.sessions).collect::<Vec<_>>()
    };
    assert_eq!(sessions(&network), [1, 1]);
    for times in 2..5 {
        let [_, mut two, _] = chain_configs();
        two.peers.get_mut("three").unwrap().extended_next_hop = times % 2 == 0;
        network
            .with(nodes[1], |speaker, now, out| {
                let one = speaker.peer("one").unwrap().id;
                speaker.reset(now, one, None, out);
                speaker.reconfigure(now, two, out)
            })
            .unwrap()
            .unwrap();
        let lost = network.run_until(Duration::from_secs(600), |network| {
            !(network.fib(nodes[2]).contains_key(&first)
                && network.fib(nodes[0]).contains_key(&last)
                && network.fib(nodes[1]).len() == 2)
        });
        assert_eq!((lost, sessions(&network)), (None, vec![times, times]));
        assert!(network.speaker(nodes[2]).unwrap().peer("two").unwrap().stale.is_empty());
    }
}

#[test]
fn a_speaker_says_that_it_kept_routes_only_of_sessions_that_it_had_itself_or_its_kernel_has_kept() {
    let (mut network, nodes) = chain();
    network.run_for(SOON);
    assert!(!says_it_kept(&network, nodes[2]));
    let reset = |network: &mut crate::testkit::Network| {
        let reset = network.with(nodes[1], |speaker, now, out| {
            let three = speaker.peer("three").unwrap().id;
            speaker.reset(now, three, None, out);
        });
        reset.unwrap();
        network.run_for(SOON);
    };
    reset(&mut network);
    assert!(says_it_kept(&network, nodes[2]));
    // Its kernel has lost them.
    network.kill(nodes[1]);
    let [_, two, _] = chain_configs();
    network.start(nodes[1], two, &Beginning::Restarted([].into())).unwrap();
    network.run_for(SOON);
    assert!(!says_it_kept(&network, nodes[2]));
    reset(&mut network);
    assert!(says_it_kept(&network, nodes[2]));
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
