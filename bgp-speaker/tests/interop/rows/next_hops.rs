//! Rows about IPv4 routes that go by way of IPv6. RFC 8950.

use super::{OURS4, OURS6, Over, Scene, THEIRS4, THEIRS6};
use crate::told::Kind;
use bgp_speaker::config::PeerAddress;

pub(crate) fn extended_next_hop(kind: Kind) {
    let scene = Scene::new(kind, Over::V6, |plan| {
        plan.peer.extended_next_hop = true;
        plan.us().extended_next_hop = true;
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    let link = scene.bed.link();
    let hop = scene.theirs.paths(OURS4)[0].next_hop;
    assert!(hop == Some(link.our6()) || hop == Some(link.our_link_local()), "{hop:?}\n{}", scene.state());
    let hops = scene.ours.next_hops(THEIRS4);
    assert!(hops == [link.their6()] || hops == [link.their_link_local()], "{hops:?}\n{}", scene.state());
}

/// Neither end has an address or knows one of the other: both listen for router advertisements (BIRD sends them, and knows the address).
pub(crate) fn unnumbered(kind: Kind) {
    let scene = Scene::new(kind, Over::LinkLocal, |plan| {
        plan.peer.address = PeerAddress::Interface(plan.link.device().into());
        plan.us().extended_next_hop = true;
        plan.us().unnumbered = true;
    });
    scene.up();
    scene.exchanged(OURS4, THEIRS4);
    scene.exchanged(OURS6, THEIRS6);
    assert_eq!(scene.theirs.paths(OURS4)[0].next_hop, Some(scene.our), "{}", scene.state());
    assert_eq!(scene.ours.next_hops(THEIRS4), [scene.their], "{}", scene.state());
}
