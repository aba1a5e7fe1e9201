//! Rows about how sessions end, and what is said about it.

use super::{OURS4, Over, Scene, THEIR_ASN, THEIRS, THEIRS4, told};
use crate::apart::{Apart, Peer, Plan};
use crate::bed::{Bed, SOON, wait_for};
use crate::told::{Announce, Kind};
use bgp_speaker::config::MaxPrefixes;
use bgp_speaker::speaker::DownReason;
use bgp_speaker::types::{CeaseSubcode, Family, Notification};
use std::time::{Duration, Instant};

/// What is inside a hard reset, which some send for what ends for good. RFC 8538.
fn real(notification: &Notification) -> &Notification {
    if let Notification::HardReset(reason) = notification { reason } else { notification }
}

const TEXT: &str = "back at nine, see ticket 4711";

/// The other way round: they see that we are frozen.
pub(crate) fn bfd_of_us(kind: Kind) {
    let bed = Bed::new(1);
    let link = bed.link();
    let peers = [Peer { bfd: true, ..Peer::new(link.their4(), THEIR_ASN) }];
    let ours = Apart::start(&bed.ours, &Plan { peers: &peers, own: &[OURS4], next_hop_v6: None, restarted: false });
    let mut told = told(link, Over::V4);
    told.neighbours[0].bfd = true;
    let theirs = kind.start(link, &told);
    let state = || theirs.state();
    wait_for("BFD is up", SOON, state, || theirs.has(OURS4) && ours.peer(link.their4())["bfd"] == true);
    ours.freeze();
    let since = Instant::now();
    wait_for("gone", SOON, state, || !theirs.is_up(link.our4()));
    let took = since.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}\n{}", state());
}

/// A frozen peer still acknowledges TCP: without BFD only the hold time would end the session.
pub(crate) fn bfd(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| {
        plan.peer.bfd = Some(crate::ours::bfd());
        plan.us().bfd = true;
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    scene.wait("BFD is up", || scene.ours.bfd_is_up(THEIRS));
    scene.theirs.freeze();
    let since = Instant::now();
    scene.wait("gone", || !scene.ours.is_up(THEIRS));
    let took = since.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}\n{}", scene.state());
    let ended = scene.ours.ends(THEIRS);
    let by_bfd =
        |reason: &DownReason| matches!(reason, DownReason::Sent(Notification::Cease(CeaseSubcode::BfdDown, _)));
    assert!(ended.iter().any(by_bfd), "{ended:?}");
    scene.wait("its routes go", || !scene.ours.has(THEIRS4));
}

pub(crate) fn they_announce_too_much(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| {
        plan.peer.max_prefixes =
            [(Family::Ipv4, MaxPrefixes { limit: 2, warn_percent: 75, restart_after: None })].into();
        plan.told.announce = ["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"].map(Announce::new).into();
    });
    let full = |reason: &DownReason| {
        let DownReason::Sent(notification) = reason else { return false };
        matches!(real(notification), Notification::Cease(CeaseSubcode::MaxPrefixes, _))
    };
    scene.wait("we end the session", || scene.ours.ends(THEIRS).iter().any(full));
    scene.wait("its routes go", || !scene.ours.has("10.1.1.0/24"));
    scene.wait("they know why", || {
        let words = scene.theirs.last_words(scene.our).to_lowercase();
        ["maximum number of prefixes", "max prefix", "max-prefix", "cease/1", "6/1", "code 6 subcode 1"]
            .iter()
            .any(|way| words.contains(way))
    });
    assert!(!scene.ours.is_up(THEIRS), "only an administrator begins again");
}

pub(crate) fn we_announce_too_much(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| plan.us().limit = Some(2));
    scene.ours.originate(&["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24"]);
    let full = |reason: &DownReason| {
        let DownReason::Received(notification) = reason else { return false };
        matches!(real(notification), Notification::Cease(CeaseSubcode::MaxPrefixes, _))
    };
    scene.wait("they end the session and we know why", || scene.ours.ends(THEIRS).iter().any(full));
}

pub(crate) fn we_shut(kind: Kind) {
    let mut scene = Scene::new(kind, Over::V4, |_| ());
    scene.up();
    scene.ours.change(|config| config.peers.get_mut(THEIRS).unwrap().shutdown = Some(TEXT.to_owned()));
    scene.wait("they have our text", || scene.theirs.last_words(scene.our).contains(TEXT));
    scene.wait("they are down", || !scene.theirs.is_up(scene.our));
}

pub(crate) fn they_shut(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |_| ());
    scene.up();
    scene.theirs.shut(scene.our, TEXT);
    let text = |reason: &DownReason| {
        let DownReason::Received(notification) = reason else { return false };
        matches!(real(notification), Notification::Cease(CeaseSubcode::AdminShutdown, Some(text)) if text == TEXT)
    };
    scene.wait("we have their text", || scene.ours.ends(THEIRS).iter().any(text));
}
