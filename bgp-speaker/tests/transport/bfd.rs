//! BFD on the wire, with itself and with BIRD. Never a BGP session.

use crate::stage::{DEVICE, Daemon, Event, Node, PATIENCE, PORT, cable, ip, set_device, show, target, two_nodes};
use bgp_speaker::bfd::{self, Packet, State};
use bgp_speaker::speaker::{ConnId, ConnectFailure, Output};
use bgp_speaker::transport::{Limits, Listener, Setup};
use bgp_speaker::types::PeerId;
use bytes::Bytes;
use net_linux::netns::NetNs;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);
/// What a thread may be late on a busy machine.
const LATE: Duration = Duration::from_millis(250);
pub(crate) const PEER: PeerId = PeerId(5);

pub(crate) fn watch(remote: &str, local: &str, single_hop: bool) -> Output {
    Output::StartBfd {
        peer: PEER,
        remote: ip(remote),
        local: Some(ip(local)),
        single_hop,
        interface: single_hop.then(|| Arc::from(DEVICE)),
        interval: INTERVAL,
        multiplier: 3,
    }
}

pub(crate) fn told(node: &Node, wanted: bool) -> Instant {
    node.wait("word of BFD", |event| match event {
        Event::Bfd { peer: PEER, up, at, .. } => {
            assert_eq!(*up, wanted);
            Some(*at)
        }
        Event::Trouble(trouble) => panic!("{trouble}"),
        _ => None,
    })
}

/// Both see it within the detection time. When a packet has just left, almost all of it is left too.
pub(crate) fn cut_and_measure(near: &NetNs, watcher: &Node) {
    let cut = Instant::now();
    set_device(near, false);
    let down = told(watcher, false).duration_since(cut);
    show("down after", down);
    // The last packet left at most one interval before the cut.
    assert!(down >= INTERVAL * 2 - Duration::from_millis(5), "{down:?} is too soon");
    assert!(down <= INTERVAL * 3 + LATE, "{down:?} is too late");
}

#[test]
fn a_cut_link_is_noticed_within_three_intervals_and_a_mended_one_comes_back() {
    for (one, two) in [("10.9.0.1", "10.9.0.2"), ("fe80::1", "fe80::2")] {
        let nodes = two_nodes();
        nodes[0].say([watch(two, one, true)]);
        nodes[1].say([watch(one, two, true)]);
        told(&nodes[0], true);
        told(&nodes[1], true);
        cut_and_measure(&nodes[0].namespace, &nodes[1]);
        told(&nodes[0], false);
        if one == "10.9.0.1" {
            set_device(&nodes[0].namespace, true);
            told(&nodes[0], true);
            told(&nodes[1], true);
        }
    }
}

#[test]
fn over_several_hops_it_uses_the_other_port() {
    let nodes = two_nodes();
    nodes[0].say([watch("10.9.0.2", "10.9.0.1", false)]);
    nodes[1].say([watch("10.9.0.1", "10.9.0.2", false)]);
    told(&nodes[0], true);
    told(&nodes[1], true);
    cut_and_measure(&nodes[0].namespace, &nodes[1]);
}

#[test]
fn a_busy_core_and_a_planned_end_are_not_a_lost_path() {
    let mut nodes = two_nodes();
    nodes[0].say([watch("10.9.0.2", "10.9.0.1", true)]);
    nodes[1].say([watch("10.9.0.1", "10.9.0.2", true)]);
    told(&nodes[0], true);
    told(&nodes[1], true);
    // Three detection times.
    nodes[0].keep_busy(INTERVAL * 9);
    assert_eq!(nodes[1].pending(), []);
    nodes[0].stop();
    // Another session over the same wire proves that time has passed and that packets go.
    let again = Node::start(&nodes[0].namespace, Limits::default());
    again.say([watch("10.9.0.2", "10.9.0.1", true)]);
    told(&again, true);
    told(&nodes[1], true);
    // Nothing of it is left when it is stopped.
    again.say([Output::StopBfd { peer: PEER }]);
    again.keep_busy(INTERVAL * 9);
    assert_eq!((again.pending(), nodes[1].pending()), (vec![], vec![]));
}

/// A peer whose process is killed: the kernel ends its connections at once, and its BFD falls silent.
#[test]
fn a_connection_that_ended_before_is_told_before_what_bfd_says() {
    for _ in 0..5 {
        let nodes = two_nodes();
        nodes[0].say([watch("10.9.0.2", "10.9.0.1", true)]);
        nodes[1].say([watch("10.9.0.1", "10.9.0.2", true)]);
        told(&nodes[0], true);
        let listener = Listener { address: SocketAddr::new(ip("10.9.0.1"), PORT), interface: None };
        nodes[0].set_up(Setup { listeners: vec![listener], ..Setup::default() }).unwrap();
        nodes[1].say([Output::Connect { conn: ConnId::Out(1), target: target("10.9.0.1") }]);
        let conn = nodes[0].accepted();
        nodes[0].say([Output::Send { conn, bytes: Bytes::from_static(&[0]) }]);
        nodes[1].received(ConnId::Out(1), 1);
        nodes[0].be_busy(INTERVAL * 9);
        nodes[1].say([Output::Close { conn: ConnId::Out(1) }]);
        // The turn in which it was said is over, so the end is on its way.
        nodes[1].keep_busy(Duration::ZERO);
        set_device(&nodes[1].namespace, false);
        let first = nodes[0].wait("end", |event| match event {
            Event::Bfd { .. } | Event::Closed { .. } => Some(event.clone()),
            _ => None,
        });
        assert_eq!(first, Event::Closed { conn, why: ConnectFailure::Closed });
        told(&nodes[0], false);
    }
}

