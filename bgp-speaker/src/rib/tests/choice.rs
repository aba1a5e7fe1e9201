//! The choice among paths, beside one written down as RFC 4271 says it.

use super::{NET, announce, asn, facts, net, nlri, plain, put, resolve_all, tables, ways};
use crate::config::Selection;
use crate::rib::{PathState, PeerKind, Rib, Step};
use crate::types::{AsPath, Attributes, Family, NextHop, Origin, PeerId, RouterId};
use proptest::prelude::*;
use std::net::Ipv4Addr;

/// Where the path of a peer stands.
fn state(rib: &Rib, peer: u32) -> PathState {
    let paths = rib.explain(&net(NET)).unwrap().paths;
    paths.iter().find(|path| path.source.peer() == Some(PeerId(peer))).unwrap().state
}

fn lost_by(rib: &Rib, peer: u32) -> Step {
    match state(rib, peer) {
        PathState::Lost { step, .. } => step,
        other => panic!("{other:?}"),
    }
}

/// Each step by itself: what the second path has worse, and where it loses by it.
#[test]
fn each_step_decides_when_those_before_it_do_not() {
    let longer = |peer: u32| plain(peer).as_path.prepended(if peer < 2 { facts(peer).asn } else { asn(65_101) }, 1);
    let cases = [
        (0, 1, Attributes { as_path: longer(1), ..plain(1) }, Step::AsPath),
        (0, 1, Attributes { origin: Origin::Incomplete, ..plain(1) }, Step::Origin),
        (2, 3, Attributes { local_pref: Some(99), ..plain(3) }, Step::LocalPref),
        (2, 3, Attributes { med: Some(1), ..plain(3) }, Step::Med),
        (0, 2, Attributes { as_path: longer(2), ..plain(2) }, Step::External),
        (2, 3, plain(3), Step::RouterId),
        (
            2,
            3,
            Attributes { originator: Some(facts(2).router_id), cluster_list: vec![facts(5).router_id], ..plain(3) },
            Step::ClusterList,
        ),
        (2, 3, Attributes { originator: Some(facts(2).router_id), ..plain(3) }, Step::PeerAddress),
    ];
    for (winner, loser, attributes, step) in cases {
        // Both next hops are the same, so that the load is not shared.
        let attributes = Attributes { next_hop: plain(winner).next_hop, ..attributes };
        for order in [[winner, loser], [loser, winner]] {
            let mut rib = tables(4);
            for peer in order {
                put(&mut rib, peer, NET, &if peer == winner { plain(winner) } else { attributes.clone() });
            }
            assert_eq!(state(&rib, winner), PathState::Best, "{step}");
            assert_eq!(lost_by(&rib, loser), step);
        }
    }
}

#[test]
fn the_nearer_next_hop_wins() {
    let mut rib = tables(4);
    put(&mut rib, 2, NET, &plain(2));
    put(&mut rib, 3, NET, &plain(3));
    rib.resolve(facts(2).address, ways(Some(7)));
    assert_eq!((state(&rib, 3), lost_by(&rib, 2)), (PathState::Best, Step::Metric));
}

#[test]
fn the_smaller_path_id_wins_last() {
    let mut rib = tables(1);
    for path in [7, 3] {
        rib.update(PeerId(0), &announce(nlri(net(NET), path), &plain(0))).unwrap();
    }
    resolve_all(&mut rib);
    let paths = rib.explain(&net(NET)).unwrap().paths;
    assert_eq!((paths[0].id.0, paths[1].state), (3, PathState::Lost { step: Step::PathId, to: 0 }));
}

#[test]
fn the_load_is_shared_by_equal_paths_with_next_hops_of_their_own() {
    let mut rib = tables(4);
    let path = AsPath::sequence(vec![asn(65_100)]);
    for peer in [2, 3] {
        put(&mut rib, peer, NET, &Attributes { as_path: path.clone(), ..plain(peer) });
    }
    let slot = rib.slot(&net(NET)).unwrap();
    let hops = |rib: &Rib| {
        rib.forwarding(Family::Ipv4, slot).iter().map(|view| view.source.peer().unwrap().0).collect::<Vec<_>>()
    };
    assert_eq!(hops(&rib), [2, 3]);
    assert_eq!(state(&rib, 3), PathState::Shares);
    put(&mut rib, 3, NET, &Attributes { as_path: AsPath::sequence(vec![asn(65_101)]), ..plain(3) });
    assert_eq!(hops(&rib), [2], "another path of the same length is not enough");
    rib.set_own(super::choosing(Selection { as_path_relax: true, ..Selection::default() }));
    assert_eq!(hops(&rib), [2, 3]);
    rib.set_own(super::choosing(Selection { as_path_relax: true, max_paths: 1, ..Selection::default() }));
    assert_eq!(hops(&rib), [2]);
}

