//! TCP MD5 and changes of a setup. Never a connection without a key where one is asked for.

use crate::stage::{Event, Node, PORT, cable, ip, key, target};
use bgp_speaker::speaker::{ConnId, ConnectFailure, Output, Target};
use bgp_speaker::transport::{Guard, Limits, Listener, Setup, SetupError};
use bytes::Bytes;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

fn guarded(address: &str, guards: &[(&str, Option<Arc<[u8]>>)]) -> Setup {
    let guard = |(remote, password): &(&str, Option<Arc<[u8]>>)| Guard {
        remote: remote.parse().unwrap(),
        interface: None,
        ttl: 64,
        least_ttl: None,
        password: password.clone(),
    };
    let listener = Listener { address: SocketAddr::new(ip(address), PORT), interface: None };
    Setup { listeners: vec![listener], guards: guards.iter().map(guard).collect(), discover: Vec::new() }
}

fn nodes() -> [Node; 2] {
    let limits = Limits { connect: Duration::from_millis(500), ..Limits::default() };
    cable().each_ref().map(|end| Node::start(end, limits))
}

fn exchange(nodes: &[Node; 2], out: ConnId, into: ConnId, word: &'static str) {
    nodes[0].say([Output::Send { conn: out, bytes: Bytes::from(word) }]);
    assert_eq!(nodes[1].received(into, word.len()), word.as_bytes());
    nodes[1].say([Output::Send { conn: into, bytes: Bytes::from(word) }]);
    assert_eq!(nodes[0].received(out, word.len()), word.as_bytes());
}

#[test]
fn the_right_key_gets_in_and_no_other_does() {
    for (listen, remote, range) in [("0.0.0.0", "10.9.0.2", "10.9.0.0/24"), ("::", "2001:db8::2", "2001:db8::/64")] {
        let nodes = nodes();
        nodes[1].set_up(guarded(listen, &[(range, key("secret"))])).unwrap();
        let connect = |id, password| {
            let conn = ConnId::Out(id);
            nodes[0].say([Output::Connect { conn, target: Target { password, ..target(remote) } }]);
            conn
        };
        let right = connect(1, key("secret"));
        nodes[0].connected(right);
        let into = nodes[1].accepted();
        exchange(&nodes, right, into, "hello");
        assert_eq!(nodes[0].failed(connect(2, key("guess"))), ConnectFailure::TimedOut);
        assert_eq!(nodes[0].failed(connect(3, None)), ConnectFailure::TimedOut);
        // Another key from now on; who is here stays.
        nodes[1].set_up(guarded(listen, &[(range, key("fresh"))])).unwrap();
        exchange(&nodes, right, into, "still here");
        assert_eq!(nodes[0].failed(connect(4, key("secret"))), ConnectFailure::TimedOut);
        nodes[0].connected(connect(5, key("fresh")));
        // And none.
        nodes[1].set_up(guarded(listen, &[(range, None)])).unwrap();
        nodes[0].connected(connect(6, None));
        // And the same again.
        nodes[1].set_up(guarded(listen, &[(range, key("fresh"))])).unwrap();
        assert_eq!(nodes[0].failed(connect(7, None)), ConnectFailure::TimedOut);
    }
}

#[test]
fn the_longest_prefix_chooses_the_key() {
    let nodes = nodes();
    let guards = [("10.9.0.0/24", key("range")), ("10.9.0.1/32", key("one"))];
    nodes[1].set_up(guarded("10.9.0.2", &guards)).unwrap();
    let connect = |id, password| {
        let conn = ConnId::Out(id);
        nodes[0].say([Output::Connect { conn, target: Target { password, ..target("10.9.0.2") } }]);
        conn
    };
    assert_eq!(nodes[0].failed(connect(1, key("range"))), ConnectFailure::TimedOut);
    nodes[0].connected(connect(2, key("one")));
}

#[test]
fn a_setup_that_can_not_be_leaves_the_old_one() {
    let nodes = nodes();
    nodes[1].set_up(guarded("10.9.0.2", &[("10.9.0.0/24", key("old"))])).unwrap();
    let taken = nodes[1].namespace.run(|| TcpListener::bind("10.9.0.2:2000").unwrap()).unwrap();
    let mut busy = guarded("10.9.0.2", &[("10.9.0.0/24", key("new"))]);
    busy.listeners.push(Listener { address: taken.local_addr().unwrap(), interface: None });
    assert!(matches!(nodes[1].set_up(busy), Err(SetupError::Listen { address, .. }) if address.port() == 2000));
    let long = "x".repeat(81);
    for (password, length) in [("", 0), (long.as_str(), 81)] {
        let setup = guarded("10.9.0.2", &[("10.9.0.0/24", key(password))]);
        assert!(matches!(nodes[1].set_up(setup), Err(SetupError::KeyLength { bytes, .. }) if bytes == length));
    }
    let two = guarded("10.9.0.2", &[("10.9.0.0/24", key("a")), ("10.9.0.0/24", key("b"))]);
    assert!(matches!(nodes[1].set_up(two), Err(SetupError::TwoKeys { .. })));
    let nowhere = guarded("10.9.0.99", &[]);
    assert!(matches!(nodes[1].set_up(nowhere), Err(SetupError::Listen { .. })));
    let conn = ConnId::Out(1);
    nodes[0].say([Output::Connect { conn, target: Target { password: key("old"), ..target("10.9.0.2") } }]);
    nodes[0].connected(conn);
}

#[test]
fn a_listener_that_is_taken_away_lets_nobody_in_and_keeps_who_is_there() {
    let nodes = nodes();
    nodes[1].set_up(guarded("10.9.0.2", &[])).unwrap();
    let conn = ConnId::Out(1);
    nodes[0].say([Output::Connect { conn, target: target("10.9.0.2") }]);
    nodes[0].connected(conn);
    let into = nodes[1].accepted();
    nodes[1].set_up(Setup::default()).unwrap();
    let late = ConnId::Out(2);
    nodes[0].say([Output::Connect { conn: late, target: target("10.9.0.2") }]);
    assert_eq!(nodes[0].failed(late), ConnectFailure::Refused);
    exchange(&nodes, conn, into, "on");
    assert!(!nodes[1].pending().iter().any(|event| matches!(event, Event::Closed { .. })));
}

#[test]
fn a_wildcard_gives_way_to_an_address_and_comes_back_where_that_can_not_be() {
    let nodes = nodes();
    let connect = |id| {
        let conn = ConnId::Out(id);
        nodes[0].say([Output::Connect { conn, target: target("10.9.0.2") }]);
        nodes[0].connected(conn);
        nodes[1].accepted()
    };
    nodes[1].set_up(guarded("0.0.0.0", &[])).unwrap();
    let first = connect(1);
    nodes[1].set_up(guarded("10.9.0.2", &[])).unwrap();
    exchange(&nodes, ConnId::Out(1), first, "still here");
    connect(2);
    nodes[1].set_up(guarded("0.0.0.0", &[])).unwrap();
    connect(3);
    let mut impossible = guarded("10.9.0.2", &[]);
    impossible.listeners.push(Listener { address: SocketAddr::new(ip("10.9.0.99"), PORT), interface: None });
    assert!(nodes[1].set_up(impossible).is_err());
    connect(4);
}
