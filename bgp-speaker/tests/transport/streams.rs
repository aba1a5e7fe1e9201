//! Connections: both ways, slow ones, closing, and who may come in. Never with keys, see `keys`.

use crate::stage::{DEVICE, Event, Node, PATIENCE, PORT, cable, ip, set_device, target, two_nodes};
use bgp_speaker::speaker::{ConnId, ConnectFailure, Output, Target};
use bgp_speaker::transport::{Guard, Limits, Listener, Setup};
use bytes::Bytes;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn listener(address: &str) -> Listener {
    Listener { address: SocketAddr::new(ip(address), PORT), interface: None }
}

fn listening(addresses: &[&str]) -> Setup {
    Setup { listeners: addresses.iter().map(|address| listener(address)).collect(), ..Setup::default() }
}

fn send(conn: ConnId, bytes: impl Into<Bytes>) -> Output {
    Output::Send { conn, bytes: bytes.into() }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways_over_both_families() {
    let nodes = two_nodes();
    nodes[1].set_up(listening(&["0.0.0.0", "::"])).unwrap();
    for (id, remote) in ["10.9.0.2", "2001:db8::2"].into_iter().enumerate() {
        let out = ConnId::Out(id as u64);
        let local = Some(ip(if id == 0 { "10.9.0.1" } else { "2001:db8::1" }));
        nodes[0].say([Output::Connect { conn: out, target: Target { local, ..target(remote) } }]);
        nodes[0].connected(out);
        let (into, from) = nodes[1].wait("connection", |event| match event {
            Event::Accepted { conn, remote, .. } => Some((*conn, remote.ip())),
            _ => None,
        });
        assert_eq!(Some(from), local);
        nodes[0].say([send(out, "ping")]);
        assert_eq!(nodes[1].received(into, 4), b"ping");
        nodes[1].say([send(into, "po"), send(into, "ng")]);
        assert_eq!(nodes[0].received(out, 4), b"pong");
    }
}

#[test]
fn a_link_local_peer_is_reached_over_its_device() {
    let nodes = two_nodes();
    let device: Arc<str> = Arc::from(DEVICE);
    let wish = Listener { address: SocketAddr::new(ip("fe80::2"), PORT), interface: Some(Arc::clone(&device)) };
    nodes[1].set_up(Setup { listeners: vec![wish], ..Setup::default() }).unwrap();
    let conn = ConnId::Out(1);
    let peer = Target { interface: Some(Arc::clone(&device)), local: Some(ip("fe80::1")), ..target("fe80::2") };
    nodes[0].say([Output::Connect { conn, target: peer }]);
    nodes[0].connected(conn);
    let (into, interface) = nodes[1].wait("connection", |event| match event {
        Event::Accepted { conn, interface, .. } => Some((*conn, interface.clone())),
        _ => None,
    });
    assert_eq!(interface, Some(device));
    nodes[1].say([send(into, "hello")]);
    assert_eq!(nodes[0].received(conn, 5), b"hello");
}

#[test]
fn a_connection_that_can_not_be_fails_with_the_reason() {
    let limits = Limits { connect: Duration::from_millis(200), ..Limits::default() };
    let ends = cable();
    let node = Node::start(&ends[0], limits);
    let fail = |id, target| {
        node.say([Output::Connect { conn: ConnId::Out(id), target }]);
        node.failed(ConnId::Out(id))
    };
    assert_eq!(fail(1, target("10.9.0.2")), ConnectFailure::Refused);
    assert_eq!(fail(2, target("192.0.2.1")), ConnectFailure::Unreachable);
    let elsewhere = Target { local: Some(ip("10.9.0.77")), ..target("10.9.0.2") };
    assert_eq!(fail(3, elsewhere), ConnectFailure::Local(ErrorKind::AddrNotAvailable));
    set_device(&ends[1], false);
    assert_eq!(fail(4, Target { interface: Some(Arc::from(DEVICE)), ..target("10.9.0.2") }), ConnectFailure::TimedOut);
}

#[test]
fn a_slow_reader_does_not_stall_another_connection_and_loses_nothing() {
    let ends = cable();
    let lazy = ends[1].run(|| TcpListener::bind(("10.9.0.2", 2000)).unwrap()).unwrap();
    let nodes = ends.each_ref().map(|end| Node::start(end, Limits::default()));
    nodes[1].set_up(listening(&["0.0.0.0"])).unwrap();
    let (slow, quick) = (ConnId::Out(1), ConnId::Out(2));
    let to_lazy = Target { remote: SocketAddr::new(ip("10.9.0.2"), 2000), ..target("10.9.0.2") };
    nodes[0].say([Output::Connect { conn: slow, target: to_lazy }]);
    nodes[0].connected(slow);
    let (mut reader, _) = lazy.accept().unwrap();
    nodes[0].say([Output::Connect { conn: quick, target: target("10.9.0.2") }]);
    nodes[0].connected(quick);
    let into = nodes[1].accepted();
    let bytes = Bytes::from(pattern(32 << 20));
    nodes[0].say((0..bytes.len() / 4096).map(|at| send(slow, bytes.slice(at * 4096..(at + 1) * 4096))));
    let mut sent = 0;
    for round in 0..100_u32 {
        nodes[0].say([send(quick, round.to_be_bytes().to_vec())]);
        assert_eq!(nodes[1].received(into, 4), round.to_be_bytes());
        nodes[1].say([send(into, round.to_be_bytes().to_vec())]);
        nodes[0].wait("answer", |event| match event {
            Event::Sent { conn, bytes } if *conn == slow => {
                sent += bytes;
                None
            }
            Event::Received { conn, .. } if *conn == quick => Some(()),
            _ => None,
        });
    }
    assert!(sent < bytes.len(), "the kernel's buffers took all, so nothing was slow");
    let mut got = vec![0; bytes.len()];
    reader.read_exact(&mut got).unwrap();
    assert!(got == bytes, "other bytes than were sent");
    nodes[0].wait("count of all bytes", |event| {
        if let Event::Sent { conn, bytes } = event
            && *conn == slow
        {
            sent += bytes;
        }
        (sent == bytes.len()).then_some(())
    });
}

#[test]
fn what_was_said_before_closing_arrives_although_the_peer_talks() {
    // Nobody waits for the end of time.
    let limits = Limits { close: PATIENCE * 2, ..Limits::default() };
    let nodes = cable().each_ref().map(|end| Node::start(end, limits));
    nodes[1].set_up(listening(&["0.0.0.0"])).unwrap();
    let out = ConnId::Out(1);
    nodes[0].say([Output::Connect { conn: out, target: target("10.9.0.2") }]);
    nodes[0].connected(out);
    let into = nodes[1].accepted();
    let bytes = pattern(1 << 20);
    // Unread bytes at a close make the kernel reset the connection, which would cost the peer our last message.
    nodes[1].say([send(into, pattern(100_000))]);
    nodes[0].say([send(out, bytes.clone()), Output::Close { conn: out }, send(out, "too late")]);
    assert!(nodes[1].received(into, bytes.len()) == bytes, "other bytes than were sent");
    assert_eq!(nodes[1].closed(into), ConnectFailure::Closed);
    assert_eq!(nodes[0].closed(out), ConnectFailure::Closed);
}

#[test]
fn the_last_words_are_said_before_the_transport_ends() {
    let mut nodes = two_nodes();
    nodes[1].set_up(listening(&["0.0.0.0"])).unwrap();
    let out = ConnId::Out(1);
    nodes[0].say([Output::Connect { conn: out, target: target("10.9.0.2") }]);
    nodes[0].connected(out);
    let into = nodes[1].accepted();
    let bytes = pattern(8 << 20);
    nodes[0].say([send(out, bytes.clone()), Output::Close { conn: out }]);
    nodes[0].stop();
    assert!(nodes[1].received(into, bytes.len()) == bytes, "other bytes than were sent");
    assert_eq!(nodes[1].closed(into), ConnectFailure::Closed);
}

#[test]
fn closing_towards_a_peer_that_never_reads_takes_a_second() {
    let ends = cable();
    let lazy = ends[1].run(|| TcpListener::bind(("10.9.0.2", PORT)).unwrap()).unwrap();
    let node = Node::start(&ends[0], Limits::default());
    let out = ConnId::Out(1);
    node.say([Output::Connect { conn: out, target: target("10.9.0.2") }]);
    node.connected(out);
    let _reader = lazy.accept().unwrap();
    let start = Instant::now();
    node.say([send(out, pattern(32 << 20)), Output::Close { conn: out }]);
    assert_eq!(node.closed(out), ConnectFailure::Closed);
    let took = start.elapsed();
    assert!((1000..60_000).contains(&took.as_millis()), "{took:?}");
}

#[test]
fn a_queue_without_bound_is_cut() {
    let ends = cable();
    let lazy = ends[1].run(|| TcpListener::bind(("10.9.0.2", PORT)).unwrap()).unwrap();
    let node = Node::start(&ends[0], Limits { queue_bytes: 1 << 20, ..Limits::default() });
    let out = ConnId::Out(1);
    node.say([Output::Connect { conn: out, target: target("10.9.0.2") }]);
    node.connected(out);
    let _reader = lazy.accept().unwrap();
    node.say((0..32).map(|_| send(out, pattern(1 << 16))));
    assert_eq!(node.closed(out), ConnectFailure::Local(ErrorKind::OutOfMemory));
}

#[test]
fn strangers_are_few_and_do_not_stay() {
    let ends = cable();
    let limits = Limits { strangers: 2, stranger: Duration::from_millis(300), ..Limits::default() };
    let node = Node::start(&ends[1], limits);
    node.set_up(listening(&["0.0.0.0"])).unwrap();
    let clients: Vec<_> =
        ends[0].run(|| (0..5).map(|_| TcpStream::connect(("10.9.0.2", PORT)).unwrap()).collect()).unwrap();
    let mut here = 0_i32;
    let mut ended = 0;
    node.wait("end of all strangers", |event| {
        match event {
            Event::Accepted { .. } => here += 1,
            Event::Closed { why, .. } => {
                assert_eq!(*why, ConnectFailure::TimedOut);
                here -= 1;
                ended += 1;
            }
            Event::Addresses(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(here <= 2, "{here} strangers at once");
        (ended == 5).then_some(())
    });
    drop(clients);
    // One that the core talks to stays.
    let mut friend = ends[0].run(|| TcpStream::connect(("10.9.0.2", PORT)).unwrap()).unwrap();
    let conn = node.accepted();
    node.say([send(conn, "welcome")]);
    let other = ends[0].run(|| TcpStream::connect(("10.9.0.2", PORT)).unwrap()).unwrap();
    let stranger = node.accepted();
    assert_eq!(node.closed(stranger), ConnectFailure::TimedOut);
    assert_eq!(node.pending(), []);
    let mut word = [0; 7];
    friend.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"welcome");
    drop((friend, other));
}

/// How many packets the namespace dropped for their TTL.
fn dropped_for_ttl(node: &Node) -> u64 {
    let text = node.namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap()).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let column = names.split(' ').position(|name| name == "TCPMinTTLDrop").unwrap();
    values.split(' ').nth(column).unwrap().parse().unwrap()
}

#[test]
fn gtsm_hears_ttl_255_and_drops_254_on_both_sides() {
    let nodes = two_nodes();
    for remote in ["10.9.0.2", "2001:db8::2"] {
        let nets = ["10.9.0.0/24", "2001:db8::/64"].map(|net| Guard {
            remote: net.parse().unwrap(),
            interface: None,
            ttl: 255,
            least_ttl: Some(255),
            password: None,
        });
        nodes[1].set_up(Setup { guards: nets.to_vec(), ..listening(&["0.0.0.0", "::"]) }).unwrap();
        let near = ConnId::Out(1);
        let peer = Target { ttl: 255, least_ttl: Some(255), ..target(remote) };
        nodes[0].say([Output::Connect { conn: near, target: peer.clone() }]);
        nodes[0].connected(near);
        let into = nodes[1].accepted();
        nodes[0].say([send(near, "near")]);
        assert_eq!(nodes[1].received(into, 4), b"near");
        nodes[1].say([send(into, "too"), Output::Close { conn: into }]);
        assert_eq!(nodes[0].received(near, 3), b"too");
        nodes[0].say([Output::Close { conn: near }]);
        nodes[0].closed(near);
        // As if one router were between.
        let far = ConnId::Out(2);
        let before = dropped_for_ttl(&nodes[1]);
        nodes[0].say([Output::Connect { conn: far, target: Target { ttl: 254, ..peer.clone() } }]);
        nodes[0].connected(far);
        let into = nodes[1].accepted();
        nodes[0].say([send(far, "far")]);
        let deadline = Instant::now() + PATIENCE;
        while dropped_for_ttl(&nodes[1]) == before {
            assert!(Instant::now() < deadline, "nothing was dropped");
            std::thread::yield_now();
        }
        assert!(!nodes[1].pending().iter().any(|event| matches!(event, Event::Received { conn, .. } if *conn == into)));
        nodes[0].say([Output::Close { conn: far }]);
        nodes[1].say([Output::Close { conn: into }]);
        nodes[0].closed(far);
        nodes[1].closed(into);
    }
}