#[derive(Debug, Clone)]
struct Given {
    attributes: Attributes,
    metric: u32,
}

fn given(peer: u32) -> impl Strategy<Value = Option<Given>> {
    let numbers =
        (0u32..3, 0u32..3, 0u32..2, proptest::option::of(0u32..3), 0u32..2, 0usize..3, proptest::option::of(0u8..3));
    let made = numbers.prop_map(move |(metric, pref, origin, med, neighbour, clusters, originator)| {
        let mut made = Attributes { med, ..plain(peer) };
        if !facts(peer).kind.is_external() {
            made.as_path = AsPath::sequence(vec![asn(65_001 + neighbour)]);
            made.local_pref = (pref > 0).then_some(98 + pref);
            made.cluster_list = vec![facts(9).router_id; clusters];
            made.originator = originator.and_then(|last| RouterId::new(Ipv4Addr::new(192, 0, 2, last)));
        } else if neighbour == 1 {
            made.as_path = made.as_path.prepended(facts(peer).asn, 1);
        }
        made.origin = [Origin::Igp, Origin::Incomplete][origin as usize];
        made.next_hop = NextHop::V4(Ipv4Addr::new(203, 0, 113, 1 + u8::try_from(peer).unwrap()));
        Given { attributes: made, metric }
    });
    proptest::option::weighted(0.8, made)
}

/// RFC 4271, section 9.1.2.2, step by step over sets of peers.
fn by_the_book(given: &[Option<Given>], selection: &Selection) -> Option<u32> {
    let mut left: Vec<u32> = (0..given.len() as u32).filter(|peer| given[*peer as usize].is_some()).collect();
    let of = |peer: u32| &given[peer as usize].as_ref().unwrap().attributes;
    let id = |peer: u32| of(peer).originator.unwrap_or(facts(peer).router_id);
    let keep_least = |left: &mut Vec<u32>, value: &dyn Fn(u32) -> i64| {
        if let Some(least) = left.iter().map(|peer| value(*peer)).min() {
            left.retain(|peer| value(*peer) == least);
        }
    };
    keep_least(&mut left, &|peer| -i64::from(of(peer).local_pref.unwrap_or(100)));
    keep_least(&mut left, &|peer| of(peer).as_path.hops() as i64);
    keep_least(&mut left, &|peer| of(peer).origin as i64);
    let med = |peer: u32| {
        of(peer).med.map_or(if selection.missing_med_is_worst { i64::from(u32::MAX) } else { 0 }, i64::from)
    };
    let all = left.clone();
    left.retain(|m| {
        let is_rival =
            |n: &u32| selection.always_compare_med || of(*n).as_path.neighbour() == of(*m).as_path.neighbour();
        !all.iter().any(|n| is_rival(n) && med(*n) < med(*m))
    });
    keep_least(&mut left, &|peer| i64::from(facts(peer).kind != PeerKind::External));
    keep_least(&mut left, &|peer| i64::from(given[peer as usize].as_ref().unwrap().metric));
    keep_least(&mut left, &|peer| u32::from(id(peer).get()).into());
    keep_least(&mut left, &|peer| of(peer).cluster_list.len() as i64);
    left.first().copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_best_path_is_that_of_the_rfc_in_whatever_order_paths_come(
        given in (given(0), given(1), given(2), given(3), given(4)),
        order in Just([0u32, 1, 2, 3, 4]).prop_shuffle(),
        always_compare_med: bool,
        missing_med_is_worst: bool,
    ) {
        let given = [given.0, given.1, given.2, given.3, given.4];
        let selection = Selection { always_compare_med, missing_med_is_worst, ..Selection::default() };
        let mut rib = tables(5);
        rib.set_own(super::choosing(selection.clone()));
        for peer in order {
            let Some(given) = &given[peer as usize] else { continue };
            rib.update(PeerId(peer), &announce(nlri(net(NET), 0), &given.attributes)).unwrap();
            rib.resolve(given.attributes.next_hop.address(), ways(Some(given.metric)));
        }
        prop_assert_eq!(super::best(&rib, NET), by_the_book(&given, &selection));
    }
}
