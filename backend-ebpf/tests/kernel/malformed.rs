//! Packets that are cut, twisted or in pieces: dropped with a reason, or judged like the whole. Never a random policy.

use crate::bed::judge;
use crate::frames::Frame;
use crate::pod::{ADDRESSES as POD, Pod, open_ports};
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use cni_core::testkit::dice::Dice;
use std::net::IpAddr;

const PEER: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// A pod that may be reached on UDP 53 only, and may reach everything.
fn only_dns() -> Enforcer {
    open_ports(&Pod { ingress: Some(&[(UDP, 53)]), egress: None })
}

fn datagram(family: usize, port: u16) -> Frame {
    let payload = [&55_555_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8]].concat();
    Frame::new(PEER[family].parse().unwrap(), POD[family].parse().unwrap(), UDP, payload)
}

/// The kernel itself refuses to try a frame without a whole IP header, and one with nothing behind its Ethernet header.
fn shortest(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 15,
    }
}

fn to_pod(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::ToPod, &frame.bytes()).0
}

#[test]
fn the_port_is_found_behind_options_and_extension_headers() {
    let enforcer = only_dns();
    for (port, wanted) in [(53, Reason::Allowed), (54, Reason::Denied)] {
        let v4 = datagram(0, port);
        assert_eq!(to_pod(&enforcer, &v4), wanted);
        assert_eq!(to_pod(&enforcer, &Frame { options: vec![1; 40], ..v4.clone() }), wanted);
        let v6 = datagram(1, port);
        assert_eq!(to_pod(&enforcer, &v6), wanted);
        let (short, long) = (vec![0; 7], [vec![2], vec![0; 22]].concat());
        let behind = |extensions| to_pod(&enforcer, &Frame { extensions, ..v6.clone() });
        assert_eq!(behind(vec![(0, short.clone()), (43, long.clone()), (60, short.clone())]), wanted);
        // The authentication header counts in words of four bytes, two less.
        assert_eq!(behind(vec![(51, [vec![4], vec![0; 22]].concat())]), wanted);
        assert_eq!(behind(vec![(60, short.clone()); 6]), wanted);
        assert_eq!(behind(vec![(60, short.clone()); 9]), Reason::TooManyHeaders);
    }
}

#[test]
fn a_packet_cut_anywhere_before_its_ports_is_dropped() {
    let enforcer = only_dns();
    let plain = [datagram(0, 53), datagram(1, 53)];
    let twisted = [
        Frame { options: vec![1; 12], ..datagram(0, 53) },
        Frame { extensions: vec![(0, vec![0; 7]), (60, [vec![1], vec![0; 14]].concat())], ..datagram(1, 53) },
    ];
    for frame in plain.iter().chain(&twisted) {
        let whole = frame.bytes();
        for length in shortest(&whole)..whole.len() - frame.payload.len() + 4 {
            let (reason, _) = judge(&enforcer, Way::ToPod, &whole[..length]);
            assert_eq!(reason, Reason::Malformed, "{length} bytes of {frame:?}");
        }
        assert_eq!(to_pod(&enforcer, frame), Reason::Allowed);
    }
}

#[test]
fn later_fragments_follow_the_first_and_nothing_else() {
    let enforcer = only_dns();
    const MORE: u16 = 0x2000;
    for (id, port, wanted) in [(1, 53, Reason::Allowed), (2, 54, Reason::Denied)] {
        let later = Frame { fragment: (1, id), payload: vec![0; 8], ..datagram(0, 53) };
        assert_eq!(to_pod(&enforcer, &later), Reason::UnknownFragment);
        assert_eq!(to_pod(&enforcer, &Frame { fragment: (MORE, id), ..datagram(0, port) }), wanted);
        assert_eq!(to_pod(&enforcer, &later), wanted);
        assert_eq!(to_pod(&enforcer, &Frame { fragment: (MORE | 2, id), ..later.clone() }), wanted);
        assert_eq!(to_pod(&enforcer, &Frame { fragment: (1, 99), ..later }), Reason::UnknownFragment);
    }
    let fragment = |offset: u16, more: u16, id: u32| {
        let place = offset << 3 | more;
        (44, [&[0][..], &place.to_be_bytes(), &id.to_be_bytes()].concat())
    };
    for (id, port, wanted) in [(1, 53, Reason::Allowed), (2, 54, Reason::Denied)] {
        let later = Frame { extensions: vec![fragment(1, 0, id)], payload: vec![0; 8], ..datagram(1, 53) };
        assert_eq!(to_pod(&enforcer, &later), Reason::UnknownFragment);
        let first = Frame { extensions: vec![fragment(0, 1, id)], ..datagram(1, port) };
        assert_eq!(to_pod(&enforcer, &first), wanted);
        assert_eq!(to_pod(&enforcer, &later), wanted);
        // A packet that says it is a fragment and is whole: RFC 6946.
        let whole = Frame { extensions: vec![fragment(0, 0, id + 10)], ..datagram(1, port) };
        assert_eq!(to_pod(&enforcer, &whole), wanted);
    }
}

