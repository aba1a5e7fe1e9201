//! Rows about graceful restart: killed without a word, back again, no route lost. RFC 4724.

use super::{OURS4, OURS6, Over, Scene, THEIR_ASN, THEIRS, THEIRS4, THEIRS6, told};
use crate::apart::{Apart, Peer, Plan};
use crate::bed::{Bed, SOON, wait_for};
use crate::told::Kind;
use bgp_speaker::config::LongLived;

/// Longer than a busy machine may stand still.
const RESTART_SECONDS: u16 = 120;

pub(crate) fn they_restart(kind: Kind) {
    let mut scene = Scene::new(kind, Over::V4, |plan| plan.us().restart_seconds = Some(RESTART_SECONDS));
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    scene.wait("their IPv6 route", || scene.ours.has(THEIRS6));
    let ups = scene.ours.ups(THEIRS);
    scene.theirs.kill();
    scene.wait("we see them go", || !scene.ours.is_up(THEIRS));
    // One of its routes is gone meanwhile, which nobody knows before it has said all.
    let mut told = scene.told.clone();
    told.announce.retain(|announce| announce.prefix.addr().is_ipv4());
    scene.theirs.restart(&told);
    scene.wait("up again", || scene.ours.is_up(THEIRS) && scene.ours.ups(THEIRS) > ups);
    scene.wait("nothing is stale", || scene.ours.is_fresh(THEIRS));
    assert!(scene.ours.has(THEIRS4) && !scene.ours.ever_lost(THEIRS4), "{}", scene.state());
    scene.wait("what it has not said again is gone", || !scene.ours.has(THEIRS6));
}

/// RFC 9494: away for longer than the restart time, and their routes are used last, not lost.
pub(crate) fn they_stay_away(kind: Kind) {
    let mut scene = Scene::new(kind, Over::V4, |plan| {
        plan.us().restart_seconds = Some(1);
        plan.us().long_lived_seconds = Some(600);
        plan.peer.long_lived = Some(LongLived { stale_time_seconds: 600 });
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    let ups = scene.ours.ups(THEIRS);
    scene.theirs.kill();
    scene.wait("their route is long-lived", || scene.ours.is_long_lived(THEIRS4));
    assert!(scene.ours.has(THEIRS4), "{}", scene.state());
    let told = scene.told.clone();
    scene.theirs.restart(&told);
    scene.wait("up again", || scene.ours.is_up(THEIRS) && scene.ours.ups(THEIRS) > ups);
    scene.wait("nothing is stale", || scene.ours.is_fresh(THEIRS) && !scene.ours.is_long_lived(THEIRS4));
    assert!(scene.ours.has(THEIRS4) && !scene.ours.ever_lost(THEIRS4), "{}", scene.state());
}

pub(crate) fn we_restart(kind: Kind) {
    let bed = Bed::new(1);
    let link = bed.link();
    let start = |own, restarted| {
        let peers = [Peer::new(link.their4(), THEIR_ASN)];
        Apart::start(&bed.ours, &Plan { peers: &peers, own, next_hop_v6: Some(link.our6()), restarted })
    };
    let ours = start(&[OURS4, OURS6], false);
    let mut told = told(link, Over::V4);
    told.neighbours[0].restart_seconds = Some(RESTART_SECONDS);
    let theirs = kind.start(link, &told);
    let state = || theirs.state();
    wait_for("routes", SOON, state, || theirs.has(OURS4) && theirs.has(OURS6) && ours.has(THEIRS4));
    ours.kill();
    let kept = || assert!(theirs.has(OURS4), "{}", theirs.state());
    wait_for("they see us go", SOON, state, || {
        kept();
        !theirs.is_up(link.our4())
    });
    assert!(theirs.has(OURS6), "{}", theirs.state());
    // One of our routes is gone meanwhile.
    let ours = start(&[OURS4], true);
    wait_for("up again", SOON, state, || {
        kept();
        ours.is_up(link.their4()) && theirs.is_up(link.our4())
    });
    wait_for("we know all", SOON, state, || {
        kept();
        ours.is_in_sync() && ours.has(THEIRS4)
    });
    wait_for("what we have not said again is gone", SOON, state, || {
        kept();
        !theirs.has(OURS6)
    });
}
