//! How sessions end, and whether routes outlive them. RFC 4724; RFC 8538; RFC 9003; RFC 9384.

use super::scene::{PEER, Scene, config, open, restarts};
use crate::config::{RemoteAsn, Secret};
use crate::session::{Action, Config, Event, State, needs_reset};
use crate::speaker::{ConnectFailure, DownReason};
use crate::types::{CeaseSubcode, Family, Notification, Open, Refresh, RefreshKind, UpdateSubcode};
use crate::wire::Encoder;
use std::time::Duration;

fn cease(subcode: CeaseSubcode) -> Notification {
    Notification::Cease(subcode, None)
}

/// A peer that restarts gracefully, of RFC 8538 or before it.
fn restarting(notification: bool) -> Open {
    open(1, |open| open.capabilities.graceful_restart = restarts(notification))
}

/// Whether routes stay when a session with `peer` ends like that.
fn keeps(peer: &Open, end: impl Fn(&mut Scene, crate::speaker::ConnId)) -> bool {
    let (mut scene, conn) = Scene::established(config(), peer);
    end(&mut scene, conn);
    assert_ne!(scene.session.state(), State::Established);
    scene.down().expect("it ended").1
}

fn hears(notification: Notification) -> impl Fn(&mut Scene, crate::speaker::ConnId) {
    move |scene, conn| {
        scene.hear(conn, Encoder::notification(&notification));
    }
}

#[test]
fn rfc_4724_4_2_routes_outlive_a_lost_connection() {
    let lost = |scene: &mut Scene, conn| {
        scene.tell(Event::Closed { conn, why: ConnectFailure::Reset });
    };
    assert!(keeps(&restarting(false), lost));
    assert!(keeps(&restarting(true), lost));
    assert!(!keeps(&open(1, |_| {}), lost), "it cannot");
    let helper = open(1, |open| {
        open.capabilities.graceful_restart = restarts(true);
        open.capabilities.graceful_restart.as_mut().unwrap().families.clear();
    });
    assert!(!keeps(&helper, lost), "it only helps others");
}

#[test]
fn rfc_8538_4_routes_outlive_a_notification_where_both_say_so() {
    let expired = |scene: &mut Scene, _| {
        scene.pass(Duration::from_secs(90));
    };
    for (notification, stays) in [
        (Notification::HoldTimerExpired, true),
        (cease(CeaseSubcode::AdminReset), true),
        (cease(CeaseSubcode::AdminShutdown), true),
        (Notification::HardReset(Box::new(cease(CeaseSubcode::AdminShutdown))), false),
        (cease(CeaseSubcode::HardReset), false),
    ] {
        assert_eq!(keeps(&restarting(true), hears(notification.clone())), stays, "{notification}");
        assert!(!keeps(&restarting(false), hears(notification)), "RFC 4724 says no");
    }
    assert!(keeps(&restarting(true), expired));
    assert!(!keeps(&restarting(false), expired));
}

#[test]
fn rfc_8538_3_1_what_we_end_for_good_is_a_hard_reset() {
    for (subcode, is_hard) in [
        (CeaseSubcode::AdminShutdown, true),
        (CeaseSubcode::Deconfigured, true),
        (CeaseSubcode::MaxPrefixes, true),
        (CeaseSubcode::AdminReset, false),
    ] {
        let sent = if is_hard { Notification::HardReset(Box::new(cease(subcode))) } else { cease(subcode) };
        let stop = || Event::Stop { notification: Some(cease(subcode)) };
        let (mut scene, conn) = Scene::established(config(), &restarting(true));
        assert_eq!(scene.tell(stop()).refused(conn), Some(sent));
        let (mut scene, conn) = Scene::established(config(), &restarting(false));
        assert_eq!(scene.tell(stop()).refused(conn), Some(cease(subcode)));
    }
}

#[test]
fn rfc_9384_a_peer_that_bfd_calls_dead_is_told_and_forgotten() {
    let (mut scene, conn) = Scene::established(config(), &restarting(true));
    scene.tell(Event::BfdDown);
    assert_eq!(scene.refused(conn), Some(cease(CeaseSubcode::BfdDown)));
    assert_eq!(scene.down(), Some((&DownReason::Sent(cease(CeaseSubcode::BfdDown)), false)));
    let (mut scene, _) = Scene::connected(config());
    assert!(scene.tell(Event::BfdDown).out.is_empty(), "not yet established");
}

#[test]
fn our_own_restart_closes_without_a_word() {
    let (mut scene, conn) = Scene::established(config(), &restarting(true));
    scene.tell(Event::Stop { notification: None });
    assert!(scene.is_closed(conn) && scene.sent(conn).is_empty());
}

