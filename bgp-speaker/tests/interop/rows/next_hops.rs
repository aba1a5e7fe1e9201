//! Rows about next hops: IPv6 ones of IPv4 routes (RFC 8950), and those of third parties (RFC 4271, section 5.1.3).

use super::{OUR_ASN, OURS4, OURS6, Over, Scene, THEIR_ASN, THEIRS, THEIRS4, THEIRS6, told};
use crate::bed::{Bed, SOON, wait_for};
use crate::ours::{Ours, config, neighbour};
use crate::told::Kind;
use bgp_speaker::config::PeerAddress;
use bgp_speaker::policy::Policy;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

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

/// A router on another link tells us of a third one that is on the link between us and the daemon: the daemon reaches it
/// without us.
pub(crate) fn third_party(kind: Kind) {
    const OTHER_ASN: u32 = 65_003;
    let bed = Bed::new(2);
    let (link, far) = (&bed.links[0], &bed.links[1]);
    let third = IpAddr::from(Ipv4Addr::new(10, 0, 1, 9));
    let peers = [(THEIRS, neighbour(link.their4(), THEIR_ASN)), ("other", neighbour(far.their4(), OTHER_ASN))];
    let ours = Ours::start(&bed.ours, config(OUR_ASN, "10.255.0.1", peers));
    let mut us = neighbour(far.our4(), OUR_ASN);
    let says = format!(
        r#"{{ "statements": [{{ "set": {{ "next-hop": "{third}" }}, "then": "accept" }}], "default": "reject" }}"#
    );
    us.export = Some(Arc::new(Policy::export(&serde_json::from_str(&says).unwrap()).unwrap()));
    let other = Ours::start(&far.theirs, config(OTHER_ASN, "10.255.0.3", [("us", us)]));
    other.originate(&[OURS4]);
    let daemon = kind.start(link, &told(link, Over::V4));
    let state = || format!("--- ours\n{}\n--- theirs\n{}", ours.state(), daemon.state());
    wait_for("the route", SOON, state, || daemon.has(OURS4));
    let hop = || daemon.paths(OURS4).first().and_then(|path| path.next_hop);
    wait_for("its own next hop", SOON, state, || hop() == Some(third));
    assert_eq!(daemon.paths(OURS4)[0].as_path, [OUR_ASN, OTHER_ASN], "{}", state());
}
