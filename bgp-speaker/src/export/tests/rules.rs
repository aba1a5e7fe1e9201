//! What single documents say about what is told to whom.

use super::listeners::{Listener, text};
use super::world::{OWN, World, announce, asn, attributes, facts, group, nlri, policy, withdraw};
use crate::config::PrivateAsns;
use crate::export::{Advertisement, GroupFacts, MOST_HELD, Withheld};
use crate::rib::PeerKind;
use crate::types::{
    AsPath, Attributes, Community, ExtendedCommunity, Family, NextHop, Nlri, PathId, PeerId, Role, RouterId,
};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::Arc;

const NET: &str = "198.51.100.0/24";

fn net() -> IpNet {
    NET.parse().unwrap()
}

/// Peers 0 to 5 are there; next hops are on the link.
fn world(change: impl Fn(u32, &mut GroupFacts)) -> World {
    let mut world = World::new();
    for peer in 0..6 {
        let mut out = group(facts(peer).kind);
        change(peer, &mut out);
        world.rib.peer_up(PeerId(peer), facts(peer), None);
        world.join(peer, out);
    }
    world
}

fn give(world: &mut World, peer: u32, attributes: &Attributes) {
    world.rib.update(PeerId(peer), &announce(nlri(net(), 0), attributes)).unwrap();
    world.watch(&[(1, 0), (2, 0)].into());
    world.settle();
}

/// Who was told.
fn told(world: &World) -> Vec<u32> {
    world.listeners.iter().filter(|(_, heard)| !heard.routes.is_empty()).map(|(peer, _)| peer.0).collect()
}

/// What a peer is told of a route.
fn heard(world: &World, peer: u32) -> Attributes {
    match world.export.explain(&world.rib, &world.paper, PeerId(peer), &net()) {
        Advertisement::Told(attributes) => {
            let heard = &world.listeners[&PeerId(peer)].routes;
            assert_eq!(heard.values().next(), Some(&text(&attributes)));
            Attributes::clone(&attributes)
        }
        other => panic!("peer {peer}: {other:?}"),
    }
}

fn withheld(world: &World, peer: u32) -> Withheld {
    match world.export.explain(&world.rib, &world.paper, PeerId(peer), &net()) {
        Advertisement::Withheld(why) => why,
        other => panic!("peer {peer}: {other:?}"),
    }
}

/// RFC 4271, section 9.2, and RFC 4456, section 6: peers 0 and 1 are external, 2 and 3 clients, 4 and 5 neither.
#[test]
fn routes_go_to_whom_reflection_lets_them_and_never_back() {
    for (from, to) in [(0, vec![1, 2, 3, 4, 5]), (2, vec![0, 1, 3, 4, 5]), (4, vec![0, 1, 2, 3])] {
        let mut world = world(|_, _| {});
        give(&mut world, from, &attributes(from, 0xf0));
        assert_eq!(told(&world), to, "from {from}");
        world.rib.update(PeerId(from), &withdraw(nlri(net(), 0))).unwrap();
        world.settle();
        assert!(told(&world).is_empty());
        assert!(world.listeners.values().all(|heard| heard.needless == 0));
    }
    let mut world = world(|_, _| {});
    give(&mut world, 4, &attributes(4, 0xf0));
    assert_eq!(withheld(&world, 5), Withheld::Internal);
}

/// RFC 4456, section 8.
#[test]
fn a_reflected_route_says_who_made_it_and_over_which_clusters_it_came() {
    let mut world = world(|_, out| out.next_hop_self = true);
    let came = Attributes { cluster_list: vec![facts(4).router_id], ..attributes(2, 0xf0) };
    give(&mut world, 2, &came);
    let reflected = heard(&world, 4);
    assert_eq!(reflected.originator, Some(facts(2).router_id));
    assert_eq!(reflected.cluster_list, [world.rib.own().cluster_id, facts(4).router_id]);
    assert_eq!(reflected.next_hop, came.next_hop, "section 10: the next hop stays");
    assert_eq!(reflected.local_pref, Some(100));
    let outside = heard(&world, 0);
    assert_eq!((outside.originator, outside.cluster_list, outside.local_pref), (None, Vec::new(), None));
}

