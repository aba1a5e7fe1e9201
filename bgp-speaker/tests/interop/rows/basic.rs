//! Rows about what every session does.

use super::{OUR_ASN, OURS4, OURS6, Over, Scene, THEIR_ASN, THEIRS, THEIRS4, THEIRS6};
use crate::ours::asn;
use crate::told::Kind;
use bgp_speaker::config::RemoteAsn;
use bgp_speaker::types::Family;
use std::time::{Duration, Instant};

const LONG_PREFIXES: u16 = 4000;

pub(crate) fn ipv4(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| {
        plan.us().ipv6 = false;
        plan.peer.families = [Family::Ipv4].into();
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    assert_eq!(scene.theirs.paths(OURS4)[0].next_hop, Some(scene.our), "{}", scene.state());
    assert_eq!(scene.theirs.paths(OURS4)[0].as_path, [OUR_ASN]);
    assert_eq!(scene.ours.next_hops(THEIRS4), [scene.their]);
    assert_eq!(scene.ours.as_path(THEIRS4), THEIR_ASN.to_string());
    assert!(!scene.theirs.has(OURS6), "a family that was not offered");
    scene.ours.withdraw(OURS4);
    scene.wait("withdrawn", || !scene.theirs.has(OURS4));
}

pub(crate) fn ipv6(kind: Kind) {
    let scene = Scene::new(kind, Over::V6, |plan| {
        plan.us().ipv4 = false;
        plan.peer.families = [Family::Ipv6].into();
    });
    scene.up();
    scene.exchanged(OURS6, THEIRS6);
    let hop = scene.theirs.paths(OURS6)[0].next_hop;
    assert!(hop == Some(scene.our) || hop == Some(scene.bed.link().our_link_local()), "{hop:?}");
    let hops = scene.ours.next_hops(THEIRS6);
    assert!(hops == [scene.their] || hops == [scene.bed.link().their_link_local()], "{hops:?}");
    scene.ours.withdraw(OURS6);
    scene.wait("withdrawn", || !scene.theirs.has(OURS6));
}

/// The other family's next hop is the address that the device of the session has besides.
pub(crate) fn both_families(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |_| ());
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    scene.exchanged(OURS6, THEIRS6);
    let link = scene.bed.link();
    assert_eq!(scene.theirs.paths(OURS6)[0].next_hop, Some(link.our6()), "{}", scene.state());
    let hops = scene.ours.next_hops(THEIRS6);
    assert!(hops == [link.their6()] || hops == [link.their_link_local()], "{hops:?}");
}

pub(crate) fn four_byte_asn(kind: Kind) {
    let (ours, theirs) = (4_200_000_001, 4_200_000_002);
    let scene = Scene::new(kind, Over::V4, |plan| {
        plan.asn = ours;
        plan.peer.asn = RemoteAsn::Exactly(asn(theirs));
        plan.told.asn = theirs;
        plan.us().asn = ours;
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    assert_eq!(scene.theirs.paths(OURS4)[0].as_path, [ours]);
    assert_eq!(scene.ours.as_path(THEIRS4), theirs.to_string());
}

/// RFC 4271, section 6.8: of two connections the one that the greater identifier began stays.
pub(crate) fn collision(kind: Kind) {
    std::thread::scope(|scope| {
        for id in ["10.0.0.1", "10.255.255.1"] {
            scope.spawn(move || {
                let scene = Scene::new(kind, Over::V4, |plan| plan.told.id = id.parse().unwrap());
                scene.up();
                scene.exchanged(OURS4, THEIRS4);
                // The peer may have dropped the first one when it had only just come up.
                let (since, ups) = (Instant::now(), scene.ours.ups(THEIRS));
                // A second connection that comes later must not end the first.
                scene.wait("some seconds pass", || {
                    assert!(scene.ours.is_up(THEIRS) && scene.theirs.has(OURS4), "{}", scene.state());
                    since.elapsed() > Duration::from_millis(2500)
                });
                assert_eq!(scene.ours.ups(THEIRS), ups, "{}", scene.state());
            });
        }
    });
}

pub(crate) fn communities(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| {
        for announce in &mut plan.told.announce {
            announce.communities = &[(65_002, 1), (65_002, 2)];
            announce.targets = &[(65_002, 3)];
            announce.large = &[(4_200_000_000, 4, 5)];
        }
    });
    scene.ours.originate_with(OURS4, &["65001:1", "65001:2"], &["rt:65001:3"], &["4200000000:4:5"]);
    scene.up();
    scene.wait("their communities", || {
        scene.ours.communities(THEIRS4) == ["65002:1", "65002:2", "rt:65002:3", "4200000000:4:5"]
    });
    scene.wait("our communities", || {
        let all = scene.theirs.paths(OURS4).pop().map(|path| path.communities).unwrap_or_default();
        all.iter().map(String::as_str).eq(["4200000000:4:5", "65001:1", "65001:2", "rt:65001:3"])
    });
}

/// RFC 8654: all of these prefixes fit into one message, and would need four of the usual ones.
pub(crate) fn extended_messages(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |_| ());
    scene.ours.originate_many(LONG_PREFIXES);
    scene.up();
    let session = scene.ours.peer(THEIRS).session.unwrap();
    assert_eq!(session.max_message_bytes, u16::MAX, "{}", scene.state());
    scene.wait("the first and the last", || {
        let last = format!("100.{}.{}.0/24", LONG_PREFIXES >> 8, LONG_PREFIXES & 0xff);
        scene.theirs.has("100.0.1.0/24") && scene.theirs.has(&last)
    });
    assert!(scene.ours.is_up(THEIRS), "{}", scene.state());
}

/// RFC 2918: they ask for all our routes once more.
pub(crate) fn refresh(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |_| ());
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    let sent = scene.ours.refreshes_in(THEIRS);
    scene.theirs.refresh(scene.our);
    scene.wait("they ask us", || scene.ours.refreshes_in(THEIRS) > sent);
    assert!(scene.theirs.has(OURS4) && scene.ours.has(THEIRS4), "{}", scene.state());
}

/// RFC 2918: we ask for all their routes once more.
pub(crate) fn refresh_of_us(kind: Kind) {
    let scene = Scene::new(kind, Over::V4, |plan| {
        plan.us().ipv6 = false;
        plan.peer.families = [Family::Ipv4].into();
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    // What they tell by themselves is over, and so are collisions.
    let now = || (scene.ours.updates_in(THEIRS), scene.ours.ups(THEIRS));
    let (mut last, mut since) = (now(), Instant::now());
    scene.wait("nothing more comes", || {
        if now() != last {
            (last, since) = (now(), Instant::now());
        }
        since.elapsed() > Duration::from_millis(2500)
    });
    scene.ours.refresh(THEIRS);
    scene.wait("they tell us", || scene.ours.updates_in(THEIRS) > last.0);
    assert!(scene.theirs.has(OURS4) && scene.ours.has(THEIRS4), "{}", scene.state());
    assert_eq!(scene.ours.ups(THEIRS), last.1, "{}", scene.state());
}
