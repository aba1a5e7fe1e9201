//! Asking a peer for its routes: RFC 2918 and RFC 7313, with the whole speaker.

use super::bed::{SOON, address, announce, arrives, chain, config, peer};
use crate::config::Config;
use crate::speaker::{Beginning, ConnId, Input, Origination, Output, RefreshError, Speaker};
use crate::types::{Asn, Capabilities, Family, Open, RouterId};
use crate::wire::Encoder;
use std::collections::BTreeSet;
use std::time::Instant;

#[test]
fn a_peer_that_is_asked_tells_its_routes_of_that_family_once_more() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[1], first).is_some());
    network.run_for(SOON);
    let counters =
        |network: &crate::testkit::Network, node, name| network.speaker(node).unwrap().peer(name).unwrap().counters;
    let before = counters(&network, nodes[1], "one");
    let ask = |speaker: &mut Speaker, now, out: &mut Vec<Output>| {
        speaker.request_refresh(now, "one", &[Family::Ipv4].into(), out)
    };
    assert_eq!(network.with(nodes[1], ask), Some(Ok(())));
    network.run_for(SOON);
    let after = counters(&network, nodes[1], "one");
    assert_eq!((after.refreshes_out, after.updates_in - before.updates_in), (1, 1));
    assert_eq!(counters(&network, nodes[0], "two").refreshes_in, 1);
    assert!(network.fib(nodes[1]).contains_key(&first) && network.fib(nodes[2]).contains_key(&first));
    assert_eq!((after.sessions, after.mended), (1, 0));
}

#[test]
fn who_cannot_be_asked_is_said_with_the_reason() {
    let ask = |speaker: &mut Speaker, name: &str, families: BTreeSet<Family>| {
        let mut out = Vec::new();
        let said = speaker.request_refresh(Instant::now(), name, &families, &mut out);
        assert!(said.is_ok() || out.is_empty(), "{out:?}");
        said
    };
    let mut speaker = alone(true);
    let asked = ask(&mut speaker, "nobody", Family::ALL.into());
    assert_eq!(asked, Err(RefreshError::UnknownPeer("nobody".into())));
    assert_eq!(ask(&mut speaker, "idle", Family::ALL.into()), Err(RefreshError::NoSession("idle".into())));
    let asked = ask(&mut speaker, "two", Family::ALL.into());
    assert_eq!(asked, Err(RefreshError::Family { peer: "two".into(), family: Family::Ipv6 }));
    assert_eq!(ask(&mut speaker, "two", [Family::Ipv4].into()), Ok(()));
    let mut speaker = alone(false);
    let asked = ask(&mut speaker, "two", [Family::Ipv4].into());
    assert_eq!(asked, Err(RefreshError::NotOffered("two".into())));
    assert_eq!(asked.unwrap_err().to_string(), "peer two did not offer route refresh (RFC 2918)");
}

/// A speaker with a session with "two", which was made of bytes: it carries IPv4, and perhaps it can refresh.
fn alone(route_refresh: bool) -> Speaker {
    let now = Instant::now();
    let mut one: Config = config(1, 65_001);
    one.peers.insert("two".into(), peer(2, 65_002));
    one.peers.insert("idle".into(), peer(3, 65_003));
    let mut speaker = Speaker::new(now, one, &Beginning::Fresh, 1).unwrap();
    speaker.announce(now, "10.0.0.0/24".parse().unwrap(), &Origination::default());
    let (conn, mut out) = (ConnId::In(1), Vec::new());
    let ends = [1, 2].map(|node| (address(node), 179).into());
    let interface = None;
    speaker.handle(now, Input::Tick, &mut out);
    speaker.handle(now, Input::Accepted { conn, local: ends[0], remote: ends[1], interface }, &mut out);
    let capabilities = Capabilities {
        families: [Family::Ipv4].into(),
        route_refresh,
        asn: Asn::new(65_002),
        ..Capabilities::default()
    };
    let open = Open { asn: 65_002, hold_time_seconds: 90, id: RouterId::new(address(2)).unwrap(), capabilities };
    for bytes in [Encoder::open(&open), Encoder::keepalive()] {
        speaker.handle(now, Input::Received { conn, bytes: &bytes }, &mut out);
    }
    assert!(speaker.peer("two").unwrap().session.is_some(), "{out:?}");
    speaker
}