/// RFC 4271, sections 5.1.2 to 5.1.5.
#[test]
fn an_external_peer_gets_our_system_our_next_hop_and_nothing_of_the_inside() {
    let mut world = world(|_, _| {});
    let came = Attributes {
        med: Some(5),
        extended: vec![ExtendedCommunity(0x4002_0000_0000_0001), ExtendedCommunity(0x0002_fc00_0000_0001)],
        ..attributes(0, 0xf0)
    };
    let came = Attributes {
        extended: {
            let mut sorted = came.extended.clone();
            sorted.sort();
            sorted
        },
        ..came
    };
    give(&mut world, 0, &came);
    let outside = heard(&world, 1);
    assert_eq!(outside.as_path, came.as_path.prepended(asn(OWN), 1));
    assert_eq!(Some(outside.next_hop), group(PeerKind::External).next_hop.v4);
    assert_eq!((outside.med, outside.local_pref), (None, None));
    assert_eq!(outside.extended, [ExtendedCommunity(0x0002_fc00_0000_0001)], "RFC 4360, section 6");
    let inside = heard(&world, 2);
    assert_eq!(inside, Attributes { local_pref: Some(100), ..came });
}

/// RFC 4271, section 5.1.3.
#[test]
fn a_next_hop_on_the_link_of_an_external_peer_stays() {
    let mut world = world(|_, out| out.link = ["203.0.113.0/24".parse().unwrap()].into());
    give(&mut world, 0, &attributes(0, 0xf0));
    assert_eq!(heard(&world, 1).next_hop, attributes(0, 0xf0).next_hop);
}

/// RFC 1997.
#[test]
fn well_known_communities_keep_a_route_in() {
    for (community, to) in [
        (Community::NO_EXPORT, vec![2, 3, 4, 5]),
        (Community::NO_EXPORT_SUBCONFED, vec![2, 3, 4, 5]),
        (Community::NO_ADVERTISE, vec![]),
    ] {
        let mut world = world(|_, _| {});
        give(&mut world, 0, &Attributes { communities: vec![community], ..attributes(0, 0xf0) });
        assert_eq!(told(&world), to, "{community}");
    }
}

/// RFC 9234, section 5, the egress procedure: by our role towards the external peer.
#[test]
fn a_route_meant_for_customers_goes_to_customers_only() {
    for (role, mark, expected) in [
        (Role::Provider, None, Some(Some(OWN))),
        (Role::Provider, Some(65_100), Some(Some(65_100))),
        (Role::RouteServer, None, Some(Some(OWN))),
        (Role::Peer, None, Some(Some(OWN))),
        (Role::Peer, Some(65_100), None),
        (Role::Customer, None, Some(None)),
        (Role::Customer, Some(65_100), None),
        (Role::RouteServerClient, Some(65_100), None),
    ] {
        let mut world = world(|_, out| out.role = Some(role));
        give(&mut world, 2, &Attributes { only_to_customer: mark.map(asn), ..attributes(2, 0xf0) });
        let expected = expected.map(|mark| mark.map(asn));
        match expected {
            Some(mark) => assert_eq!(heard(&world, 0).only_to_customer, mark, "{role:?}"),
            None => assert_eq!(withheld(&world, 0), Withheld::Leak, "{role:?}"),
        }
    }
}

/// RFC 9494, section 4.3.
#[test]
fn a_long_lived_stale_route_goes_marked_and_only_to_those_who_know() {
    let mut world = world(|peer, out| out.long_lived = peer == 2);
    give(&mut world, 0, &attributes(0, 0xf0));
    world.rib.peer_down(PeerId(0), &[Family::Ipv4]);
    world.leave(0);
    world.rib.long_lived(PeerId(0), Family::Ipv4);
    world.settle();
    assert_eq!(told(&world), [2]);
    assert!(heard(&world, 2).has(Community::LLGR_STALE));
    assert_eq!(withheld(&world, 3), Withheld::LongLived);
}

/// RFC 8326, section 4; RFC 6996.
#[test]
fn a_drained_session_says_so_and_private_numbers_are_taken_out() {
    let mut world = world(|peer, out| {
        out.drain = peer == 1;
        out.private_asns = if peer == 1 { PrivateAsns::Remove } else { PrivateAsns::Keep };
    });
    let path = [65_001, 64_600, 3_000, 4_200_000_001].map(asn);
    give(&mut world, 0, &Attributes { as_path: AsPath::sequence(path.into()), ..attributes(0, 0xf0) });
    let outside = heard(&world, 1);
    assert!(outside.has(Community::GRACEFUL_SHUTDOWN));
    assert_eq!(outside.as_path, AsPath::sequence(vec![asn(OWN), asn(3_000)]));
    assert!(!heard(&world, 2).has(Community::GRACEFUL_SHUTDOWN));
}

