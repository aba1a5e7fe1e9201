//! Peers that mean harm, over real sockets: our memory stays bounded, other peers notice nothing, and the status says what
//! happened. Never a daemon but the good peer's, which is BIRD.

use crate::apart::{ASN, Apart, Peer, Plan};
use crate::bed::{Bed, SOON, wait_for};
use crate::bird::Bird;
use crate::raw::{KEEPALIVE, Raw, many, message, open, update};
use crate::told::{Announce, Daemon, Neighbour, Told};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::time::{Duration, Instant};

const EVIL_ASN: u16 = 65_066;
const BUSY_ASN: u16 = 65_077;
const GOOD_ASN: u32 = 65_002;
/// A route of ours.
const OWN: &str = "203.0.113.0/24";
const GOOD: &str = "198.51.100.0/24";
/// Prefixes of a peer that announces too many, so that a small machine is done in seconds; `BGP_INTEROP_ROUTES` says more.
const TOO_MANY: u32 = 200_000;
/// What one of them may cost, with its place in the other peer's table and the host's.
const MOST_PREFIX_BYTES: u64 = 480;

fn too_many() -> u32 {
    std::env::var("BGP_INTEROP_ROUTES").map_or(TOO_MANY, |count| count.parse().unwrap())
}

/// We in a process of our own, a good peer, and a place for an evil one.
struct Scene {
    bed: Bed,
    ours: Apart,
    good: Bird,
    /// Sessions of the good peer so far: the first may have been lost to a collision.
    sessions: u64,
}

impl Scene {
    fn new(limit: Option<u32>) -> Self {
        let bed = Bed::new(3);
        let good = &bed.links[1];
        let peers = [
            Peer { limit, ..Peer::new(bed.link().their4(), EVIL_ASN.into()) },
            Peer::new(bed.links[2].their4(), BUSY_ASN.into()),
            Peer::new(good.their4(), GOOD_ASN),
        ];
        let ours = Apart::start(&bed.ours, &Plan { peers: &peers, own: &[OWN], next_hop_v6: None, restarted: false });
        let told = Told {
            asn: GOOD_ASN,
            id: "10.255.0.2".parse().unwrap(),
            neighbours: vec![Neighbour::new(good.our4(), good.their4(), ASN)],
            announce: vec![Announce::new(GOOD)],
        };
        let good = Bird::start(good, &told);
        let mut scene = Self { bed, ours, good, sessions: 0 };
        scene.wait("the good peer is served", || scene.ours.has(GOOD) && scene.good().has(OWN));
        scene.sessions = scene.sessions();
        scene
    }

    fn good(&self) -> &dyn Daemon {
        &self.good
    }

    fn evil(&self) -> IpAddr {
        self.bed.link().their4()
    }

    fn our(&self) -> IpAddr {
        self.bed.link().our4()
    }

    fn id() -> Ipv4Addr {
        "10.255.0.66".parse().unwrap()
    }

    fn next_hop(&self) -> Ipv4Addr {
        v4(self.evil())
    }

    fn connect(&self) -> std::io::Result<Raw> {
        Raw::connect(&self.bed.link().theirs, self.our())
    }

    fn establish(&self) -> Raw {
        Raw::establish(&self.bed.link().theirs, self.our(), EVIL_ASN, Self::id())
    }

    fn wait(&self, what: &str, holds: impl FnMut() -> bool) {
        let state = || {
            let peers = [self.evil(), self.bed.links[1].their4()].map(|peer| self.ours.peer(peer).to_string());
            format!("{}\n{}", peers.join("\n"), self.good.state())
        };
        wait_for(what, SOON, state, holds);
    }

    fn sessions(&self) -> u64 {
        self.ours.peer(self.bed.links[1].their4())["sessions"].as_u64().unwrap()
    }

    /// The good peer has had no other session, and still has our route, as we have its.
    fn good_noticed_nothing(&self) {
        let good = self.ours.peer(self.bed.links[1].their4());
        assert_eq!(self.sessions(), self.sessions, "{good}\n{}\n{}", self.ours.log(), self.good.state());
        assert!(self.ours.is_up(self.bed.links[1].their4()), "{good}");
        assert!(self.ours.has(GOOD) && self.good().has(OWN), "{}", self.good.state());
    }
}

