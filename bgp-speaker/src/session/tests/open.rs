//! OPENs: who is taken and what is agreed on. RFC 4271, section 6.2 and what came after it.

use super::scene::{OWN, PEER, Scene, asn, config, open, restarts};
use crate::config::{AddPath, LongLived, PeerAddress, RemoteAsn};
use crate::session::{Config, Event, State};
use crate::types::{AddPathMode, Family, LongLivedFamily, Message, Notification, Open, OpenSubcode, Role, RouterId};
use crate::wire::Encoder;
use std::time::Duration;

/// The subcode that an OPEN is refused with.
fn refusal(config: Config, open: &Open) -> Option<OpenSubcode> {
    let (mut scene, conn) = Scene::connected(config);
    scene.hear(conn, Encoder::open(open));
    match scene.refused(conn) {
        Some(Notification::Open(subcode, _)) => Some(subcode),
        Some(other) => panic!("{other:?}"),
        None => {
            assert_eq!(scene.session.state(), State::OpenConfirm);
            None
        }
    }
}

#[test]
fn rfc_4271_6_2_the_peer_has_to_be_of_the_right_system() {
    let expecting = |remote| {
        let mut config = config();
        config.peer.asn = remote;
        config
    };
    let outside = open(1, |_| {});
    let inside = open(1, |open| {
        open.asn = 64_512;
        open.capabilities.asn = Some(asn(OWN));
    });
    let bad = Some(OpenSubcode::BadPeerAs);
    for (remote, from_outside, from_inside) in [
        (RemoteAsn::Exactly(asn(PEER)), None, bad),
        (RemoteAsn::Exactly(asn(OWN)), bad, None),
        (RemoteAsn::External, None, bad),
        (RemoteAsn::Internal, bad, None),
    ] {
        assert_eq!(refusal(expecting(remote), &outside), from_outside, "{remote:?}");
        assert_eq!(refusal(expecting(remote), &inside), from_inside, "{remote:?}");
    }
    let nobody = open(1, |open| {
        open.asn = 0;
        open.capabilities.asn = None;
    });
    assert_eq!(refusal(expecting(RemoteAsn::External), &nobody), bad, "RFC 7607");
}

#[test]
fn rfc_7607_2_an_open_whose_four_byte_number_is_zero_is_refused() {
    let (mut scene, conn) = Scene::connected(config());
    let mut bytes = Encoder::open(&open(1, |_| {})).to_vec();
    let at = bytes.windows(2).position(|pair| pair == [65, 4]).unwrap() + 2;
    bytes[at..at + 4].fill(0);
    scene.hear(conn, bytes);
    assert!(matches!(scene.refused(conn), Some(Notification::Open(OpenSubcode::BadPeerAs, _))));
}

#[test]
fn rfc_6286_2_2_only_inside_a_system_must_identifiers_differ() {
    assert_eq!(refusal(config(), &open(2, |_| {})), None);
    let mut config = config();
    config.peer.asn = RemoteAsn::Internal;
    let inside = open(2, |open| {
        open.asn = 64_512;
        open.capabilities.asn = Some(asn(OWN));
    });
    assert_eq!(refusal(config, &inside), Some(OpenSubcode::BadIdentifier));
}

#[test]
fn rfc_4271_6_2_a_hold_time_of_one_or_two_seconds_is_refused() {
    let offering = |seconds| open(1, |open| open.hold_time_seconds = seconds);
    for seconds in [1, 2] {
        assert_eq!(refusal(config(), &offering(seconds)), Some(OpenSubcode::UnacceptableHoldTime));
    }
    assert_eq!(refusal(config(), &offering(3)), None);
    assert_eq!(refusal(config(), &offering(0)), None);
    let mut picky = config();
    picky.peer.hold.least_seconds = 20;
    for seconds in [0, 19] {
        assert_eq!(refusal(picky.clone(), &offering(seconds)), Some(OpenSubcode::UnacceptableHoldTime));
    }
    assert_eq!(refusal(picky, &offering(20)), None);
}

#[test]
fn rfc_4271_4_2_the_lower_hold_time_holds() {
    for (offered, agreed) in [(30, 30), (90, 90), (300, 90), (0, 0)] {
        let (scene, _) = Scene::established(config(), &open(1, |open| open.hold_time_seconds = offered));
        assert_eq!(scene.up().unwrap().hold_time, Duration::from_secs(agreed));
    }
}

#[test]
fn rfc_9234_4_2_roles_have_to_fit() {
    let ours = |role, strict| {
        let mut config = config();
        config.peer.role = role;
        config.peer.strict_role = strict;
        config
    };
    let theirs = |role| open(1, |open| open.capabilities.role = role);
    let mismatch = Some(OpenSubcode::RoleMismatch);
    for (own, peer) in [
        (Role::Provider, Role::Customer),
        (Role::Customer, Role::Provider),
        (Role::RouteServer, Role::RouteServerClient),
        (Role::RouteServerClient, Role::RouteServer),
        (Role::Peer, Role::Peer),
    ] {
        assert_eq!(refusal(ours(Some(own), true), &theirs(Some(peer))), None);
    }
    assert_eq!(refusal(ours(Some(Role::Provider), false), &theirs(Some(Role::Provider))), mismatch);
    assert_eq!(refusal(ours(Some(Role::Provider), false), &theirs(None)), None);
    assert_eq!(refusal(ours(Some(Role::Provider), true), &theirs(None)), mismatch);
    assert_eq!(refusal(ours(None, false), &theirs(Some(Role::Provider))), None);
    // A role that there is not: capability 9 with 99, by hand.
    let mut bytes = Encoder::open(&theirs(Some(Role::Provider))).to_vec();
    let at = bytes.windows(3).position(|bytes| bytes == [9, 1, 0]).unwrap();
    bytes[at + 2] = 99;
    let (mut scene, conn) = Scene::connected(ours(Some(Role::Customer), false));
    scene.hear(conn, bytes);
    assert!(matches!(scene.refused(conn), Some(Notification::Open(OpenSubcode::RoleMismatch, _))));
}