/// RFC 8950: an IPv6 next hop of an IPv4 route goes only to who can have it.
#[test]
fn an_ipv4_route_keeps_its_ipv6_next_hop_only_where_that_was_agreed() {
    let global = "2001:db8::1".parse().unwrap();
    let mut world = world(|peer, out| {
        if peer == 2 {
            out.extended_next_hop = [Family::Ipv4].into();
        }
        if peer == 4 {
            out.next_hop.v4 = None;
        }
    });
    let came =
        Attributes { next_hop: NextHop::V6 { global, link_local: "fe80::1".parse().ok() }, ..attributes(0, 0xf0) };
    world.rib.update(PeerId(0), &announce(nlri(net(), 0), &came)).unwrap();
    world.rib.resolve(global.into(), crate::rib::tests::ways(Some(0)));
    world.settle();
    assert_eq!(heard(&world, 2).next_hop, NextHop::V6 { global, link_local: None });
    assert_eq!(Some(heard(&world, 3).next_hop), group(PeerKind::Client).next_hop.v4);
    assert_eq!(withheld(&world, 4), Withheld::NextHop);
}

/// RFC 8950, section 4: on a link without addresses, an IPv4 address of ours elsewhere leads the peer nowhere.
#[test]
fn on_an_unnumbered_link_ipv4_routes_have_the_next_hop_of_the_link_where_that_was_agreed() {
    let own = NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: "fe80::1".parse().ok() };
    let mut world = world(|peer, out| {
        out.next_hop.v6 = Some(own);
        if peer == 1 {
            out.extended_next_hop = [Family::Ipv4].into();
        }
    });
    give(&mut world, 2, &attributes(2, 0xf0));
    assert_eq!(heard(&world, 1).next_hop, own);
    assert_eq!(Some(heard(&world, 0).next_hop), group(PeerKind::External).next_hop.v4, "not agreed");
}

