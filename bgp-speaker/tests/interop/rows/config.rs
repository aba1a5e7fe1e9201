//! Rows about what we are told to be: once, or later on.

use super::{OUR_ASN, OURS4, Over, Scene, THEIR_ASN, THEIRS, THEIRS4, told};
use crate::bed::{Bed, SOON, wait_for};
use crate::ours::{Ours, asn, config, neighbour};
use crate::told::Kind;
use bgp_speaker::config::{ListenRange, RemoteAsn};
use bgp_speaker::speaker::DownReason;
use bgp_speaker::types::{Notification, OpenSubcode, Role};

/// RFC 8326, on a session that stands: all our routes are marked, then no longer.
pub(crate) fn drain(kind: Kind) {
    let mut scene = Scene::new(kind, Over::V4, |_| ());
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    let ups = scene.ours.ups(THEIRS);
    for drain in [true, false] {
        scene.ours.change(|config| config.peers.get_mut(THEIRS).unwrap().drain = drain);
        scene.wait("the mark comes or goes", || {
            let all = scene.theirs.paths(OURS4).pop().map(|path| path.communities).unwrap_or_default();
            // As a number, or by its name.
            let is_mark =
                |text: &String| text == "65535:0" || text.to_lowercase().replace('_', "-") == "graceful-shutdown";
            scene.theirs.has(OURS4) && all.iter().any(is_mark) == drain
        });
    }
    assert_eq!(scene.ours.ups(THEIRS), ups, "{}", scene.state());
}

/// RFC 9234, section 4.2: provider and customer, or no session.
pub(crate) fn roles(kind: Kind) {
    let scene = |theirs: &'static str| {
        Scene::new(kind, Over::V4, |plan| {
            plan.peer.role = Some(Role::Provider);
            plan.us().role = Some(theirs);
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wrong = scene("provider");
            wrong.wait("refused, and we know why", || {
                let last = wrong.ours.peer(THEIRS).last;
                matches!(
                    last,
                    Some(
                        DownReason::Sent(Notification::Open(OpenSubcode::RoleMismatch, _))
                            | DownReason::Received(Notification::Open(OpenSubcode::RoleMismatch, _))
                    )
                )
            });
        });
        let right = scene("customer");
        right.up();
        right.exchanged(OURS4, THEIRS4);
        let agreed = right.ours.peer(THEIRS).session.and_then(|session| session.role);
        assert_eq!(agreed, Some(Role::Provider), "{}", right.state());
    });
}

/// A peer that nobody named, from a range that was.
pub(crate) fn range(kind: Kind) {
    let bed = Bed::new(1);
    let link = bed.link();
    let mut template = neighbour(link.their4(), THEIR_ASN);
    template.asn = RemoteAsn::Exactly(asn(THEIR_ASN));
    let mut config = config(OUR_ASN, "10.255.0.1", []);
    config.ranges = [("pods".into(), ListenRange { range: "10.0.0.0/16".parse().unwrap(), template, limit: 2 })].into();
    let ours = Ours::start(&bed.ours, config);
    ours.originate(&[OURS4]);
    let theirs = kind.start(link, &told(link, Over::V4));
    let state = || format!("--- ours\n{}\n--- theirs\n{}", ours.state(), theirs.state());
    wait_for("routes", SOON, state, || theirs.has(OURS4) && ours.has(THEIRS4));
    assert!(ours.is_up("pods/10.0.1.2"), "{}", state());
}
