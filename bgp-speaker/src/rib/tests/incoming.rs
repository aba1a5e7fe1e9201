//! What is refused on the way in, and what is changed.

use super::{NET, OWN, announce, asn, best, facts, net, nlri, own, plain, put, resolve_all, tables, ways, withdraw};
use crate::config::MaxPrefixes;
use crate::policy::{Policy, RawPolicy};
use crate::rib::{NearLimit, NextHopChange, OverLimit, PathState, Protected, Protection, Refused, Rib};
use crate::types::{AsPath, Attributes, Community, Family, NextHop, PeerId, Role};
use std::sync::Arc;

fn refused(rib: &Rib) -> Option<Refused> {
    match rib.explain(&net(NET))?.paths[0].state {
        PathState::Refused(refused) => Some(refused),
        _ => None,
    }
}

/// RFC 4271, section 9.1.2.
#[test]
fn a_path_over_our_own_system_is_refused_unless_allowed_so_often() {
    let mut rib = tables(2);
    let mut looped = plain(0);
    looped.as_path = AsPath::sequence(vec![facts(0).asn, asn(OWN), asn(OWN)]);
    put(&mut rib, 0, NET, &looped);
    assert_eq!((refused(&rib), best(&rib, NET)), (Some(Refused::OwnAsn), None));
    let mut allowed = facts(0);
    allowed.allow_own_asn = 1;
    rib.peer_up(PeerId(0), allowed.clone(), None);
    assert_eq!(refused(&rib), Some(Refused::OwnAsn));
    allowed.allow_own_asn = 2;
    rib.peer_up(PeerId(0), allowed, None);
    resolve_all(&mut rib);
    assert_eq!((refused(&rib), best(&rib, NET)), (None, Some(0)));
}

/// RFC 4456, section 8.
#[test]
fn a_route_that_we_have_reflected_ourselves_is_refused() {
    let mut rib = tables(4);
    put(&mut rib, 2, NET, &Attributes { originator: Some(own().router_id), ..plain(2) });
    assert_eq!(refused(&rib), Some(Refused::Originator));
    put(&mut rib, 2, NET, &Attributes { cluster_list: vec![own().router_id, own().cluster_id], ..plain(2) });
    assert_eq!(refused(&rib), Some(Refused::Cluster));
}

/// RFC 4271, section 5.1.5, and RFC 4456, section 8: from another system these say nothing.
#[test]
fn attributes_of_the_inside_count_for_nothing_from_an_external_peer() {
    let mut rib = tables(2);
    let inside = Attributes {
        local_pref: Some(500),
        originator: Some(own().router_id),
        cluster_list: vec![own().cluster_id],
        ..plain(0)
    };
    put(&mut rib, 0, NET, &inside);
    let paths = rib.explain(&net(NET)).unwrap().paths;
    assert_eq!(paths[0].attributes, Some(Arc::new(plain(0))));
    assert_eq!(*paths[0].received, inside, "what came is kept as it came");
}

/// RFC 4271, section 6.3.
#[test]
fn the_first_system_of_a_path_is_the_peers() {
    let mut rib = tables(1);
    put(&mut rib, 0, NET, &Attributes { as_path: AsPath::sequence(vec![asn(65_100)]), ..plain(0) });
    assert_eq!(refused(&rib), Some(Refused::FirstAsn));
    let mut lax = facts(0);
    lax.skip_first_asn_check = true;
    rib.peer_up(PeerId(0), lax, None);
    assert_eq!(refused(&rib), None);
}

/// RFC 4271, section 5.1.3.
#[test]
fn our_own_address_is_no_next_hop() {
    let mut rib = tables(0);
    let mut with_local = facts(0);
    with_local.local = Some("192.0.2.254".parse().unwrap());
    rib.peer_up(PeerId(0), with_local, None);
    put(&mut rib, 0, NET, &Attributes { next_hop: NextHop::V4([192, 0, 2, 254].into()), ..plain(0) });
    assert_eq!(refused(&rib), Some(Refused::OwnNextHop));
}

