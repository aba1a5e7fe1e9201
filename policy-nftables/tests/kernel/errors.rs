//! ICMP errors about open connections, true and forged, as bytes from raw sockets. Never a rule's text where a packet can tell.

use crate::bed::run;
use crate::items::{chain_id, direction, tier};
use crate::node::{Host, Node};
use cni_core::policy::model::{Direction, TierEnd};
use cni_core::policy::program::PolicyItem;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

/// Destination unreachable: port.
const UNREACHABLE: Error = Error { v4: (3, 3), v6: (1, 4) };
/// The path takes smaller packets only.
const TOO_BIG: Error = Error { v4: (3, 4), v6: (2, 0) };
const TIME_EXCEEDED: Error = Error { v4: (11, 0), v6: (3, 0) };
/// A redirect; ICMPv6's is no error to the kernel's connection tracking, type 100 is (private experimentation).
const REDIRECT: Error = Error { v4: (5, 1), v6: (100, 0) };

/// Type and code in both families.
#[derive(Clone, Copy, Debug)]
struct Error {
    v4: (u8, u8),
    v6: (u8, u8),
}

fn raw(family: IpAddr) -> OwnedFd {
    let (family, protocol) = match family {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 300_000)).unwrap();
    socket
}

/// The first bytes of a datagram between these.
fn datagram(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut packet = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0, 0, 29, 0, 1, 0x40, 0, 64, 17, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            [&[0x60, 0, 0, 0, 0, 9, 17, 64][..], &from.octets(), &to.octets()].concat()
        }
        _ => panic!("one family"),
    };
    packet.extend([from.port().to_be_bytes(), to.port().to_be_bytes(), [0, 9], [0, 0]].concat());
    packet.push(b'x');
    packet
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

