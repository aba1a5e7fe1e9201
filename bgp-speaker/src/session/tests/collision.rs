//! Two connections at once, and which one stays. RFC 4271, section 6.8; RFC 6286, section 2.3; RFC 4724, section 4.2.

use super::scene::{PEER, Scene, config, open, restarts};
use super::side;
use crate::session::{Action, Config, Event, State};
use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::{CeaseSubcode, Message, Notification, Open};
use crate::wire::Encoder;
use std::time::Duration;

const INCOMING: ConnId = ConnId::In(5);

fn collision() -> Option<Notification> {
    Some(Notification::Cease(CeaseSubcode::Collision, None))
}

/// Both connections stand, and both OPENs are out.
fn both(config: Config) -> (Scene, ConnId) {
    let (mut scene, ours) = Scene::connected(config);
    scene.tell(Event::Accepted { conn: INCOMING });
    assert_eq!(scene.sent(INCOMING).len(), 1, "an OPEN");
    (scene, ours)
}

/// Which connection is closed when OPENs of a peer come on `first`, then on the other one.
fn loser(config: Config, first: impl Fn(ConnId) -> ConnId, peer: &Open) -> ConnId {
    let (mut scene, ours) = both(config);
    let first = first(ours);
    let second = if first == ours { INCOMING } else { ours };
    scene.hear(first, Encoder::open(peer));
    assert_eq!(scene.session.state(), State::OpenConfirm);
    scene.hear(second, Encoder::open(peer));
    let lost: Vec<ConnId> = [first, second].into_iter().filter(|conn| scene.is_closed(*conn)).collect();
    let [lost] = lost[..] else { panic!("one is closed, not {lost:?}") };
    assert_eq!(scene.refused(lost), collision());
    let kept = if lost == first { second } else { first };
    scene.hear(kept, Encoder::keepalive());
    assert_eq!(scene.session.connection(), Some(kept));
    lost
}

#[test]
fn rfc_4271_6_8_the_connection_of_the_higher_identifier_stays() {
    // We are 192.0.2.2.
    for (peer, ours_stays) in [(1, true), (3, false)] {
        let peer = open(peer, |_| {});
        for incoming_first in [true, false] {
            let lost = loser(config(), |ours| if incoming_first { INCOMING } else { ours }, &peer);
            assert_eq!(lost == INCOMING, ours_stays, "{peer:?}");
        }
    }
}

#[test]
fn rfc_6286_2_3_of_equal_identifiers_the_higher_system_counts() {
    // 64513 against our 64512, and against our 64514.
    assert!(matches!(loser(config(), |ours| ours, &open(2, |_| {})), ConnId::Out(_)));
    assert!(matches!(loser(side(2, 64_514, PEER), |ours| ours, &open(2, |_| {})), ConnId::In(_)));
}

#[test]
fn rfc_4271_6_8_a_session_that_stands_outlives_a_new_connection() {
    let (mut scene, conn) = Scene::established(config(), &open(3, |_| {}));
    scene.tell(Event::Accepted { conn: INCOMING });
    assert!(scene.sent(INCOMING).is_empty(), "an OPEN would say that no session stands");
    scene.hear(INCOMING, Encoder::open(&open(3, |_| {})));
    assert_eq!(scene.refused(INCOMING), collision());
    assert_eq!(scene.session.connection(), Some(conn));
    assert!(scene.down().is_none());
}

#[test]
fn rfc_4724_4_2_a_peer_that_restarted_replaces_its_session_and_its_routes_stay() {
    let peer = open(3, |open| open.capabilities.graceful_restart = restarts(false));
    let (mut scene, conn) = Scene::established(config(), &peer);
    scene.hear_route(conn, &[PEER]).tell(Event::Accepted { conn: INCOMING });
    scene.hear(INCOMING, Encoder::open(&peer));
    assert!(matches!(scene.sent(INCOMING)[..], [Message::Open(_), Message::Keepalive]));
    assert!(scene.is_closed(conn) && scene.refused(conn).is_none(), "no NOTIFICATION on the old one");
    assert_eq!(scene.down(), Some((&DownReason::Connection(ConnectFailure::Closed), true)));
    scene.hear(INCOMING, Encoder::keepalive());
    assert_eq!(scene.session.connection(), Some(INCOMING));
}

