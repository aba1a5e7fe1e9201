//! ICMP errors about translated packets, both ways. Never an error that is sent.

use crate::frame::{Above, Frame, SYN, source_of};
use crate::rig::{DROP, NEXT, NODE, OUTSIDE, PODS, Rig, ip};
use backend_ebpf::abi::Masqueraded;
use backend_ebpf::kernel::masquerade::Masquerade;
use std::net::IpAddr;

const ROUTER: [&str; 2] = ["198.51.100.254", "2001:db8:99::fe"];

/// "Too big", as IPv4 and IPv6 have it.
const TOO_BIG: [(u8, u8); 2] = [(3, 4), (2, 0)];

/// An error that quotes so many bytes of a packet.
fn error(from: IpAddr, to: IpAddr, quoted: &Frame, bytes: usize) -> Frame {
    let (kind, code) = TOO_BIG[usize::from(from.is_ipv6())];
    let mut payload = quoted.packet();
    payload.truncate(bytes);
    Frame { payload, ..Frame::new(from, to, Above::Error(kind, code)) }
}

fn sent() -> [Above; 4] {
    [
        Above::Tcp(40_000, 443, SYN),
        Above::Udp(40_000, 443, true),
        Above::Udp(40_000, 443, false),
        Above::Echo(true, 40_000),
    ]
}

/// How much a router quotes: the IP header and 8 bytes at least (RFC 792), or all that fits (RFC 4443). Of half a checksum
/// nobody knows what it was.
fn lengths(frame: &Frame) -> impl Iterator<Item = usize> {
    let header = if frame.source.is_ipv4() { 20 } else { 40 };
    (header + 8..=frame.packet().len()).filter(move |bytes| *bytes != header + 17)
}

/// The checksums are those of a frame that was made anew, whatever part is quoted.
#[test]
fn an_error_about_a_pods_packet_reaches_it_and_quotes_what_it_sent() {
    for family in 0..2 {
        for above in sent() {
            let rig = Rig::new(8);
            let (pod, node, other) = (ip(PODS[family][0]), ip(NODE[family]), ip(OUTSIDE[family][0]));
            let frame = Frame::new(pod, other, above);
            let source = source_of(&rig.out(&frame).unwrap(), &frame.above);
            let left = frame.with(source, (other, frame.ports().1));
            for bytes in lengths(&left) {
                let error = |to, quoted: &Frame| error(ip(ROUTER[family]), to, quoted, bytes);
                let wanted = error(pod, &frame).bytes();
                assert_eq!(rig.back(&error(node, &left)), wanted, "{bytes} bytes of {frame:?}");
            }
            let strange = left.with((node, source.1 ^ 1), (other, left.ports().1));
            let of_nobody = error(ip(ROUTER[family]), node, &strange, 68);
            assert_eq!(rig.back(&of_nobody), of_nobody.bytes(), "nobody sent what it quotes");
        }
    }
}

/// The packet that comes back, as the pod sees it and as the other end sent it.
fn came(rig: &Rig, frame: &Frame) -> (Frame, Frame) {
    let source = source_of(&rig.out(frame).unwrap(), &frame.above);
    let above = |port| match frame.above {
        Above::Tcp(_, to, flags) => Above::Tcp(to, port, flags),
        Above::Udp(_, to, sum) => Above::Udp(to, port, sum),
        _ => Above::Echo(false, port),
    };
    let sent = Frame { source: frame.destination, destination: source.0, above: above(source.1), ..frame.clone() };
    let seen = Frame { destination: frame.source, above: above(frame.ports().0), ..sent.clone() };
    (sent, seen)
}

#[test]
fn an_error_of_a_pod_or_of_its_node_leaves_with_what_the_other_end_sent() {
    for family in 0..2 {
        for above in sent() {
            let rig = Rig::new(8);
            let (pod, node, other) = (ip(PODS[family][0]), ip(NODE[family]), ip(OUTSIDE[family][0]));
            let (sent, seen) = came(&rig, &Frame::new(pod, other, above));
            for bytes in lengths(&seen) {
                let wanted = error(node, other, &sent, bytes).bytes();
                assert_eq!(
                    rig.out(&error(pod, other, &seen, bytes)).as_ref(),
                    Some(&wanted),
                    "{bytes} bytes of {seen:?}"
                );
                assert_eq!(
                    rig.out(&error(node, other, &seen, bytes)).as_ref(),
                    Some(&wanted),
                    "{bytes} bytes of {seen:?}"
                );
            }
        }
    }
}

#[test]
fn an_error_of_a_pod_about_nothing_that_it_got_is_dropped_and_the_nodes_own_are_not() {
    let rig = Rig::new(8);
    for family in 0..2 {
        let (pod, node, other) = (ip(PODS[family][0]), ip(NODE[family]), ip(OUTSIDE[family][0]));
        let (_, seen) = came(&rig, &Frame::new(pod, other, Above::Udp(40_000, 443, true)));
        let strange = Frame { above: Above::Udp(443, 40_001, true), ..seen.clone() };
        assert_eq!(rig.out(&error(pod, other, &strange, 68)), None);
        // To somebody else than who sent it, and of a pod about another's.
        assert_eq!(rig.out(&error(pod, ip(OUTSIDE[family][1]), &seen, 68)), None);
        assert_eq!(rig.out(&error(ip(PODS[family][1]), other, &seen, 68)), None);
        let of_node = error(node, other, &strange, 68);
        assert_eq!(rig.out(&of_node), Some(of_node.bytes()));
    }
    assert_eq!(rig.count(Masqueraded::ForgedError), 6);
}

#[test]
fn an_error_cut_anywhere_is_dropped_or_stays_as_it_is() {
    let rig = Rig::new(8);
    for family in 0..2 {
        let (pod, node, other) = (ip(PODS[family][0]), ip(NODE[family]), ip(OUTSIDE[family][0]));
        let frame = Frame::new(pod, other, Above::Tcp(40_000, 443, SYN));
        let (sent, seen) = came(&rig, &frame);
        let left = Frame {
            source: sent.destination,
            destination: other,
            above: Above::Tcp(sent.ports().1, 443, SYN),
            ..frame
        };
        let (header, quoted) = if family == 0 { (20, 20) } else { (40, 40) };
        // Up to the quoted ports and the word behind them.
        for length in 14 + header..14 + header + 8 + quoted + 8 {
            let whole = error(ip(ROUTER[family]), node, &left, 68).bytes();
            let (action, after) = rig.run(Masquerade::In, &whole[..length]);
            assert_eq!((action, &after[..]), (NEXT, &whole[..length]), "{length} bytes");
            let whole = error(pod, other, &seen, 68).bytes();
            assert_eq!(rig.run(Masquerade::Out, &whole[..length]).0, DROP, "{length} bytes");
        }
    }
}