#[test]
fn rfc_4760_8_without_capabilities_ipv4_is_meant() {
    let plain = open(1, |open| open.capabilities = crate::types::Capabilities::default());
    let (scene, _) = Scene::established(config(), &plain);
    let session = scene.up().unwrap();
    assert_eq!(session.families, [Family::Ipv4].into());
    assert!(!session.four_octet_asn && !session.route_refresh && session.graceful_restart.is_none());
    assert_eq!(session.max_message_bytes, 4096);
    assert_eq!(session.peer_asn, asn(PEER));
}

#[test]
fn rfc_5492_5_without_a_common_family_there_is_no_session() {
    let mut config = config();
    config.peer.families = [Family::Ipv6].into();
    let v4 = open(1, |open| open.capabilities.families = [Family::Ipv4].into());
    let (mut scene, conn) = Scene::connected(config);
    scene.hear(conn, Encoder::open(&v4));
    let needed = Notification::Open(OpenSubcode::UnsupportedCapability, vec![1, 4, 0, 2, 0, 1].into());
    assert_eq!(scene.refused(conn), Some(needed));
}

#[test]
fn what_one_side_alone_offers_does_not_hold() {
    let mut config = config();
    config.peer.add_path.insert(Family::Ipv4, AddPath { mode: AddPathMode::Both, send_max: 4 });
    config.peer.add_path.insert(Family::Ipv6, AddPath { mode: AddPathMode::Send, send_max: 4 });
    config.peer.extended_next_hop = true;
    let all = open(1, |open| {
        let offer = &mut open.capabilities;
        offer.add_path = [(Family::Ipv4, AddPathMode::Send), (Family::Ipv6, AddPathMode::Send)].into();
        offer.extended_next_hop = Family::ALL.into();
        offer.extended_message = true;
        offer.long_lived =
            vec![LongLivedFamily { family: Family::Ipv4, forwarding_kept: true, stale_time_seconds: 60 }];
    });
    let (scene, _) = Scene::established(config.clone(), &all);
    let session = scene.up().unwrap();
    assert_eq!(session.add_path_in, [Family::Ipv4].into(), "we take in IPv4 only");
    assert!(session.add_path_out.is_empty(), "the peer takes nothing");
    assert_eq!(session.extended_next_hop, [Family::Ipv4].into());
    assert_eq!(session.max_message_bytes, 65_535);
    assert!(session.long_lived.is_empty(), "RFC 9494, section 4.1: not without graceful restart");

    config.peer.extended_next_hop = false;
    config.peer.address = PeerAddress::Interface("eth0".into());
    let (scene, _) = Scene::established(config, &all);
    assert_eq!(scene.up().unwrap().extended_next_hop, [Family::Ipv4].into(), "unnumbered");
}

#[test]
fn rfc_8538_2_notifications_keep_routes_only_where_both_say_so() {
    for (ours, theirs) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut config = config();
        config.restart.notification = ours;
        let peer = open(1, |open| open.capabilities.graceful_restart = restarts(theirs));
        let (scene, _) = Scene::established(config, &peer);
        assert_eq!(scene.up().unwrap().graceful_restart.as_ref().unwrap().notification, ours && theirs);
    }
}

#[test]
fn rfc_4724_3_our_open_says_what_we_kept() {
    let mut config = config();
    config.restarting = true;
    config.forwarding_kept = [Family::Ipv6].into();
    config.peer.long_lived = Some(LongLived { stale_time_seconds: 3600 });
    let (scene, conn) = Scene::connected(config.clone());
    let [Message::Open(open)] = &scene.sent(conn)[..] else { panic!("{:?}", scene.out) };
    let restart = open.capabilities.graceful_restart.clone().unwrap();
    assert!(restart.restarting && restart.notification);
    assert_eq!(restart.restart_time_seconds, 120);
    let kept = |family| restart.families.iter().find(|kept| kept.family == family).unwrap().forwarding_kept;
    assert!(!kept(Family::Ipv4) && kept(Family::Ipv6));
    assert_eq!(open.capabilities.long_lived.len(), 2);
    assert_eq!(open.id, RouterId::new([192, 0, 2, 2].into()).unwrap());

    config.restart.enabled = false;
    let (scene, conn) = Scene::connected(config);
    let [Message::Open(open)] = &scene.sent(conn)[..] else { panic!() };
    let restart = open.capabilities.graceful_restart.clone().unwrap();
    assert!(restart.families.is_empty(), "it helps others all the same");
    assert!(open.capabilities.long_lived.is_empty());
}

#[test]
fn rfc_6793_4_1_a_long_number_stands_in_its_capability() {
    let mut long = config();
    long.asn = asn(4_200_000_000);
    let (scene, conn) = Scene::connected(long);
    let [Message::Open(open)] = &scene.sent(conn)[..] else { panic!() };
    assert_eq!((open.asn, open.capabilities.asn), (23_456, Some(asn(4_200_000_000))));
}

#[test]
fn an_open_error_makes_the_session_wait_and_refuse() {
    let (mut scene, conn) = Scene::connected(config());
    scene.hear(conn, Encoder::open(&open(1, |open| open.hold_time_seconds = 1)));
    assert_eq!(scene.session.state(), State::Idle);
    let incoming = crate::speaker::ConnId::In(1);
    scene.tell(Event::Accepted { conn: incoming });
    assert!(scene.is_closed(incoming) && scene.sent(incoming).is_empty());
}
