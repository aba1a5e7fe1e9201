//! Rows with three speakers: reflection and several paths of one prefix. RFC 4456, RFC 7911.

use super::{OUR_ASN, Over, THEIRS, told};
use crate::bed::{Bed, Link, SOON, wait_for};
use crate::bird::Bird;
use crate::ours::{Ours, add_path, config, neighbour};
use crate::told::{Announce, Daemon, Kind, Neighbour, Told};
use std::net::IpAddr;

/// What both sources announce.
const SHARED: &str = "192.0.2.0/24";
const THEIRS4: &str = "198.51.100.0/24";
const OURS4: &str = "203.0.113.0/24";

/// A neighbour in the middle of the star, as those around see it.
fn centre(link: &Link, asn: u32) -> Neighbour {
    Neighbour::new(link.our4(), link.their4(), asn)
}

/// A BIRD around the star that announces one prefix.
fn source(link: &Link, asn: u32, id: &str, prefix: &str, centre_asn: u32) -> Bird {
    let announce = vec![Announce::new(prefix)];
    Bird::start(link, &Told { asn, id: id.parse().unwrap(), neighbours: vec![centre(link, centre_asn)], announce })
}

fn report(all: &[&dyn Daemon], ours: &Ours) -> String {
    let states: Vec<String> = all.iter().map(|daemon| daemon.state()).collect();
    format!("--- ours\n{}\n--- others\n{}", ours.state(), states.join("\n---\n"))
}

/// Two sources, we in the middle, the daemon takes both paths.
pub(crate) fn add_path_out(kind: Kind) {
    let bed = Bed::new(3);
    let sources = [(1, 65_011), (2, 65_012)]
        .map(|(at, asn)| source(&bed.links[at], asn, &format!("10.255.1.{at}"), SHARED, OUR_ASN));
    let mut theirs = neighbour(bed.links[0].their4(), super::THEIR_ASN);
    theirs.add_path = add_path();
    let others = [(1, 65_011), (2, 65_012)].map(|(at, asn): (usize, u32)| neighbour(bed.links[at].their4(), asn));
    let [one, two] = others;
    let ours = Ours::start(&bed.ours, config(OUR_ASN, "10.255.0.1", [(THEIRS, theirs), ("one", one), ("two", two)]));
    let mut told = told(bed.link(), Over::V4);
    told.neighbours[0].add_path = true;
    let daemon = kind.start(bed.link(), &told);
    let state = || report(&[&*daemon, &sources[0], &sources[1]], &ours);
    wait_for("two paths", SOON, state, || daemon.paths(SHARED).len() == 2);
    let mut origins: Vec<u32> = daemon.paths(SHARED).iter().filter_map(|path| path.as_path.last().copied()).collect();
    origins.sort_unstable();
    assert_eq!(origins, [65_011, 65_012], "{}", state());
}

/// Two sources, the daemon in the middle, we take both paths.
pub(crate) fn add_path_in(kind: Kind) {
    let bed = Bed::new(3);
    let middle = super::THEIR_ASN;
    let sources = [(1, 65_011), (2, 65_012)]
        .map(|(at, asn)| source(&bed.links[at], asn, &format!("10.255.1.{at}"), SHARED, middle));
    let around = |at: usize, asn: u32| Neighbour::new(bed.links[at].their4(), bed.links[at].our4(), asn);
    let mut us = around(0, OUR_ASN);
    us.add_path = true;
    let told = Told {
        asn: middle,
        id: "10.255.0.2".parse().unwrap(),
        neighbours: vec![us, around(1, 65_011), around(2, 65_012)],
        announce: Vec::new(),
    };
    let daemon = kind.start(&bed.link().reversed(&bed.ours), &told);
    let mut theirs = neighbour(bed.link().our4(), middle);
    theirs.add_path = add_path();
    let ours = Ours::start(&bed.link().theirs, config(OUR_ASN, "10.255.0.1", [(THEIRS, theirs)]));
    let state = || report(&[&*daemon, &sources[0], &sources[1]], &ours);
    wait_for("two paths", SOON, state, || ours.paths(SHARED) == 2);
}

/// We reflect between the daemon and a BIRD, both our clients.
pub(crate) fn we_reflect(kind: Kind) {
    let bed = Bed::new(2);
    let bird = source(&bed.links[1], OUR_ASN, "10.255.1.1", SHARED, OUR_ASN);
    let client = |address: IpAddr| {
        let mut peer = neighbour(address, OUR_ASN);
        peer.reflector_client = true;
        peer
    };
    let peers = [(THEIRS, client(bed.links[0].their4())), ("bird", client(bed.links[1].their4()))];
    let ours = Ours::start(&bed.ours, config(OUR_ASN, "10.255.0.1", peers));
    ours.originate(&[OURS4]);
    let mut told = told(bed.link(), Over::V4);
    told.asn = OUR_ASN;
    let daemon = kind.start(bed.link(), &told);
    let bird: &dyn Daemon = &bird;
    let state = || report(&[&*daemon, bird], &ours);
    wait_for("reflected", SOON, state, || {
        daemon.has(SHARED) && bird.has(THEIRS4) && daemon.has(OURS4) && bird.has(OURS4)
    });
    assert_eq!(daemon.paths(SHARED)[0].originator, Some("10.255.1.1".parse().unwrap()), "{}", state());
    assert_eq!(bird.paths(THEIRS4)[0].originator, Some("10.255.0.2".parse().unwrap()), "{}", state());
    assert_eq!(daemon.paths(SHARED)[0].next_hop, Some(bed.links[1].their4()), "the next hop stays");
}

/// The daemon reflects between us and a BIRD, both its clients.
pub(crate) fn they_reflect(kind: Kind) {
    let bed = Bed::new(2);
    let bird = source(&bed.links[1], OUR_ASN, "10.255.1.1", SHARED, OUR_ASN);
    let client = |at: usize| {
        let mut client = Neighbour::new(bed.links[at].their4(), bed.links[at].our4(), OUR_ASN);
        client.client = true;
        client
    };
    let told = Told {
        asn: OUR_ASN,
        id: "10.255.0.2".parse().unwrap(),
        neighbours: vec![client(0), client(1)],
        announce: Vec::new(),
    };
    let daemon = kind.start(&bed.link().reversed(&bed.ours), &told);
    let peers = [(THEIRS, neighbour(bed.link().our4(), OUR_ASN))];
    let ours = Ours::start(&bed.link().theirs, config(OUR_ASN, "10.255.0.1", peers));
    ours.originate(&[OURS4]);
    let bird: &dyn Daemon = &bird;
    let state = || report(&[&*daemon, bird], &ours);
    wait_for("reflected", SOON, state, || ours.has(SHARED) && bird.has(OURS4));
    assert_eq!(bird.paths(OURS4)[0].originator, Some("10.255.0.1".parse().unwrap()), "{}", state());
    assert_eq!(ours.originator(SHARED), Some("10.255.1.1".parse().unwrap()), "{}", state());
    assert_eq!(ours.next_hops(SHARED), [bed.links[1].their4()]);
}