fn v4(address: IpAddr) -> Ipv4Addr {
    if let IpAddr::V4(v4) = address { v4 } else { panic!("{address}") }
}

/// A third peer's churn is for the one that never reads, too: what it has not taken is kept once, not once for each change.
#[test]
fn a_peer_that_never_reads_costs_no_more_with_time() {
    let scene = Scene::new(None);
    let deaf = scene.establish();
    // So that little is enough to fill what the kernel takes for us.
    setsockopt(&deaf.stream, sockopt::RcvBuf, &4096).unwrap();
    let link = &scene.bed.links[2];
    let hop = v4(link.their4());
    let mut busy = Raw::establish(&link.theirs, link.our4(), BUSY_ASN, "10.255.0.77".parse().unwrap());
    let mut churn = |rounds: Range<u8>| {
        for round in rounds {
            let marker = Ipv4Addr::new(192, 0, round, 0);
            busy.send(&many(BUSY_ASN, hop, round.into(), 20_000)).unwrap();
            busy.send(&update(BUSY_ASN, hop, 0, &[(marker, 24)])).unwrap();
            let marker = format!("{marker}/24");
            scene.wait("all is taken in, and passed on", || scene.ours.has(&marker) && scene.good().has(&marker));
        }
    };
    churn(0..15);
    scene.wait("the kernel takes no more", || scene.ours.peer(scene.evil())["queued"] != 0);
    let before = scene.ours.memory_kib();
    churn(15..30);
    let (after, status) = (scene.ours.memory_kib(), scene.ours.peer(scene.evil()));
    assert!(after < before + 4 * 1024, "{before} KiB before, {after} KiB after");
    assert!(
        status["queued"].as_u64().is_some_and(|bytes| (50_000..1_000_000).contains(&bytes)),
        "{status}\n{}",
        scene.ours.log()
    );
    scene.good_noticed_nothing();
    drop(deaf);
}

