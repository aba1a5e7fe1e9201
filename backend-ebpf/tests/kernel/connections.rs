//! Answers pass while what they answer would, and nothing else passes by them. Never a random policy.

use crate::bed::{INTERFACE, judge, seconds_since_boot};
use crate::frames::Frame;
use crate::pod::{ADDRESSES, Pod, open_ports};
use backend_ebpf::abi::{Connection, ConnectionKey, Reason, Tracked};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use std::net::IpAddr;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

const CLIENT: u16 = 40_000;

/// One end: address and port.
type End = (IpAddr, u16);

fn pod(family: usize) -> IpAddr {
    ADDRESSES[family].parse().unwrap()
}

fn peer(family: usize) -> IpAddr {
    ["192.0.2.1", "2001:db8::1"][family].parse().unwrap()
}

fn segment(from: End, to: End, flags: u8) -> Frame {
    let mut payload = [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &[0; 16]].concat();
    payload[13] = flags;
    Frame::new(from.0, to.0, TCP, payload)
}

fn datagram(from: End, to: End) -> Frame {
    Frame { protocol: UDP, ..segment(from, to, 0) }
}

fn message(from: IpAddr, to: IpAddr, kind: u8, id: u16) -> Frame {
    let protocol = if from.is_ipv4() { ICMP } else { ICMPV6 };
    Frame::new(from, to, protocol, [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat())
}

fn out(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::FromPod, &frame.bytes()).0
}

fn into(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::ToPod, &frame.bytes()).0
}

/// The pod may only be reached at port 80, and may only reach port 443.
fn isolated() -> Enforcer {
    open_ports(&Pod { ingress: Some(&[(TCP, 80), (UDP, 80)]), egress: Some(&[(TCP, 443), (UDP, 443)]) })
}

#[test]
fn answers_pass_in_both_directions_and_only_to_what_was_let_pass() {
    let enforcer = isolated();
    for family in [0, 1] {
        let (own, far) = (pod(family), peer(family));
        // Answers to nothing.
        assert_eq!(out(&enforcer, &datagram((own, 80), (far, CLIENT))), Reason::Denied);
        assert_eq!(into(&enforcer, &datagram((far, 443), (own, CLIENT))), Reason::Denied);
        // To the pod.
        assert_eq!(into(&enforcer, &datagram((far, CLIENT), (own, 80))), Reason::Allowed);
        assert_eq!(out(&enforcer, &datagram((own, 80), (far, CLIENT))), Reason::Established);
        assert_eq!(out(&enforcer, &datagram((own, 80), (far, CLIENT + 1))), Reason::Denied, "another connection");
        assert_eq!(out(&enforcer, &segment((own, 80), (far, CLIENT), ACK)), Reason::Denied, "another protocol");
        // From the pod.
        assert_eq!(out(&enforcer, &datagram((own, CLIENT), (far, 443))), Reason::Allowed);
        assert_eq!(into(&enforcer, &datagram((far, 443), (own, CLIENT))), Reason::Established);
        assert_eq!(into(&enforcer, &datagram((far, 444), (own, CLIENT))), Reason::Denied);
        // What was denied opens nothing.
        assert_eq!(out(&enforcer, &datagram((own, CLIENT), (far, 444))), Reason::Denied);
        assert_eq!(into(&enforcer, &datagram((far, 444), (own, CLIENT))), Reason::Denied);
    }
}