/// Reads the next packet of the other end.
fn next_packet(socket: &UdpSocket) -> Packet {
    let mut bytes = [0; 64];
    let count = socket.recv(&mut bytes).unwrap();
    Packet::decode(&bytes[..count]).unwrap()
}

#[test]
fn a_single_hop_packet_from_behind_a_router_is_not_heard() {
    let ends = cable();
    let node = Node::start(&ends[0], Limits::default());
    let bind = |port| ends[1].run(|| UdpSocket::bind(("10.9.0.2", port)).unwrap()).unwrap();
    let (hears, sends) = (bind(bfd::PORT_SINGLE_HOP), bind(50_000));
    hears.set_read_timeout(Some(PATIENCE)).unwrap();
    node.say([watch("10.9.0.2", "10.9.0.1", true)]);
    let theirs = next_packet(&hears);
    assert_eq!((theirs.state, theirs.your_discriminator), (State::Down, 0));
    let ours = Packet { my_discriminator: NonZeroU32::new(77).unwrap(), ..theirs };
    sends.set_ttl(254).unwrap();
    sends.send_to(&ours.encode(), ("10.9.0.1", bfd::PORT_SINGLE_HOP)).unwrap();
    // What was heard would be answered at once.
    let theirs = next_packet(&hears);
    assert_eq!((theirs.state, theirs.your_discriminator), (State::Down, 0));
    sends.set_ttl(255).unwrap();
    sends.send_to(&ours.encode(), ("10.9.0.1", bfd::PORT_SINGLE_HOP)).unwrap();
    let theirs = next_packet(&hears);
    assert_eq!((theirs.state, theirs.your_discriminator), (State::Init, 77));
    assert_eq!(node.pending(), []);
}

/// RFC 5880, section 4.1: whether the neighbour's BFD outlives its control plane may change with each packet.
#[test]
fn the_c_bit_is_told_with_each_word_and_when_it_changes() {
    let ends = cable();
    let node = Node::start(&ends[0], Limits::default());
    let bind = |port| ends[1].run(|| UdpSocket::bind(("10.9.0.2", port)).unwrap()).unwrap();
    let (hears, sends) = (bind(bfd::PORT_SINGLE_HOP), bind(50_000));
    hears.set_read_timeout(Some(PATIENCE)).unwrap();
    sends.set_ttl(255).unwrap();
    node.say([watch("10.9.0.2", "10.9.0.1", true)]);
    let theirs = next_packet(&hears);
    let say = |state, control_plane_independent| {
        let ours = Packet {
            state,
            control_plane_independent,
            my_discriminator: NonZeroU32::new(77).unwrap(),
            your_discriminator: theirs.my_discriminator.get(),
            ..theirs
        };
        sends.send_to(&ours.encode(), ("10.9.0.1", bfd::PORT_SINGLE_HOP)).unwrap();
    };
    let word = || {
        node.wait("word of BFD", |event| match event {
            Event::Bfd { peer: PEER, up, independent, .. } => Some((*up, *independent)),
            Event::Trouble(trouble) => panic!("{trouble}"),
            _ => None,
        })
    };
    say(State::Down, true);
    say(State::Init, true);
    assert_eq!(word(), (true, true));
    say(State::Up, false);
    assert_eq!(word(), (true, false));
    say(State::Up, true);
    assert_eq!(word(), (true, true));
    assert_eq!(word(), (false, true), "after the silence");
}

/// BIRD with a `protocol bfd` of this content.
fn bird(namespace: &NetNs, directory: &Path, bfd: &str) -> Daemon {
    let (config, control) = (directory.join("bird.conf"), directory.join("bird.ctl"));
    let text = format!("router id 10.9.0.2;\nprotocol device {{ scan time 1; }}\nprotocol bfd {{ {bfd} }}\n");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("bird");
    command.arg("-f").arg("-c").arg(config).arg("-s").arg(control).stdout(Stdio::null());
    Daemon(namespace.spawn(&mut command).unwrap())
}

#[test]
fn bird_agrees_and_is_missed_when_the_link_is_cut() {
    let paces = "interval 100 ms; idle tx interval 1 s; multiplier 3;";
    let near = format!("interface \"{DEVICE}\" {{ {paces} }}; neighbor 10.9.0.1 dev \"{DEVICE}\" local 10.9.0.2;");
    let far = format!("multihop {{ {paces} }}; neighbor 10.9.0.1 local 10.9.0.2 multihop on;");
    for (bfd, single_hop) in [(near, true), (far, false)] {
        let ends = cable();
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(&ends[0], Limits::default());
        let _bird = bird(&ends[1], directory.path(), &bfd);
        node.say([watch("10.9.0.2", "10.9.0.1", single_hop)]);
        told(&node, true);
        assert_eq!(bird_says(&ends[1], directory.path()), "Up");
        cut_and_measure(&ends[1], &node);
    }
}

/// The state that BIRD shows for its one session, once it is up.
fn bird_says(namespace: &NetNs, directory: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new("birdc");
        command.arg("-s").arg(directory.join("bird.ctl")).args(["show", "bfd", "sessions"]).stdout(Stdio::piped());
        let output = namespace.spawn(&mut command).unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("10.9.0.1")).unwrap_or_default();
        let state = line.split_whitespace().nth(2).unwrap_or_default();
        if state == "Up" || Instant::now() > deadline {
            return state.to_owned();
        }
    }
}