/// A message in crumbs is waited for, and costs nobody anything.
#[test]
fn a_peer_that_sends_a_byte_at_a_time_is_waited_for() {
    let scene = Scene::new(None);
    let mut slow = scene.connect().unwrap();
    for byte in open(EVIL_ASN, Scene::id()) {
        slow.send(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    slow.send(&message(KEEPALIVE, &[])).unwrap();
    scene.wait("established all the same", || scene.ours.is_up(scene.evil()));
    scene.good_noticed_nothing();
}

/// Whoever only holds connections open is let go.
#[test]
fn connections_that_say_nothing_are_bounded() {
    let scene = Scene::new(None);
    let files = scene.ours.files();
    let held: Vec<_> = (0..800).filter_map(|_| scene.connect().ok()).collect();
    assert!(held.len() > 100, "{}", held.len());
    scene.wait("a peer has few connections", || scene.ours.files() < files + 16);
    scene.good_noticed_nothing();
}

/// What is no BGP is answered with a NOTIFICATION and the end of the connection, a thousand times.
#[test]
fn garbage_is_refused_and_costs_nothing() {
    let scene = Scene::new(None);
    let mut noise = 0x9e37_79b9_u32;
    let mut garbage = vec![0_u8; 4096];
    let before = scene.ours.memory_kib();
    let mut told = 0;
    for _ in 0..200 {
        for byte in &mut garbage {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = noise.to_be_bytes()[0];
        }
        let Ok(mut raw) = scene.connect() else { continue };
        let _ = raw.send(&garbage);
        told += usize::from(raw.read_notification().is_some_and(|[code, _]| code == 1));
    }
    assert!(told > 0, "nobody said what is wrong");
    scene.good_noticed_nothing();
    let status = scene.ours.peer(scene.evil());
    assert!(status["last"].as_str().is_some_and(|last| last.contains("message header error")), "{status}");
    let after = scene.ours.memory_kib();
    assert!(after < before + 8 * 1024, "{before} KiB before, {after} KiB after");
}

#[test]
fn a_thousand_flaps_leave_nothing_behind() {
    let scene = Scene::new(None);
    let hello =
        [open(EVIL_ASN, Scene::id()), message(KEEPALIVE, &[]), many(EVIL_ASN, scene.next_hop(), 0, 1000)].concat();
    let flap = |times: u32| {
        for _ in 0..times {
            if let Ok(mut raw) = scene.connect() {
                let _ = raw.send(&hello);
            }
        }
    };
    flap(200);
    let before = (scene.ours.memory_kib(), scene.ours.files());
    flap(800);
    scene.wait("its routes are gone", || scene.ours.peer(scene.evil())["received"][0] == 0);
    scene.good_noticed_nothing();
    scene.wait("its connections are gone", || scene.ours.files() < before.1 + 16);
    let after = scene.ours.memory_kib();
    assert!(after < before.0 + 8 * 1024, "{before:?} before, {after} after");
}

/// With a limit, the session ends at once and says why.
#[test]
fn too_many_routes_end_the_session_where_there_is_a_limit() {
    let scene = Scene::new(Some(1000));
    let mut raw = scene.establish();
    let before = scene.ours.memory_kib();
    let _ = raw.send(&many(EVIL_ASN, scene.next_hop(), 0, too_many()));
    scene.wait("ended", || scene.ours.peer(scene.evil())["held"] == true);
    let status = scene.ours.peer(scene.evil());
    assert!(status["last"].as_str().is_some_and(|last| last.contains("maximum number of prefixes")), "{status}");
    assert!(scene.ours.memory_kib() < before + 8 * 1024);
    scene.good_noticed_nothing();
}

/// Without a limit, they are taken, at a price that is known, and given back when the peer has gone.
#[test]
fn too_many_routes_are_paid_for_once_where_there_is_no_limit() {
    let (scene, count) = (Scene::new(None), too_many());
    let mut raw = scene.establish();
    let before = scene.ours.memory_kib();
    let start = Instant::now();
    for mark in 0..3 {
        raw.send(&many(EVIL_ASN, scene.next_hop(), mark, count)).unwrap();
    }
    scene.wait("taken", || scene.ours.peer(scene.evil())["received"][0] == count);
    let cost = scene.ours.memory_kib().saturating_sub(before);
    eprintln!("{count} prefixes three times: {:?}, {cost} KiB", start.elapsed());
    assert!(cost * 1024 < MOST_PREFIX_BYTES * u64::from(count), "{cost} KiB");
    scene.good_noticed_nothing();
    drop(raw);
    scene.wait("gone", || scene.ours.peer(scene.evil())["received"][0] == 0);
    scene.good_noticed_nothing();
}

/// RFC 4271, section 5.1.3: never a next hop of our own. Of our own prefix our own route stays.
#[test]
fn our_own_address_prefix_and_next_hop_are_not_taken_from_others() {
    let scene = Scene::new(None);
    let mut raw = scene.establish();
    let all = |address: &str, bits| (address.parse().unwrap(), bits);
    let (own, theirs) = (v4(scene.our()), scene.next_hop());
    raw.send(&update(EVIL_ASN, own, 0, &[all("192.0.2.0", 24), all("0.0.0.0", 0)])).unwrap();
    raw.send(&update(EVIL_ASN, theirs, 0, &[all("203.0.113.0", 24), all("100.64.0.0", 10)])).unwrap();
    scene.wait("the good one of them", || scene.ours.has("100.64.0.0/10"));
    assert!(!scene.ours.has("192.0.2.0/24") && !scene.ours.has("0.0.0.0/0"));
    assert_eq!(scene.ours.explain("192.0.2.0/24"), ["Refused(OwnNextHop)"]);
    assert_eq!(scene.ours.explain("0.0.0.0/0"), ["Refused(OwnNextHop)"]);
    let own = scene.ours.explain(OWN);
    assert_eq!((own.len(), own[0].as_str()), (2, "Best"), "{own:?}");
    assert!(!scene.ours.has(OWN), "the kernel would send our own traffic away");
    scene.good_noticed_nothing();
}