/// Sends an error about a datagram to the one who sent it, and tells whether it arrives there. `victim` listens.
fn arrives(liar: &Host, victim: &Host, error: Error, from: SocketAddr, to: SocketAddr) -> bool {
    let (kind, code) = if from.is_ipv4() { error.v4 } else { error.v6 };
    let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
    message.extend(datagram(from, to));
    if from.is_ipv4() {
        // The kernel makes ICMPv6's itself.
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    let ear = victim.netns.run(|| raw(from.ip())).unwrap();
    let mouth = liar.netns.run(|| raw(from.ip())).unwrap();
    let there = SockaddrStorage::from(SocketAddr::new(from.ip(), 0));
    sendto(mouth.as_raw_fd(), &message, &there, MsgFlags::empty()).unwrap();
    let mut buffer = [0; 2048];
    // What else there is: neighbour discovery, and errors that the kernel sends.
    let quoted = &message[8..];
    std::iter::from_fn(|| {
        recv(ear.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok().map(|length| buffer[..length].to_vec())
    })
    .any(|packet| {
        let icmp = if from.is_ipv4() { &packet[20..] } else { &packet[..] };
        icmp[0] == kind && icmp.ends_with(quoted)
    })
}

/// Pod `b` lets nobody in, and has sent datagrams that were answered: its socket, and where they went.
fn closed_b_has_talked_to(node: &mut Node, whom: impl Fn(&Node) -> &Host, family: usize) -> (SocketAddr, SocketAddr) {
    let web = chain_id("web", Direction::Ingress);
    let mut program = node.endpoint_b();
    program.ingress = direction(vec![tier("default", &[&web], TierEnd::Deny)]);
    node.commit(vec![crate::items::chain(&web, Vec::new()), PolicyItem::Endpoint(program)]);
    let to = whom(node).addresses[family];
    let talk = node.b.datagrams(to, 80);
    // IPv6 finds its neighbours first.
    assert!((0..10).any(|_| talk.echoes()));
    (SocketAddr::new(node.b.addresses[family], talk.port()), SocketAddr::new(to, 80))
}

#[test]
fn an_error_is_believed_of_whom_the_packet_was_sent_to_and_of_routers_on_the_way() {
    let mut node = Node::open_to_all();
    for family in [0, 1] {
        let (from, to) = closed_b_has_talked_to(&mut node, |node| &node.outside, family);
        let [v4, v6] = ["198.51.100.7", "2001:db8:7::7"];
        node.outside.netns.run(|| run(&format!("ip address add {} dev lo", [v4, v6][family]))).unwrap();
        for error in [UNREACHABLE, TOO_BIG, TIME_EXCEEDED] {
            assert!(arrives(&node.outside, &node.b, error, from, to), "{error:?} {from} {to}");
        }
        let (from, to) = closed_b_has_talked_to(&mut node, |node| &node.a, family);
        for error in [UNREACHABLE, TOO_BIG, TIME_EXCEEDED] {
            assert!(arrives(&node.a, &node.b, error, from, to), "{error:?} {from} {to}");
        }
        assert!(!node.a.ping(from.ip()), "but b is closed to a");
    }
    assert_eq!(node.counted("forged error"), 0);
}

#[test]
fn a_pod_cannot_forge_an_error_about_what_was_sent_to_somebody_else() {
    let mut node = Node::open_to_all();
    for family in [0, 1] {
        let (from, to) = closed_b_has_talked_to(&mut node, |node| &node.outside, family);
        for error in [UNREACHABLE, TOO_BIG, TIME_EXCEEDED] {
            assert!(!arrives(&node.a, &node.b, error, from, to), "{error:?} {from} {to}");
        }
        // Nor about connections of the node, nor to somebody outside.
        let node_talks = node.node.datagrams(node.outside.addresses[family], 80);
        let outside_talks = node.outside.datagrams(node.b.addresses[family], 80);
        let open = PolicyItem::Endpoint(node.endpoint_b());
        node.commit(vec![open]);
        assert!((0..10).any(|_| node_talks.echoes() && outside_talks.echoes()));
        let of_node = SocketAddr::new(node.node.addresses[family], node_talks.port());
        assert!(!arrives(&node.a, &node.node, TOO_BIG, of_node, to));
        let of_outside = SocketAddr::new(node.outside.addresses[family], outside_talks.port());
        assert!(!arrives(&node.a, &node.outside, TOO_BIG, of_outside, SocketAddr::new(from.ip(), 80)));
        assert!(arrives(&node.b, &node.outside, TOO_BIG, of_outside, SocketAddr::new(from.ip(), 80)));
    }
    assert!(node.counted("forged error") >= 10);
}

#[test]
fn redirects_and_other_messages_do_not_pass_as_errors() {
    let mut node = Node::open_to_all();
    for family in [0, 1] {
        let (from, to) = closed_b_has_talked_to(&mut node, |node| &node.outside, family);
        assert!(!arrives(&node.outside, &node.b, REDIRECT, from, to), "{from} {to}");
    }
    assert_eq!(node.counted("forged error"), 2);
}

/// What was sent between two others went through other nodes, which would believe the error: it has to end here.
#[test]
fn a_pod_cannot_forge_an_error_about_a_connection_that_its_node_does_not_know() {
    let node = Node::open_to_all();
    let others: [IpAddr; 2] = ["203.0.113.7".parse().unwrap(), "2001:db8:ffff::7".parse().unwrap()];
    for (family, other) in others.into_iter().enumerate() {
        let of_outside = SocketAddr::new(node.outside.addresses[family], 4000);
        let of_node = SocketAddr::new(node.node.addresses[family], 4000);
        let to_other = SocketAddr::new(other, 80);
        for error in [UNREACHABLE, TOO_BIG, TIME_EXCEEDED] {
            assert!(!arrives(&node.a, &node.outside, error, of_outside, to_other), "{error:?} {of_outside}");
            assert!(!arrives(&node.a, &node.node, error, of_node, to_other), "{error:?} {of_node}");
        }
    }
    assert_eq!(node.counted("forged error"), 12);
}