/// RFC 7911, section 3: an id means the same path for as long as that path is told.
#[test]
fn several_paths_go_out_with_ids_that_stay() {
    let mut world = world(|_, out| out.add_path = [(Family::Ipv4, 2)].into());
    give(&mut world, 2, &attributes(2, 0xf0));
    let before = world.listeners[&PeerId(0)].routes.clone();
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [Nlri { prefix: net(), path: PathId(1) }]);
    // A better one comes, a third one is one too many, then the first goes.
    give(&mut world, 4, &Attributes { local_pref: Some(200), ..attributes(4, 0xf0) });
    give(&mut world, 5, &Attributes { local_pref: Some(50), ..attributes(5, 0xf0) });
    let both = &world.listeners[&PeerId(0)].routes;
    assert_eq!(both.keys().map(|nlri| nlri.path.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(both.values().next(), before.values().next(), "the first keeps its id");
    let better = both.values().nth(1).cloned();
    world.rib.update(PeerId(2), &withdraw(nlri(net(), 0))).unwrap();
    world.settle();
    let left = &world.listeners[&PeerId(0)].routes;
    assert_eq!(left.get(&Nlri { prefix: net(), path: PathId(2) }), better.as_ref());
    assert_eq!(left.len(), 2, "the third has taken the free place");
    assert_eq!(world.listeners[&PeerId(4)].needless, 0);
}

#[test]
fn a_default_route_goes_out_without_being_there() {
    let mut world = world(|peer, out| {
        if peer == 0 {
            out.default_originate = [Family::Ipv4].into();
        }
    });
    world.settle();
    assert_eq!(told(&world), [0]);
    let (nlri, _) = world.listeners[&PeerId(0)].routes.iter().next().unwrap();
    assert_eq!(nlri.prefix, "0.0.0.0/0".parse::<IpNet>().unwrap());
}

/// The same bytes for all of a group: ten clients with ten routes each do not make a hundred messages per change.
#[test]
fn a_group_is_told_once_however_many_peers_it_has() {
    let mut world = World::new();
    for peer in 0..40u32 {
        let mut client = facts(2);
        client.router_id = RouterId::new([10, 0, 0, 1 + peer as u8].into()).unwrap();
        world.rib.peer_up(PeerId(peer), client, None);
        world.join(peer, group(PeerKind::Client));
    }
    world.settle();
    let before = world.paper.made.get();
    give(&mut world, 7, &attributes(2, 0xf0));
    assert_eq!(world.paper.made.get() - before, 1);
    assert_eq!(told(&world).len(), 39);
    assert_eq!(world.export.groups(), 1);
}

/// RFC 4724, section 2: also when there is nothing to tell.
#[test]
fn the_end_of_the_table_is_said_once_and_after_it() {
    let mut world = world(|_, _| {});
    world.flush(1);
    world.settle();
    let all = BTreeSet::from(Family::ALL);
    assert!(world.listeners.values().all(|heard| heard.ends_of_rib == all && heard.routes.is_empty()));
}

/// A change of policy tells the difference, on a session that stays.
#[test]
fn a_new_export_policy_tells_only_what_is_different() {
    let mut world = world(|_, _| {});
    give(&mut world, 2, &attributes(2, 0xf0));
    let seven = Attributes { communities: vec![Community(65_001 << 16 | 7)], ..attributes(2, 0xf0) };
    world.rib.update(PeerId(2), &announce(nlri("10.0.0.0/8".parse().unwrap(), 0), &seven)).unwrap();
    world.settle();
    let counts =
        |world: &World| world.listeners.values().map(|heard| (heard.announced, heard.withdrawn)).collect::<Vec<_>>();
    let before = counts(&world);
    let out = GroupFacts { policy: policy(0, true), ..group(PeerKind::External) };
    assert!(world.export.change(&world.rib, PeerId(0), out));
    world.settle();
    let mut after = before.clone();
    after[0].1 += 1;
    assert_eq!(counts(&world), after);
    assert!(!world.export.change(
        &world.rib,
        PeerId(0),
        GroupFacts { four_octet_asn: false, ..group(PeerKind::External) }
    ));
}

/// However much happens while a peer takes nothing: it costs a bit per prefix, and it is told the newest only.
#[test]
fn a_peer_that_reads_nothing_holds_nobody_up_and_is_told_the_newest() {
    let mut world = world(|_, _| {});
    world.settle();
    let is_quiet = |heard: &Listener| heard.announced == 0;
    world.export.set_ready(PeerId(3), false);
    for round in 0..100u8 {
        world.rib.update(PeerId(2), &announce(nlri(net(), 0), &attributes(2, 0xf0 + round % 2))).unwrap();
        world.watch(&[(1, 0)].into());
        while world.flush(10) {}
    }
    assert!(is_quiet(&world.listeners[&PeerId(3)]));
    assert_eq!((world.export.backlog(PeerId(3), Family::Ipv4), world.listeners[&PeerId(0)].announced), (1, 100));
    world.settle();
    assert_eq!(world.listeners[&PeerId(3)].announced, 1);
    assert_eq!(world.export.backlog(PeerId(3), Family::Ipv4), 0);
    let last = heard(&world, 0);
    assert_eq!(last.as_path, attributes(2, 0xf1).as_path.prepended(asn(OWN), 1));
}

#[test]
fn our_own_routes_go_out_with_our_next_hop_and_our_med() {
    let mut world = world(|_, _| {});
    let own = Attributes { med: Some(3), ..Attributes::own(NextHop::V4([0, 0, 0, 0].into())) };
    world.rib.originate(net(), Arc::new(own));
    world.settle();
    assert_eq!(told(&world).len(), 6);
    assert_eq!(
        (heard(&world, 0).med, Some(heard(&world, 4).next_hop)),
        (Some(3), group(PeerKind::External).next_hop.v4)
    );
}

/// A peer that reads nothing, another that announces and withdraws ever new prefixes: memory has a bound.
#[test]
fn who_reads_nothing_while_prefixes_come_and_go_for_ever_is_named() {
    let mut world = World::new();
    for peer in [0, 1, 2] {
        world.rib.peer_up(PeerId(peer), facts(peer), None);
        world.join(peer, group(facts(peer).kind));
    }
    world.settle();
    world.export.set_ready(PeerId(1), false);
    let family = Family::Ipv4;
    let mut next = 0u32;
    while world.export.hoarders(&world.rib).is_empty() {
        let nets = (0..8192).map(|at| ipnet::Ipv4Net::new((0x0a00_0000 + ((next + at) << 4)).into(), 28).unwrap());
        let nlri: Vec<Nlri> = nets.map(|net| Nlri { prefix: net.into(), path: PathId(0) }).collect();
        next += 8192;
        let attributes = Arc::new(attributes(0, 0xf0));
        let announcements = vec![crate::types::Announcement { family, attributes, nlri: nlri.clone() }];
        world.rib.update(PeerId(0), &crate::types::Update { announcements, ..Default::default() }).unwrap();
        world.watch(&[(1, 0)].into());
        while world.flush(10_000) {}
        let withdrawals = vec![crate::types::Withdrawal { family, nlri }];
        world.rib.update(PeerId(0), &crate::types::Update { withdrawals, ..Default::default() }).unwrap();
        while world.flush(10_000) {}
        world.export.reclaim(&mut world.rib);
        assert!(world.rib.unreclaimed(family) < MOST_HELD + 10_000);
    }
    assert_eq!(world.export.hoarders(&world.rib), [PeerId(1)]);
    world.leave(1);
    world.settle();
    assert_eq!((world.rib.unreclaimed(family), world.export.hoarders(&world.rib)), (0, Vec::new()));
}