#[test]
fn rfc_7606_a_message_without_certain_prefixes_ends_the_session() {
    let (mut scene, conn) = Scene::established(config(), &open(1, |_| {}));
    let mut bytes = Encoder::keepalive().to_vec();
    bytes[17] = 24;
    bytes[18] = 2;
    bytes.extend([0, 1, 33, 0, 0]);
    scene.hear(conn, bytes);
    assert!(matches!(scene.refused(conn), Some(Notification::Update(UpdateSubcode::InvalidNetwork, _))));
    assert_eq!(scene.session.state(), State::Idle);
}

/// RFC 4271, section 6.3; RFC 7606, section 7.2.
#[test]
fn routes_of_an_external_peer_begin_with_its_system() {
    let heard = |config: Config, path: &[u32]| {
        let (mut scene, conn) = Scene::established(config, &open(1, |_| {}));
        scene.hear_route(conn, path);
        let [Action::Update(update)] = &scene.out[..] else { panic!("{:?}", scene.out) };
        (update.announcements.len(), update.withdrawals.len(), update.problems.len())
    };
    assert_eq!(heard(config(), &[PEER, 1]), (1, 0, 0));
    assert_eq!(heard(config(), &[1, PEER]), (0, 1, 1));
    assert_eq!(heard(config(), &[]), (0, 1, 1));
    let mut lax = config();
    lax.peer.skip_first_asn_check = true;
    assert_eq!(heard(lax, &[1, PEER]), (1, 0, 0));
}

#[test]
fn rfc_7313_marks_of_a_refresh_count_where_both_know_them() {
    let refresh = |kind| Refresh { family: Family::Ipv4, kind };
    let heard = |enhanced, kind| {
        let peer = open(1, |open| open.capabilities.enhanced_route_refresh = enhanced);
        let (mut scene, conn) = Scene::established(config(), &peer);
        scene.hear(conn, Encoder::refresh(refresh(kind)));
        scene.out == [Action::Refresh(refresh(kind))]
    };
    assert!(heard(false, RefreshKind::Request) && heard(true, RefreshKind::Request));
    assert!(!heard(false, RefreshKind::Begin) && heard(true, RefreshKind::Begin) && heard(true, RefreshKind::End));
}

/// What a change costs, and what it says in a plan.
#[test]
fn a_session_is_reset_only_for_what_an_open_or_a_connection_carries() {
    let changed = |change: fn(&mut Config)| {
        let mut new = config();
        change(&mut new);
        needs_reset(&config(), &new)
    };
    assert_eq!(changed(|_| {}), None);
    assert_eq!(changed(|config| config.peer.hold.hold_seconds = 9), None);
    assert_eq!(changed(|config| config.peer.drain = true), None);
    assert_eq!(changed(|config| config.peer.next_hop_self = true), None);
    assert_eq!(changed(|config| config.restarting = true), None);
    assert_eq!(changed(|config| config.peer.asn = RemoteAsn::External), Some("asn"));
    assert_eq!(changed(|config| config.peer.password = Secret::new(b"secret")), Some("password"));
    assert_eq!(changed(|config| config.peer.families = [Family::Ipv4].into()), Some("families"));
    assert_eq!(changed(|config| config.router_id = open(9, |_| {}).id), Some("router_id"));
}

#[test]
fn a_change_of_configuration_ends_a_session_only_where_it_has_to() {
    let (mut scene, conn) = Scene::established(config(), &restarting(true));
    let mut soft = config();
    soft.peer.hold.send_hold = None;
    soft.peer.hold.hold_seconds = 30;
    scene.out.clear();
    scene.session.reconfigure(scene.now, soft.clone(), &mut scene.out);
    assert!(scene.out.is_empty());
    assert_eq!(scene.session.connection(), Some(conn));

    soft.peer.families = [Family::Ipv4].into();
    scene.session.reconfigure(scene.now, soft, &mut scene.out);
    assert_eq!(scene.refused(conn), Some(cease(CeaseSubcode::ConfigurationChange)));
    let reason = DownReason::Sent(cease(CeaseSubcode::ConfigurationChange));
    assert_eq!(scene.down(), Some((&reason, true)), "RFC 8538: both are there again at once");
    scene.pass(Duration::from_secs(1));
    assert!(scene.asked().is_some());
}

#[test]
fn a_session_that_becomes_passive_or_active_does_so_at_once() {
    let mut passive = config();
    passive.peer.passive = true;
    let mut scene = Scene::new(passive.clone());
    scene.tell(Event::Start);
    scene.session.reconfigure(scene.now, config(), &mut scene.out);
    assert!(scene.pass(Duration::from_secs(1)).asked().is_some());
    let mut stopped = Scene::new(config());
    stopped.session.reconfigure(stopped.now, passive, &mut stopped.out);
    assert_eq!(stopped.session.state(), State::Idle, "not started");
}