#[test]
fn a_tcp_connection_is_answered_until_it_is_closed_and_a_beginning_is_never_an_answer() {
    let mut enforcer = isolated();
    let (own, far) = ((pod(0), 80), (peer(0), CLIENT));
    assert_eq!(into(&enforcer, &segment(far, own, SYN)), Reason::Allowed);
    assert_eq!(out(&enforcer, &segment(own, far, SYN | ACK)), Reason::Established);
    assert_eq!(into(&enforcer, &segment(far, own, ACK)), Reason::Allowed);
    assert_eq!(out(&enforcer, &segment(own, far, SYN)), Reason::Denied, "the pod begins one of its own");
    let state = |enforcer: &Enforcer| {
        let found = enforcer.object.connections().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found[0]
    };
    assert_eq!(state(&enforcer).1.connection.state, Connection::ANSWERED);
    assert_eq!(into(&enforcer, &segment(far, own, FIN | ACK)), Reason::Allowed);
    assert_eq!(out(&enforcer, &segment(own, far, FIN | ACK)), Reason::Established);
    let closed = Connection::ANSWERED | Connection::FIN | Connection::ANSWER_FIN;
    assert_eq!(state(&enforcer).1.connection.state, closed);
    let (key, tracked) = state(&enforcer);
    let connection = tracked.connection;
    let long_ago = Connection { seen_seconds: connection.seen_seconds.wrapping_sub(11), ..connection };
    enforcer.object.set_connection(key, Some(Tracked { connection: long_ago, ..tracked })).unwrap();
    assert_eq!(out(&enforcer, &segment(own, far, ACK)), Reason::Denied, "eleven seconds after it was closed");
    // The same ports again.
    enforcer.object.set_connection(key, Some(tracked)).unwrap();
    assert_eq!(into(&enforcer, &segment(far, own, SYN)), Reason::Allowed);
    assert_eq!(state(&enforcer).1.connection.state, 0);
    assert_eq!(out(&enforcer, &segment(own, far, RST | ACK)), Reason::Established);
    assert_eq!(state(&enforcer).1.connection.state, Connection::ANSWERED | Connection::RESET);
}

#[test]
fn what_nobody_used_for_long_is_forgotten() {
    let mut enforcer = isolated();
    let (own, far) = (pod(1), peer(1));
    let octets = |address: IpAddr| match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
    };
    let key = ConnectionKey {
        interface: INTERFACE,
        own: octets(own),
        other: octets(far),
        own_port: 80,
        other_port: CLIENT,
        protocol: UDP.into(),
    };
    let now = seconds_since_boot();
    for (state, quiet, wanted) in [
        (0, 28, Reason::Established),
        (0, 32, Reason::Denied),
        (Connection::ANSWERED, 178, Reason::Established),
        (Connection::ANSWERED, 182, Reason::Denied),
    ] {
        let connection = Connection::seen(now.wrapping_sub(quiet), state);
        enforcer.object.set_connection(key, Some(Tracked::opened(connection, 0))).unwrap();
        assert_eq!(out(&enforcer, &datagram((own, 80), (far, CLIENT))), wanted, "{state} {quiet}");
    }
}

#[test]
fn echoes_are_answered_by_their_identifier_and_ask_the_policy_of_echoes() {
    let enforcer = open_ports(&Pod { ingress: Some(&[(ICMP, 8 << 8), (ICMPV6, 128 << 8)]), egress: Some(&[]) });
    for (family, echo, reply) in [(0, 8, 0), (1, 128, 129)] {
        let (own, far) = (pod(family), peer(family));
        assert_eq!(out(&enforcer, &message(own, far, reply, 7)), Reason::Denied, "nobody asked");
        assert_eq!(into(&enforcer, &message(far, own, echo, 7)), Reason::Allowed);
        assert_eq!(out(&enforcer, &message(own, far, reply, 7)), Reason::Established);
        assert_eq!(out(&enforcer, &message(own, far, reply, 8)), Reason::Denied);
        assert_eq!(out(&enforcer, &message(own, far, echo, 7)), Reason::Denied, "a question is no answer");
    }
}

#[test]
fn open_connections_end_when_policy_turns_and_go_on_when_it_turns_back() {
    let mut enforcer = isolated();
    let (own, far) = ((pod(0), 80), (peer(0), CLIENT));
    assert_eq!(into(&enforcer, &segment(far, own, SYN)), Reason::Allowed);
    assert_eq!(out(&enforcer, &segment(own, far, ACK)), Reason::Established);
    // Whatever the pod may do itself.
    Pod { ingress: Some(&[(TCP, 81)]), egress: None }.stage(&mut enforcer);
    enforcer.commit().unwrap();
    assert_eq!(into(&enforcer, &segment(far, own, ACK)), Reason::Denied);
    assert_eq!(out(&enforcer, &segment(own, far, ACK)), Reason::Denied);
    Pod { ingress: Some(&[(TCP, 80)]), egress: Some(&[]) }.stage(&mut enforcer);
    enforcer.commit().unwrap();
    assert_eq!(out(&enforcer, &segment(own, far, ACK)), Reason::Established);
}
