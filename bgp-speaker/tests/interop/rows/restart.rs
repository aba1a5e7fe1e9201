//! Rows about graceful restart: killed without a word, back again, no route lost. RFC 4724.

use super::{OURS4, OURS6, Over, Scene, THEIRS, THEIRS4, THEIRS6};
use crate::told::Kind;

const RESTART_SECONDS: u16 = 30;

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

pub(crate) fn we_restart(kind: Kind) {
    let mut scene = Scene::new(kind, Over::V4, |plan| plan.us().restart_seconds = Some(RESTART_SECONDS));
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    scene.wait("our IPv6 route", || scene.theirs.has(OURS6));
    scene.ours.kill();
    let kept = |scene: &Scene| assert!(scene.theirs.has(OURS4), "{}", scene.state());
    scene.wait("they see us go", || {
        kept(&scene);
        !scene.theirs.is_up(scene.our)
    });
    assert!(scene.theirs.has(OURS6), "{}", scene.state());
    // One of our routes is gone meanwhile.
    scene.ours.restart(&[OURS4]);
    scene.wait("up again", || {
        kept(&scene);
        scene.ours.is_up(THEIRS) && scene.theirs.is_up(scene.our)
    });
    scene.wait("we have sent our routes", || {
        kept(&scene);
        scene.ours.is_in_sync()
    });
    scene.wait("what we have not said again is gone", || {
        kept(&scene);
        !scene.theirs.has(OURS6)
    });
    scene.wait("their route", || scene.ours.has(THEIRS4));
}
