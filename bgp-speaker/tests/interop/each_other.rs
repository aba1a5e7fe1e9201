//! The bed itself: the daemons understand each other on it. Never our speaker.

use crate::bed::{Bed, SOON, wait_for};
use crate::bird::Bird;
use crate::told::{Announce, Daemon, Kind, Neighbour, Told};

/// BIRD in our own place, another one in the peer's.
fn bird_and(kind: Kind) {
    let bed = Bed::new(1);
    let link = bed.link();
    let communities = |announce: Announce| Announce {
        communities: &[(65_001, 7)],
        targets: &[(65_001, 8)],
        large: &[(65_001, 9, 10)],
        ..announce
    };
    let here = Told {
        asn: 65_001,
        id: "10.9.9.1".parse().unwrap(),
        neighbours: vec![Neighbour::new(link.their4(), link.our4(), 65_002)],
        announce: vec![communities(Announce::new("203.0.113.0/24")), Announce::new("2001:db8:1::/48")],
    };
    let there = Told {
        asn: 65_002,
        id: "10.9.9.2".parse().unwrap(),
        neighbours: vec![Neighbour::new(link.our4(), link.their4(), 65_001)],
        announce: vec![communities(Announce::new("198.51.100.0/24")), Announce::new("2001:db8:2::/48")],
    };
    let bird = Bird::start(&link.reversed(&bed.ours), &here);
    let bird: &dyn Daemon = &bird;
    let other = kind.start(link, &there);
    let state = || format!("{}\n---\n{}", bird.state(), other.state());
    wait_for("up", SOON, state, || bird.is_up(link.their4()) && other.is_up(link.our4()));
    wait_for("routes", SOON, state, || bird.has("198.51.100.0/24") && other.has("203.0.113.0/24"));
    for (daemon, prefix, asn) in [(bird, "198.51.100.0/24", 65_002), (&*other, "203.0.113.0/24", 65_001)] {
        let path = daemon.paths(prefix).remove(0);
        assert_eq!(path.as_path, [asn], "{}", state());
        let all: Vec<&str> = path.communities.iter().map(String::as_str).collect();
        assert_eq!(all, ["65001:7", "65001:9:10", "rt:65001:8"], "{}", state());
    }
}

#[test]
fn bird_understands_every_daemon_of_the_bed() {
    std::thread::scope(|scope| {
        for kind in Kind::ALL {
            scope.spawn(move || bird_and(kind));
        }
    });
}
