//! Two connections at once, to the letter: which one stays. RFC 4271, section 6.8. Never with a daemon, which would take
//! part in the decision.

use crate::bed::Bed;
use crate::ours::{Ours, config, neighbour};
use crate::raw::{KEEPALIVE, Raw, message, open};
use std::net::{SocketAddr, TcpListener};

const THEIR_ASN: u16 = 65_002;

/// The connection that the speaker with the greater identifier began stays, the other one is told why it goes.
#[test]
fn of_two_connections_the_one_of_the_greater_identifier_stays() {
    for (id, theirs_stays) in [("10.255.255.1", true), ("10.0.0.1", false)] {
        let bed = Bed::new(1);
        let link = bed.link();
        let at = SocketAddr::new(link.their4(), 179);
        let listener = link.theirs.open_inside(|| TcpListener::bind(at)).unwrap().unwrap();
        let peers = [("theirs", neighbour(link.their4(), THEIR_ASN.into()))];
        let ours = Ours::start(&bed.ours, config(65_001, "10.255.0.1", peers));
        let mut of_us = Raw::of(listener.accept().unwrap().0).unwrap();
        let mut of_them = Raw::connect(&link.theirs, link.our4()).unwrap();
        let hello = open(THEIR_ASN, id.parse().unwrap());
        // Both OPENs are there before either connection is confirmed.
        of_us.send(&hello).unwrap();
        of_us.read_until(KEEPALIVE).unwrap();
        of_them.send(&hello).unwrap();
        let (mut stays, mut goes) = if theirs_stays { (of_them, of_us) } else { (of_us, of_them) };
        assert_eq!(goes.read_notification(), Some([6, 7]), "{id}: {}", ours.state());
        stays.send(&message(KEEPALIVE, &[])).unwrap();
        crate::bed::wait_for("up", crate::bed::SOON, || ours.state(), || ours.is_up("theirs"));
        assert_eq!(ours.ups("theirs"), 1);
    }
}
