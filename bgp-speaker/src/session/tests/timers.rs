//! Timers, back-off, and what is told about them. RFC 4271, sections 8 and 10; RFC 9687.

use super::scene::{Scene, config, open};
use crate::session::{Event, State};
use crate::speaker::{ConnectFailure, DownReason};
use crate::types::{CeaseSubcode, FsmSubcode, HeaderSubcode, Message, Notification};
use crate::wire::Encoder;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn rfc_4271_6_5_a_silent_peer_is_dropped_after_the_hold_time() {
    let (mut scene, conn) = Scene::established(config(), &open(1, |open| open.hold_time_seconds = 30));
    scene.pass(29 * SECOND);
    assert!(scene.down().is_none());
    scene.hear(conn, Encoder::keepalive()).pass(29 * SECOND);
    assert!(scene.down().is_none(), "a KEEPALIVE came");
    scene.hear_route(conn, &[super::scene::PEER]).pass(29 * SECOND);
    assert!(scene.down().is_none(), "an UPDATE came");
    scene.pass(SECOND);
    assert_eq!(scene.refused(conn), Some(Notification::HoldTimerExpired));
    assert_eq!(scene.down(), Some((&DownReason::Sent(Notification::HoldTimerExpired), false)));
}

#[test]
fn rfc_4271_4_4_keepalives_go_out_three_times_in_a_hold_time() {
    let (mut scene, conn) = Scene::established(config(), &open(1, |_| {}));
    let mut sent = 0;
    for _ in 0..10 {
        scene.tell(Event::Sent { conn, bytes: usize::MAX });
        scene.hear(conn, Encoder::keepalive()).pass(60 * SECOND);
        sent += scene.sent(conn).iter().filter(|message| **message == Message::Keepalive).count();
    }
    // 600 seconds; every 22.5 to 30.
    assert!((20..=27).contains(&sent), "{sent}");
}

#[test]
fn rfc_4271_4_2_without_a_hold_time_nothing_is_sent_and_nothing_missed() {
    let (mut scene, conn) = Scene::established(config(), &open(1, |open| open.hold_time_seconds = 0));
    scene.tell(Event::Sent { conn, bytes: usize::MAX });
    assert_eq!(scene.session.deadline(), None);
    assert!(scene.pass(100_000 * SECOND).out.is_empty());
}

#[test]
fn rfc_4271_8_2_2_a_peer_that_never_introduces_itself_is_dropped() {
    let (mut scene, conn) = Scene::connected(config());
    scene.pass(239 * SECOND);
    assert_eq!(scene.session.state(), State::OpenSent);
    scene.pass(SECOND);
    assert_eq!(scene.refused(conn), Some(Notification::HoldTimerExpired));
}

#[test]
fn rfc_9687_a_peer_that_takes_nothing_is_dropped() {
    let mut config = config();
    config.peer.hold.hold_seconds = 0;
    config.peer.hold.send_hold = Some(100 * SECOND);
    let (mut scene, conn) = Scene::established(config, &open(1, |_| {}));
    scene.tell(Event::Sent { conn, bytes: usize::MAX }).tell(Event::Queued { bytes: 1000 });
    scene.pass(99 * SECOND);
    scene.tell(Event::Sent { conn, bytes: 1 }).pass(99 * SECOND);
    assert_eq!(scene.session.state(), State::Established, "it takes a little");
    scene.pass(SECOND);
    assert_eq!(scene.refused(conn), Some(Notification::SendHoldTimerExpired));

    let mut config = super::scene::config();
    config.peer.hold.send_hold = None;
    config.peer.hold.hold_seconds = 0;
    let (mut scene, _) = Scene::established(config, &open(1, |_| {}));
    scene.tell(Event::Queued { bytes: 1000 });
    assert_eq!(scene.session.deadline(), None);
}

/// How long until the next attempt.
fn until_next(scene: &mut Scene) -> Duration {
    let start = scene.now;
    while scene.asked().is_none() {
        scene.now = scene.session.deadline().expect("there is a next attempt");
        scene.tell(Event::Tick);
    }
    scene.now - start
}

#[test]
fn a_peer_that_is_not_there_is_tried_again_at_growing_intervals() {
    let mut scene = Scene::new(config());
    scene.tell(Event::Start);
    let mut most = 5;
    for _ in 0..10 {
        let conn = scene.asked().unwrap();
        assert_eq!(scene.session.state(), State::Connect);
        scene.tell(Event::Failed { conn, why: ConnectFailure::Refused });
        assert_eq!(scene.session.state(), State::Active, "it may connect to us");
        let waited = until_next(&mut scene);
        assert!(waited <= most * SECOND && waited >= most * SECOND * 3 / 4, "{waited:?}, not {most}");
        most = (2 * most).min(30);
    }
}