/// RFC 9234, section 5, the ingress procedure: by our role, and whether the attribute came and with which number.
#[test]
fn a_leaked_route_is_refused_and_an_unmarked_one_from_above_is_marked() {
    let (peer, other) = (facts(0).asn, asn(65_100));
    let cases = [
        (Role::Provider, None, Ok(None)),
        (Role::Provider, Some(peer), Err(Refused::Leak)),
        (Role::RouteServer, Some(other), Err(Refused::Leak)),
        (Role::Peer, None, Ok(Some(peer))),
        (Role::Peer, Some(peer), Ok(Some(peer))),
        (Role::Peer, Some(other), Err(Refused::Leak)),
        (Role::Customer, None, Ok(Some(peer))),
        (Role::Customer, Some(other), Ok(Some(other))),
        (Role::RouteServerClient, None, Ok(Some(peer))),
    ];
    for (role, only_to_customer, expected) in cases {
        let mut rib = tables(0);
        let mut with_role = facts(0);
        with_role.role = Some(role);
        rib.peer_up(PeerId(0), with_role, None);
        put(&mut rib, 0, NET, &Attributes { only_to_customer, ..plain(0) });
        let path = &rib.explain(&net(NET)).unwrap().paths[0];
        let found = path.attributes.as_ref().map(|attributes| attributes.only_to_customer);
        assert_eq!(found.ok_or_else(|| refused(&rib).unwrap()), expected, "{role:?} {only_to_customer:?}");
    }
}

/// RFC 8326, section 4.
#[test]
fn a_route_of_a_peer_that_is_about_to_go_is_used_last() {
    let mut rib = tables(2);
    put(&mut rib, 1, NET, &Attributes { as_path: plain(1).as_path.prepended(facts(1).asn, 5), ..plain(1) });
    put(&mut rib, 0, NET, &Attributes { communities: vec![Community::GRACEFUL_SHUTDOWN], ..plain(0) });
    assert_eq!(best(&rib, NET), Some(1));
    let path = rib.explain(&net(NET)).unwrap().paths.into_iter().find(|path| path.source.peer() == Some(PeerId(0)));
    assert_eq!(path.unwrap().attributes.unwrap().local_pref, Some(0));
    let mut selection = own().selection;
    selection.graceful_shutdown = false;
    rib.set_own(super::choosing(selection));
    assert_eq!(best(&rib, NET), Some(0));
}

#[test]
fn one_prefix_too_many_ends_it_and_a_warning_comes_once_before() {
    let mut rib = tables(0);
    let mut limited = facts(0);
    let max = MaxPrefixes { limit: 4, warn_percent: 50, restart_after: None };
    limited.max_prefixes.insert(Family::Ipv4, max);
    rib.peer_up(PeerId(0), limited, None);
    let mut give = |number: u32| {
        let update = announce(nlri(net(&format!("10.{number}.0.0/16")), 0), &plain(0));
        rib.update(PeerId(0), &update)
    };
    assert_eq!(give(1), Ok(None));
    assert_eq!(give(2), Ok(Some(NearLimit { family: Family::Ipv4, count: 2, limit: 4 })));
    assert_eq!(give(3), Ok(None));
    assert_eq!(give(3), Ok(None), "the same again is not one more");
    assert_eq!(give(4), Ok(None));
    assert_eq!(give(5), Err(OverLimit { family: Family::Ipv4, limit: 4 }));
    assert_eq!(rib.received(PeerId(0), Family::Ipv4), 4);
    rib.update(PeerId(0), &withdraw(nlri(net("10.4.0.0/16"), 0))).unwrap();
    assert_eq!(rib.received(PeerId(0), Family::Ipv4), 3);
}

