//! Sessions and routes between speakers.

use super::bed::{SOON, address, announce, arrives, chain, config, goes, network, peer};
use crate::config::{ListenRange, MaxPrefixes, PeerConfig, RemoteAsn};
use crate::session::State;
use crate::speaker::{DownReason, PeerEvent};
use crate::types::{CeaseSubcode, Family, Notification};
use std::net::IpAddr;
use std::time::Duration;

#[test]
fn a_route_goes_from_one_end_to_the_other_and_comes_back_when_it_is_withdrawn() {
    let (mut network, nodes) = chain();
    let prefix = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], prefix).is_some());
    let routes = network.speaker(nodes[2]).unwrap().routes(Family::Ipv4);
    assert_eq!(routes[0].2.as_path.to_string(), "65002 65001");
    assert_eq!(network.fib(nodes[2])[&prefix][0].address, IpAddr::V4(address(2)));
    network.with(nodes[0], |speaker, now, _| speaker.withdraw(now, prefix));
    assert!(goes(&mut network, nodes[2], prefix).is_some());
}

#[test]
fn the_first_change_goes_out_at_once_and_those_soon_after_it_together() {
    let (mut network, nodes) = chain();
    network.run_for(SOON);
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert_eq!(arrives(&mut network, nodes[1], first), Some(Duration::from_millis(1)), "the delay of the network");
    let before = network.traffic(nodes[0]).sends;
    let others: Vec<_> = (1..5)
        .map(|number| {
            network.run_for(Duration::from_millis(1));
            announce(&mut network, nodes[0], &format!("10.0.{number}.0/24"))
        })
        .collect();
    for prefix in others {
        assert!(arrives(&mut network, nodes[1], prefix).is_some_and(|took| took <= Duration::from_millis(10)));
    }
    assert_eq!(network.traffic(nodes[0]).sends - before, 1);
}

#[test]
fn a_route_whose_next_hop_is_lost_leaves_the_kernel_and_comes_back_with_it() {
    let (mut network, nodes) = chain();
    let prefix = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], prefix).is_some());
    network.reach(nodes[2], address(2).into(), false);
    assert!(goes(&mut network, nodes[2], prefix).is_some());
    network.reach(nodes[2], address(2).into(), true);
    assert!(arrives(&mut network, nodes[2], prefix).is_some());
}

#[test]
fn a_dead_link_takes_the_routes_with_it_when_the_hold_time_is_over() {
    let (mut network, nodes) = chain();
    let prefix = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], prefix).is_some());
    network.cut(nodes[1], nodes[2]);
    network.run_for(Duration::from_secs(89));
    assert!(network.speaker(nodes[2]).unwrap().peer("two").unwrap().state == State::Established);
    network.run_for(Duration::from_secs(2));
    let status = network.speaker(nodes[2]).unwrap().peer("two").unwrap();
    assert_eq!(status.last, Some(DownReason::Sent(Notification::HoldTimerExpired)));
}

#[test]
fn peers_of_a_range_come_without_being_named_and_are_forgotten_when_they_go() {
    let mut hub = config(1, 65_001);
    let template = PeerConfig { asn: RemoteAsn::External, ..peer(1, 65_001) };
    hub.ranges.insert("nodes".into(), ListenRange { range: "192.0.2.0/24".parse().unwrap(), template, limit: 2 });
    let mut spokes = [config(2, 65_002), config(3, 65_003), config(4, 65_004)];
    for spoke in &mut spokes {
        spoke.peers.insert("hub".into(), peer(1, 65_001));
        // Without, the hub would keep what it knows of a peer that dies.
        spoke.restart.enabled = false;
    }
    let [one, two, three] = spokes;
    let (mut network, nodes) = network(&[hub, one, two, three]);
    let up = |network: &crate::testkit::Network| {
        let peers = network.speaker(nodes[0]).unwrap().peers();
        (peers.iter().filter(|peer| peer.state == State::Established).count(), peers.len())
    };
    assert!(network.run_until(SOON, |network| up(network).0 == 2).is_some());
    network.run_for(SOON);
    assert_eq!(up(&network), (2, 2), "the limit");
    network.kill(nodes[1]);
    network.run_for(Duration::from_secs(60));
    assert_eq!(up(&network), (2, 2), "the third has taken the place");
    network.kill(nodes[2]);
    network.kill(nodes[3]);
    network.run_for(SOON);
    assert_eq!(up(&network), (0, 0));
}

