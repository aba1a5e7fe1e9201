//! Routes of peers that went away, and routes of our own.

use super::{NET, best, net, plain, put, tables};
use crate::config::Aggregate;
use crate::rib::{PathState, Source, Step};
use crate::types::{Attributes, Community, Family, PeerId};
use std::sync::Arc;

/// RFC 4724, section 4.2.
#[test]
fn stale_routes_are_used_like_others_until_swept_and_go_when_their_peer_goes_again() {
    let mut rib = tables(2);
    put(&mut rib, 0, NET, &plain(0));
    put(&mut rib, 0, "10.0.0.0/8", &plain(0));
    rib.peer_down(PeerId(0), &[Family::Ipv4]);
    assert_eq!(best(&rib, NET), Some(0));
    put(&mut rib, 1, NET, &plain(1));
    assert_eq!(best(&rib, NET), Some(0), "stale is not worse");
    put(&mut rib, 0, NET, &plain(0));
    rib.sweep(PeerId(0), Family::Ipv4);
    assert_eq!((best(&rib, NET), best(&rib, "10.0.0.0/8")), (Some(0), None));
    rib.peer_down(PeerId(0), &[Family::Ipv4]);
    rib.peer_down(PeerId(0), &[Family::Ipv4]);
    assert_eq!(best(&rib, NET), Some(1));
}

/// RFC 9494, sections 4.2 and 4.3.
#[test]
fn long_lived_stale_routes_are_used_last_and_those_with_no_llgr_go() {
    let mut rib = tables(2);
    put(&mut rib, 0, NET, &plain(0));
    put(&mut rib, 1, NET, &Attributes { as_path: plain(1).as_path.prepended(super::facts(1).asn, 3), ..plain(1) });
    put(&mut rib, 0, "10.0.0.0/8", &Attributes { communities: vec![Community::NO_LLGR], ..plain(0) });
    rib.peer_down(PeerId(0), &[Family::Ipv4]);
    assert_eq!(best(&rib, NET), Some(0));
    rib.long_lived(PeerId(0), Family::Ipv4);
    assert_eq!((best(&rib, NET), best(&rib, "10.0.0.0/8")), (Some(1), None));
    let paths = rib.explain(&net(NET)).unwrap().paths;
    assert_eq!(paths[1].state, PathState::Lost { step: Step::LongLived, to: 0 });
    put(&mut rib, 1, "10.1.0.0/16", &Attributes { communities: vec![Community::LLGR_STALE], ..plain(1) });
    put(
        &mut rib,
        0,
        "10.1.0.0/16",
        &Attributes { as_path: plain(0).as_path.prepended(super::facts(0).asn, 3), ..plain(0) },
    );
    assert_eq!(best(&rib, "10.1.0.0/16"), Some(0), "a route that was stale elsewhere is used last here too");
}

#[test]
fn our_own_route_goes_before_those_of_peers_and_takes_no_way_out() {
    let mut rib = tables(1);
    let own = Arc::new(Attributes::own(crate::types::NextHop::V4([0, 0, 0, 0].into())));
    put(&mut rib, 0, NET, &plain(0));
    rib.originate(net(NET), own);
    let slot = rib.slot(&net(NET)).unwrap();
    assert_eq!(rib.best(Family::Ipv4, slot).unwrap().source, Source::Local);
    assert!(rib.forwarding(Family::Ipv4, slot).is_empty());
    rib.withdraw(net(NET));
    assert_eq!(best(&rib, NET), Some(0));
}

/// RFC 4271, section 9.2.2.2.
#[test]
fn an_aggregate_is_there_as_long_as_something_is_inside() {
    let mut rib = tables(1);
    let around = net("10.0.0.0/8");
    rib.set_aggregates([(around, Aggregate { summary_only: true })].into());
    rib.take_changes();
    assert_eq!(rib.explain(&around), None);
    put(&mut rib, 0, "10.1.0.0/16", &plain(0));
    rib.take_changes();
    let path = &rib.explain(&around).unwrap().paths[0];
    assert_eq!((path.source, path.state), (Source::Aggregate, PathState::Best));
    assert!(path.received.atomic_aggregate && path.received.aggregator.is_some());
    assert!(rib.is_suppressed(&net("10.1.0.0/16")) && !rib.is_suppressed(&around));
    rib.peer_down(PeerId(0), &[]);
    rib.take_changes();
    assert_eq!(rib.explain(&around), None);
    assert!(!rib.is_suppressed(&net("10.1.0.0/16")));
}