#[test]
fn a_peer_that_has_not_seen_that_the_session_stands_has_not_restarted() {
    let peer = open(3, |open| open.capabilities.graceful_restart = restarts(false));
    let (mut scene, conn) = Scene::established(config(), &peer);
    scene.tell(Event::Accepted { conn: INCOMING });
    scene.hear(INCOMING, Encoder::open(&peer));
    assert_eq!(scene.refused(INCOMING), collision());
    // Later, it has: one that lost its power before it said a word.
    scene.pass(Duration::from_secs(3)).tell(Event::Accepted { conn: INCOMING });
    scene.hear(INCOMING, Encoder::open(&peer));
    assert!(scene.is_closed(conn) && !scene.is_closed(INCOMING));
}

#[test]
fn a_session_that_goes_leaves_the_connection_that_came_meanwhile() {
    let (mut scene, conn) = Scene::established(config(), &open(3, |_| {}));
    scene.tell(Event::Accepted { conn: INCOMING });
    scene.tell(Event::Closed { conn, why: ConnectFailure::Reset });
    assert!(matches!(scene.sent(INCOMING)[..], [Message::Open(_)]));
    scene.hear(INCOMING, Encoder::open(&open(3, |_| {}))).hear(INCOMING, Encoder::keepalive());
    assert_eq!(scene.session.connection(), Some(INCOMING));
}

/// Our connection would stay; the peer, of a lower identifier, has confirmed its own.
fn waiting() -> (Scene, ConnId) {
    let (mut scene, ours) = both(config());
    scene.hear(INCOMING, Encoder::open(&open(1, |_| {}))).hear(INCOMING, Encoder::keepalive());
    assert!(scene.up().is_none() && scene.session.state() == State::OpenConfirm);
    (scene, ours)
}

#[test]
fn a_confirmed_connection_gives_way_to_the_preferred_one() {
    let (mut scene, ours) = waiting();
    scene.hear(ours, Encoder::open(&open(1, |_| {})));
    assert_eq!(scene.refused(INCOMING), collision());
    scene.hear(ours, Encoder::keepalive());
    assert_eq!(scene.session.connection(), Some(ours));
}

#[test]
fn a_confirmed_connection_is_established_when_the_preferred_one_ends_or_takes_too_long_or_a_route_comes() {
    let (mut scene, ours) = waiting();
    scene.tell(Event::Closed { conn: ours, why: ConnectFailure::Closed });
    assert!(scene.up().is_some());

    let (mut scene, ours) = waiting();
    scene.hear(INCOMING, Encoder::keepalive()).pass(Duration::from_millis(2999));
    assert!(scene.up().is_none());
    scene.pass(Duration::from_millis(1));
    assert!(scene.up().is_some());
    assert_eq!(scene.refused(ours), collision());

    let (mut scene, ours) = waiting();
    scene.hear_route(INCOMING, &[PEER]);
    assert!(scene.up().is_some());
    assert!(matches!(scene.out.last(), Some(Action::Update(update)) if !update.announcements.is_empty()));
    assert_eq!(scene.refused(ours), collision());
}

#[test]
fn an_established_session_ends_what_else_was_under_way() {
    let (mut scene, ours) = both(config());
    let peer = open(3, |_| {});
    scene.hear(INCOMING, Encoder::open(&peer)).hear(INCOMING, Encoder::keepalive());
    assert!(scene.up().is_some());
    assert_eq!(scene.refused(ours), collision());

    let mut scene = Scene::new(config());
    let asked = scene.tell(Event::Start).asked().unwrap();
    scene.tell(Event::Accepted { conn: INCOMING });
    scene.hear(INCOMING, Encoder::open(&peer)).hear(INCOMING, Encoder::keepalive());
    assert!(scene.up().is_some() && scene.is_closed(asked));
}

#[test]
fn a_peer_that_connects_again_has_given_up_the_connection_before() {
    let mut config = config();
    config.peer.passive = true;
    let mut scene = Scene::new(config);
    scene.tell(Event::Start);
    for number in 0..1000 {
        scene.tell(Event::Accepted { conn: ConnId::In(number) });
        assert!(number == 0 || scene.is_closed(ConnId::In(number - 1)));
    }
    let last = ConnId::In(999);
    scene.hear(last, Encoder::open(&open(1, |_| {}))).hear(last, Encoder::keepalive());
    assert_eq!(scene.session.connection(), Some(last));
}

#[test]
fn when_one_of_two_connections_goes_the_other_one_stays() {
    let (mut scene, ours) = both(config());
    scene.tell(Event::Closed { conn: ours, why: ConnectFailure::Reset });
    assert_eq!(scene.session.state(), State::OpenSent);
    scene.hear(INCOMING, Encoder::open(&open(1, |_| {}))).hear(INCOMING, Encoder::keepalive());
    assert!(scene.up().is_some());
}