#[test]
fn neighbour_discovery_passes_on_its_own_link_only() {
    let enforcer = only_dns();
    let link_local = ["fe80::2".parse().unwrap(), "ff02::1:ff00:1".parse().unwrap()];
    for way in Way::PODS {
        for (kind, hop_limit, passes) in [(135, 255, true), (136, 255, true), (135, 254, false), (137, 255, false)] {
            let frame = Frame::new(link_local[0], link_local[1], ICMPV6, vec![kind, 0, 0, 0, 0, 0, 0, 0]);
            let (reason, _) = judge(&enforcer, way, &Frame { hop_limit, ..frame }.bytes());
            let wanted = if passes { Reason::NeighbourDiscovery } else { Reason::UnknownEndpoint };
            assert_eq!(reason, wanted, "{way:?} {kind} {hop_limit}");
        }
    }
}

#[test]
fn what_is_neither_ip_nor_arp_is_dropped() {
    let enforcer = only_dns();
    let whole = datagram(0, 53).bytes();
    for (kind, wanted) in [
        ([0x08, 0x06], Reason::Arp),
        ([0x88, 0xcc], Reason::NotIp),
        ([0x88, 0x47], Reason::NotIp),
        ([0x81, 0x00], Reason::Vlan),
        ([0x88, 0xa8], Reason::Vlan),
    ] {
        let mut frame = whole.clone();
        frame[12..14].copy_from_slice(&kind);
        for way in Way::PODS {
            assert_eq!(judge(&enforcer, way, &frame).0, wanted, "{kind:?}");
        }
    }
    for (at, byte) in [(14, 0x65), (14, 0x44)] {
        let mut frame = whole.clone();
        frame[at] = byte;
        assert_eq!(judge(&enforcer, Way::ToPod, &frame).0, Reason::Malformed, "version and length {byte:#x}");
    }
}

#[test]
fn no_bytes_pass_that_do_not_come_from_the_pod_or_go_to_its_open_port() {
    let enforcer = only_dns();
    let pod: [IpAddr; 2] = POD.map(|address| address.parse().unwrap());
    let mut dice = Dice::new(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    let mut passed = 0;
    for _ in 0..20_000 {
        let family = dice.below(2);
        let mut frame = datagram(family, 53).bytes();
        for _ in 0..1 + dice.below(4) {
            let at = 12 + dice.below(frame.len() - 12);
            frame[at] = u8::try_from(dice.below(256)).unwrap();
        }
        frame.truncate((15 + dice.below(frame.len())).max(shortest(&frame)));
        let (reason, _) = judge(&enforcer, Way::ToPod, &frame);
        if reason == Reason::Allowed {
            passed += 1;
            let to = match frame[12..14] {
                [8, 0] => IpAddr::from(<[u8; 4]>::try_from(&frame[30..34]).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(&frame[38..54]).unwrap()),
            };
            assert!(pod.contains(&to), "{frame:02x?}");
            // What follows a first fragment has no ports of its own.
            let later = if to.is_ipv4() { frame[20] & 0x1f != 0 || frame[21] != 0 } else { frame[20] == 44 };
            assert!(later || frame.windows(2).any(|bytes| bytes == [0, 53]), "{frame:02x?}");
        }
    }
    assert!(passed > 100, "{passed}");
    let tcp = [&datagram(0, 53).payload[..], &[0; 8]].concat();
    assert_eq!(to_pod(&enforcer, &Frame { protocol: TCP, payload: tcp, ..datagram(0, 53) }), Reason::Denied);
}