#[test]
fn a_range_takes_as_many_as_its_limit_says_and_more_as_soon_as_it_is_raised() {
    let hub = |limit| {
        let mut hub = config(1, 65_001);
        let template = PeerConfig { asn: RemoteAsn::External, ..peer(1, 65_001) };
        hub.ranges.insert("nodes".into(), ListenRange { range: "192.0.2.0/24".parse().unwrap(), template, limit });
        hub
    };
    let spoke = |node: u8| {
        let mut spoke = config(node, 65_000 + u32::from(node));
        spoke.peers.insert("hub".into(), peer(1, 65_001));
        spoke
    };
    let (mut network, nodes) = network(&[hub(2), spoke(2), spoke(3), spoke(4), spoke(5)]);
    let up = |network: &crate::testkit::Network| {
        let peers = network.speaker(nodes[0]).unwrap().peers();
        peers.iter().filter(|peer| peer.state == State::Established).count()
    };
    network.run_for(SOON * 10);
    assert_eq!(up(&network), 2);
    // Who is one too many sees its connections closed, and nothing is kept of it.
    assert_eq!(network.speaker(nodes[0]).unwrap().peers().len(), 2);
    let outside = |node: &crate::testkit::NodeId| {
        let hub = network.speaker(*node).unwrap().peer("hub").unwrap();
        (hub.counters.sessions, hub.counters.bytes_in) == (0, 0)
    };
    assert_eq!(nodes[1..].iter().filter(|node| outside(node)).count(), 2);
    network.with(nodes[0], |speaker, now, out| speaker.reconfigure(now, hub(3), out)).unwrap().unwrap();
    assert!(network.run_until(SOON * 10, |network| up(network) == 3).is_some());
    network.run_for(SOON * 10);
    let peers = network.speaker(nodes[0]).unwrap().peers();
    assert_eq!(peers.iter().map(|peer| peer.counters.sessions).collect::<Vec<_>>(), [1, 1, 1], "nobody was reset");
}

#[test]
fn too_many_prefixes_end_the_session_for_as_long_as_is_configured() {
    let mut one = config(1, 65_001);
    one.peers.insert("two".into(), peer(2, 65_002));
    let mut two = config(2, 65_002);
    let mut limited = peer(1, 65_001);
    let limit = MaxPrefixes { limit: 3, warn_percent: 60, restart_after: Some(Duration::from_secs(60)) };
    limited.max_prefixes.insert(Family::Ipv4, limit);
    two.peers.insert("one".into(), limited);
    let (mut network, nodes) = network(&[one, two]);
    let established = |network: &crate::testkit::Network| {
        network.speaker(nodes[1]).unwrap().peer("one").unwrap().state == State::Established
    };
    assert!(network.run_until(SOON, established).is_some());
    for block in 0..3 {
        announce(&mut network, nodes[0], &format!("10.0.{block}.0/24"));
    }
    network.run_for(Duration::from_secs(1));
    assert!(established(&network));
    assert!(network.events(nodes[1]).iter().any(|(.., event)| matches!(event, PeerEvent::NearLimit(_))));
    announce(&mut network, nodes[0], "10.0.3.0/24");
    network.run_for(Duration::from_secs(30));
    let status = network.speaker(nodes[1]).unwrap().peer("one").unwrap();
    assert!(status.held && status.received == [0, 0]);
    let seen = network.speaker(nodes[0]).unwrap().peer("two").unwrap();
    let told = network.events(nodes[0]).iter().any(|(.., event)| {
        let PeerEvent::Down(DownReason::Received(Notification::HardReset(reason))) = event else { return false };
        matches!(**reason, Notification::Cease(CeaseSubcode::MaxPrefixes, _))
    });
    assert!(told, "{seen:?}");
    network.with(nodes[0], |speaker, now, _| speaker.withdraw(now, "10.0.3.0/24".parse().unwrap()));
    assert!(network.run_until(Duration::from_secs(120), established).is_some());
}

#[test]
fn nobody_else_gets_a_session() {
    let (hub, mut stranger) = (config(1, 65_001), config(2, 65_002));
    stranger.peers.insert("hub".into(), peer(1, 65_001));
    let (mut network, nodes) = network(&[hub, stranger]);
    network.run_for(Duration::from_secs(300));
    let status = network.speaker(nodes[1]).unwrap().peer("hub").unwrap();
    assert_eq!((status.counters.sessions, status.counters.bytes_in), (0, 0));
}