#[test]
fn errors_make_a_session_wait_for_up_to_two_minutes() {
    let mut scene = Scene::new(config());
    scene.tell(Event::Start);
    let mut most = 5;
    for _ in 0..10 {
        let conn = scene.asked().unwrap();
        scene.tell(Event::Connected { conn }).hear(conn, [0; 19]);
        let refused = Notification::Header(HeaderSubcode::NotSynchronized, bytes::Bytes::new());
        assert_eq!(scene.refused(conn), Some(refused));
        assert_eq!(scene.session.state(), State::Idle);
        let waited = until_next(&mut scene);
        assert!(waited <= most * SECOND && waited >= most * SECOND * 3 / 4, "{waited:?}, not {most}");
        most = (2 * most).min(120);
    }
    // A session that lasts makes up for all of it; one that does not, does not.
    for (lasts, most) in [(59, 120), (60, 1)] {
        let conn = scene.asked().unwrap();
        scene.tell(Event::Connected { conn });
        scene.hear(conn, Encoder::open(&open(1, |_| {}))).hear(conn, Encoder::keepalive());
        scene.pass(lasts * SECOND);
        scene.tell(Event::Closed { conn, why: ConnectFailure::Reset });
        assert!(scene.down().is_some());
        let waited = until_next(&mut scene);
        assert!(waited <= most.min(30) * SECOND && waited >= most.min(30) * SECOND * 3 / 4, "{waited:?}");
    }
}

#[test]
fn an_attempt_that_nobody_answers_is_given_up() {
    let mut scene = Scene::new(config());
    let conn = scene.tell(Event::Start).asked().unwrap();
    scene.wait(10 * SECOND);
    assert!(scene.is_closed(conn));
    // It stands after all: too late.
    scene.tell(Event::Connected { conn });
    assert!(scene.is_closed(conn) && scene.sent(conn).is_empty());
}

#[test]
fn the_same_seed_gives_the_same_times() {
    let times = |seed| {
        let mut scene = Scene::new(config());
        scene.session = crate::session::Session::new(config(), 1, seed);
        let start = scene.now;
        scene.tell(Event::Start);
        let mut times = Vec::new();
        for _ in 0..5 {
            let conn = scene.asked().unwrap();
            scene.tell(Event::Failed { conn, why: ConnectFailure::Refused });
            until_next(&mut scene);
            times.push(scene.now - start);
        }
        times
    };
    assert_eq!(times(1), times(1));
    assert_ne!(times(1), times(2));
}

#[test]
fn a_passive_session_waits_for_its_peer() {
    let mut config = config();
    config.peer.passive = true;
    let mut scene = Scene::new(config);
    scene.tell(Event::Start);
    assert_eq!(scene.session.state(), State::Active);
    assert_eq!(scene.session.deadline(), None);
    let conn = crate::speaker::ConnId::In(1);
    scene.tell(Event::Accepted { conn });
    scene.hear(conn, Encoder::open(&open(1, |_| {}))).hear(conn, Encoder::keepalive());
    assert!(scene.up().is_some());
    scene.tell(Event::Closed { conn, why: ConnectFailure::Closed });
    assert_eq!((scene.session.state(), scene.session.deadline()), (State::Active, None));
}

#[test]
fn rfc_6608_a_message_out_of_turn_ends_the_session() {
    let (mut scene, conn) = Scene::connected(config());
    scene.hear(conn, Encoder::keepalive());
    assert_eq!(scene.refused(conn), Some(Notification::Fsm(FsmSubcode::InOpenSent)));
    let peer = open(1, |_| {});
    let (mut scene, conn) = Scene::connected(config());
    scene.hear(conn, Encoder::open(&peer)).hear_route(conn, &[super::scene::PEER]);
    assert_eq!(scene.refused(conn), Some(Notification::Fsm(FsmSubcode::InOpenConfirm)));
    let (mut scene, conn) = Scene::established(config(), &peer);
    scene.hear(conn, Encoder::open(&peer));
    assert_eq!(scene.refused(conn), Some(Notification::Fsm(FsmSubcode::InEstablished)));
    // What came behind it in the same bytes is not heard.
    let (mut scene, conn) = Scene::established(config(), &peer);
    scene.hear(conn, [Encoder::open(&peer), Encoder::keepalive()].concat());
    assert_eq!(scene.out.len(), 3, "{:?}", scene.out);
}

#[test]
fn a_stopped_session_does_nothing_until_it_starts() {
    let (mut scene, conn) = Scene::established(config(), &open(1, |_| {}));
    let bye = Notification::Cease(CeaseSubcode::AdminShutdown, Some("maintenance".into()));
    scene.tell(Event::Stop { notification: Some(bye.clone()) });
    assert_eq!(scene.refused(conn), Some(bye.clone()));
    assert_eq!(scene.down(), Some((&DownReason::Sent(bye), false)));
    assert_eq!((scene.session.state(), scene.session.deadline()), (State::Idle, None));
    let incoming = crate::speaker::ConnId::In(1);
    scene.tell(Event::Accepted { conn: incoming });
    assert!(scene.is_closed(incoming));
    // Late news of the old connection say nothing.
    scene.tell(Event::Closed { conn, why: ConnectFailure::Closed });
    assert!(scene.out.is_empty());
    scene.tell(Event::Start);
    assert!(scene.asked().is_some_and(|other| other != conn), "ids are never used twice");
}