/// Soft reconfiguration: what the old policy refused is still there.
#[test]
fn a_new_import_policy_counts_for_what_has_come_already() {
    let policy = |text: &str| {
        let raw: RawPolicy = serde_json::from_str(text).unwrap();
        Some(Arc::new(Policy::import(&raw).unwrap()))
    };
    let mut rib = tables(0);
    rib.peer_up(PeerId(0), facts(0), policy(r#"{"default": "reject"}"#));
    put(&mut rib, 0, NET, &plain(0));
    assert_eq!((refused(&rib), rib.received(PeerId(0), Family::Ipv4)), (Some(Refused::Policy), 1));
    rib.take_changes();
    let prefers = r#"{"statements": [{"set": {"local-pref": 200}}], "default": "accept"}"#;
    rib.set_import(PeerId(0), policy(prefers));
    resolve_all(&mut rib);
    assert_eq!(best(&rib, NET), Some(0));
    let slot = rib.slot(&net(NET)).unwrap();
    assert_eq!(rib.best(Family::Ipv4, slot).unwrap().attributes.local_pref, Some(200));
    assert!(rib.take_changes()[0].contains(slot));
}

#[test]
fn a_next_hop_is_watched_as_long_as_a_path_needs_it_and_its_way_decides() {
    let mut rib = tables(2);
    let next_hop = facts(0).address;
    let prefix = net(NET);
    rib.update(PeerId(0), &announce(nlri(prefix, 0), &plain(0))).unwrap();
    rib.update(PeerId(0), &announce(nlri(net("10.0.0.0/8"), 0), &plain(0))).unwrap();
    assert_eq!(rib.take_next_hops(), [NextHopChange::Track(next_hop)]);
    assert_eq!(rib.explain(&prefix).unwrap().paths[0].state, PathState::Unresolved);
    rib.resolve(next_hop, ways(Some(5)));
    assert_eq!(best(&rib, NET), Some(0));
    rib.resolve(next_hop, Vec::new());
    assert_eq!(best(&rib, NET), None);
    rib.peer_down(PeerId(0), &[]);
    assert_eq!(rib.take_next_hops(), [NextHopChange::Untrack(next_hop)]);
    assert_eq!(rib.distinct_attributes(), 0);
}

/// The list of slots of a next hop is cleaned now and then: those that still need it stay in.
#[test]
fn a_next_hop_still_decides_after_its_paths_have_come_and_gone_often() {
    let mut rib = tables(1);
    let (kept, other) = (net(NET), net("10.0.0.0/8"));
    rib.update(PeerId(0), &announce(nlri(kept, 0), &plain(0))).unwrap();
    for round in 0..3_000u32 {
        let brief = if round % 2 == 0 { other } else { net("10.1.0.0/16") };
        rib.update(PeerId(0), &announce(nlri(brief, 0), &plain(0))).unwrap();
        rib.update(PeerId(0), &withdraw(nlri(brief, 0))).unwrap();
    }
    rib.resolve(facts(0).address, ways(Some(1)));
    assert_eq!(best(&rib, NET), Some(0));
}

#[test]
fn a_protected_prefix_is_refused_from_every_peer_as_long_as_it_is_protected() {
    let mut rib = tables(4);
    let why = |rib: &Rib, prefix: &str| match rib.explain(&net(prefix)).unwrap().paths[0].state {
        PathState::Refused(refused) => Some(refused),
        _ => None,
    };
    let mut protected = Protected::default();
    protected.add_inside(net("10.99.0.0/24"), Protection::Underlay);
    protected.add(net("10.88.0.5/32"), Protection::NodeAddress);
    rib.protect(protected.clone());
    // In one UPDATE with others: what became of one says nothing of the next.
    let mut update = announce(nlri(net("10.88.0.5/32"), 0), &plain(0));
    let more = ["10.88.0.0/24", "10.99.0.128/25", "10.99.0.0/16", "10.88.0.6/32"];
    update.announcements[0].nlri.extend(more.map(|prefix| nlri(net(prefix), 0)));
    rib.update(PeerId(0), &update).unwrap();
    put(&mut rib, 2, "10.88.0.5/32", &plain(2));
    assert_eq!(why(&rib, "10.88.0.5/32"), Some(Refused::NodeAddress));
    assert_eq!(rib.refused(PeerId(2), &net("10.88.0.5/32"), Default::default()), Some(Refused::NodeAddress));
    assert_eq!(why(&rib, "10.99.0.128/25"), Some(Refused::Underlay));
    for taken in ["10.88.0.0/24", "10.99.0.0/16", "10.88.0.6/32"] {
        assert_eq!(best(&rib, taken), Some(0), "{taken}");
    }
    // A node less, a node more; then another segment.
    let mut moved = Protected::default();
    moved.add_inside(net("10.99.0.0/24"), Protection::Underlay);
    moved.add(net("10.88.0.6/32"), Protection::NodeAddress);
    rib.protect(moved);
    resolve_all(&mut rib);
    assert_eq!((best(&rib, "10.88.0.5/32"), best(&rib, "10.88.0.6/32")), (Some(2), None));
    rib.protect(Protected::default());
    rib.peer_up(PeerId(0), facts(0), None);
    resolve_all(&mut rib);
    assert_eq!((best(&rib, "10.88.0.6/32"), best(&rib, "10.99.0.128/25")), (Some(0), Some(0)));
    rib.protect(protected);
    assert_eq!((best(&rib, "10.88.0.5/32"), best(&rib, "10.99.0.128/25")), (None, None));
}
