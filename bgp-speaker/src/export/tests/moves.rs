//! Peers that change from one group to another on a live session.

use super::world::{World, announce, attributes, facts, group, nlri, policy};
use crate::export::GroupFacts;
use crate::rib::PeerKind;
use crate::types::{Attributes, Family, PeerId};
use ipnet::IpNet;

fn world(outs: [GroupFacts; 2]) -> World {
    let mut world = World::new();
    for peer in [2, 3, 4] {
        world.rib.peer_up(PeerId(peer), facts(peer), None);
    }
    for (peer, out) in (0..).zip(outs) {
        world.rib.peer_up(PeerId(peer), facts(peer), None);
        world.join(peer, out);
    }
    world.settle();
    world
}

fn external() -> GroupFacts {
    group(PeerKind::External)
}

/// RFC 7911: fewer paths from now on; those that are too many are withdrawn by the ids that they were told with.
#[test]
fn a_peer_that_is_told_fewer_paths_loses_those_that_are_too_many() {
    let several = |most| GroupFacts { add_path: [(Family::Ipv4, most)].into(), ..external() };
    let mut world = world([several(3), several(1)]);
    let net: IpNet = "198.51.100.0/24".parse().unwrap();
    for (peer, local_pref) in [(2, 100), (3, 200), (4, 300)] {
        let came = Attributes { local_pref: Some(local_pref), ..attributes(peer, 0xf0) };
        world.rib.update(PeerId(peer), &announce(nlri(net, 0), &came)).unwrap();
        world.watch(&[(1, 0)].into());
        world.settle();
    }
    let told = |world: &World, peer| world.listeners[&PeerId(peer)].told();
    assert_eq!(world.listeners[&PeerId(0)].routes.len(), 3);
    assert!(world.export.change(&world.rib, PeerId(0), several(1)));
    world.settle();
    assert_eq!(world.listeners[&PeerId(0)].routes.len(), 1);
    assert_eq!(told(&world, 0), told(&world, 1));
    assert_eq!(world.export.groups(), 1);
}

/// The other group has not looked at a prefix yet: what it will say is waited for.
#[test]
fn a_peer_that_moves_does_not_lose_a_route_in_between() {
    // Both groups are told of what comes from inside only: the last prefix of those that come.
    let other = GroupFacts { policy: policy(2, true), ..external() };
    let mut world = world([GroupFacts { drain: true, ..other.clone() }, other.clone()]);
    for number in 1..6u32 {
        let net: IpNet = format!("10.{number}.0.0/16").parse().unwrap();
        let from = if number == 5 { 2 } else { 1 };
        world.rib.update(PeerId(from), &announce(nlri(net, 0), &attributes(from, 0xf0))).unwrap();
    }
    world.watch(&[(1, 0)].into());
    world.flush(5);
    assert_eq!(world.listeners[&PeerId(0)].routes.len(), 1);
    assert_eq!(world.listeners[&PeerId(1)].routes.len(), 0, "its group's turn has not come");
    assert!(world.export.change(&world.rib, PeerId(0), other));
    world.flush(4);
    world.settle();
    let heard = &world.listeners[&PeerId(0)];
    assert_eq!((heard.routes.len(), heard.announced, heard.withdrawn), (1, 2, 0));
    assert_eq!(heard.told(), world.listeners[&PeerId(1)].told());
}
