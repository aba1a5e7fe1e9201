//! What holds of every frame, however it was made: tens of thousands of mutants of well-formed ones for each program. Never a single
//! packet that somebody thought of: those are in `cut`, `fragments` and elsewhere.

use super::kinds::{OPEN, Read, SCTP, TCP, UDP, Upper, read};
use super::mutants::{dice, frame, rounds};
use super::rigs::{
    AT, DROP, ELSEWHERE, HANDED_OVER, NEXT, NODE, PEER, POOLS, ROUTED, WRAPPED, closed_node, forwarded, forwarding, ip,
    ips, masqueraded, masquerading, pod,
};
use crate::bed::judge;
use crate::host::frames::{in_namespace, to_node};
use crate::pod::ADDRESSES;
use backend_ebpf::abi::Reason;
use backend_ebpf::kernel::Way;
use backend_ebpf::kernel::forward::Forward;
use backend_ebpf::kernel::masquerade::Masquerade;
use cni_core::testkit::dice::Dice;
use std::net::IpAddr;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

fn all(texts: &[[&str; 2]]) -> Vec<IpAddr> {
    texts.iter().flatten().map(|text| ip(text)).collect()
}

/// Mutants of frames from some addresses to others.
fn mutants(from: &[[&str; 2]], to: &[[&str; 2]], mut look: impl FnMut(&mut Dice, Vec<u8>)) {
    let (from, to) = (all(from), all(to));
    let mut dice = dice();
    for _ in 0..rounds() {
        let frame = frame(&mut dice, &from, &to);
        look(&mut dice, frame);
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6]
}

/// Neighbour discovery that no router passed on. RFC 4861, section 7.1.
fn is_discovery(frame: &[u8]) -> bool {
    let upper = read(frame).and_then(|read| read.upper);
    upper.is_some_and(|upper| {
        upper.protocol == ICMPV6 && !upper.is_later && frame[21] == 255 && (133..=136).contains(&frame[upper.at])
    })
}

#[test]
fn what_passes_from_a_pod_has_the_pods_own_address_and_all_headers() {
    let enforcer = pod();
    let mut passed = 0;
    mutants(&[ADDRESSES, ADDRESSES, PEER], &[PEER, WRAPPED], |_, frame| {
        let (reason, _) = judge(&enforcer, Way::FromPod, &frame);
        match reason {
            Reason::Arp => assert!(is_arp(&frame), "{frame:02x?}"),
            Reason::NeighbourDiscovery => assert!(is_discovery(&frame), "{frame:02x?}"),
            reason if reason.passes() => {
                passed += 1;
                let read = read(&frame).unwrap_or_else(|| panic!("{reason:?} {frame:02x?}"));
                assert!(ips(ADDRESSES).contains(&read.source), "{reason:?} {frame:02x?}");
                let is_there = |upper: Upper| upper.at <= frame.len();
                assert!(read.upper.is_some_and(is_there), "{reason:?} {frame:02x?}");
            }
            _ => {}
        }
    });
    assert!(passed > rounds() / 20, "{passed}");
}

/// Whether a packet asks for what is open: the port, or an echo.
fn asks_for_what_is_open(frame: &[u8], upper: Upper) -> bool {
    let word = |at: usize| frame.get(upper.at + at..upper.at + at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    match upper.protocol {
        TCP | UDP | SCTP => word(2) == Some(OPEN),
        ICMP => word(0) == Some(0x0800),
        ICMPV6 => word(0) == Some(0x8000),
        _ => false,
    }
}

#[test]
fn what_passes_to_a_pod_has_its_address_and_asks_for_what_is_open() {
    let enforcer = pod();
    let (mut allowed, mut pieces) = (0, 0);
    mutants(&[PEER, WRAPPED], &[ADDRESSES, ADDRESSES, ROUTED], |_, frame| {
        let (reason, _) = judge(&enforcer, Way::ToPod, &frame);
        match reason {
            Reason::Arp => assert!(is_arp(&frame), "{frame:02x?}"),
            Reason::NeighbourDiscovery => assert!(is_discovery(&frame), "{frame:02x?}"),
            reason if reason.passes() => {
                let Some(Read { source, destination, upper: Some(upper) }) = read(&frame) else {
                    panic!("{reason:?} {frame:02x?}")
                };
                assert!(ips(ADDRESSES).contains(&destination), "{reason:?} {frame:02x?}");
                match reason {
                    // What follows a first piece has no ports of its own.
                    Reason::Allowed if upper.is_later => pieces += 1,
                    Reason::Allowed => {
                        allowed += 1;
                        assert!(asks_for_what_is_open(&frame, upper), "{frame:02x?}");
                    }
                    Reason::SameEndpoint => assert!(ips(ADDRESSES).contains(&source), "{frame:02x?}"),
                    // About what came in and passed.
                    Reason::Related => assert!([ICMP, ICMPV6].contains(&upper.protocol), "{frame:02x?}"),
                    other => panic!("the pod began nothing: {other:?} {frame:02x?}"),
                }
            }
            _ => {}
        }
    });
    assert!(allowed > rounds() / 20 && pieces > 0, "{allowed} {pieces}");
}

/// Of neighbours, groups and routers: without them a host is cut off from its link.
fn is_of_the_link(frame: &[u8]) -> bool {
    let upper = read(frame).and_then(|read| read.upper);
    upper.is_some_and(|upper| upper.protocol == ICMPV6)
}

#[test]
fn nothing_comes_to_a_closed_node_but_what_its_link_needs() {
    in_namespace(|| {
        let enforcer = closed_node();
        let mut dropped = 0;
        mutants(&[PEER, WRAPPED], &[NODE, NODE, PEER], |_, frame| {
            let frame = to_node(&frame);
            let judged = enforcer.object.judge(Way::ToHost, AT, &frame, 1).unwrap();
            let is_for_node = read(&frame).is_some_and(|read| ips(NODE).contains(&read.destination));
            if is_for_node && !is_of_the_link(&frame) {
                assert_eq!(judged.action, DROP, "{frame:02x?}");
                dropped += 1;
            }
        });
        assert!(dropped > rounds() / 10, "{dropped}");
    });
}

#[test]
fn what_the_node_sends_and_cannot_be_read_is_dropped_and_else_it_may_go_anywhere() {
    in_namespace(|| {
        let enforcer = closed_node();
        let mut passed = 0;
        mutants(&[NODE], &[PEER, WRAPPED], |_, frame| {
            let judged = enforcer.object.judge(Way::FromHost, AT, &frame, 1).unwrap();
            let is_its = read(&frame).is_some_and(|read| ips(NODE).contains(&read.source));
            if is_its && judged.action == NEXT {
                passed += 1;
                assert!(read(&frame).unwrap().upper.is_some(), "{frame:02x?}");
            }
            if judged.action == DROP {
                let reason = judged.reason.unwrap();
                let unread = [Reason::Malformed, Reason::TooManyHeaders, Reason::UnknownFragment];
                assert!(unread.contains(&reason), "{reason:?} {frame:02x?}");
            }
        });
        assert!(passed > rounds() / 20, "{passed}");
    });
}

/// One hop less, and addresses of the next link: all that forwarding changes. RFC 1812, section 5.3.1; RFC 1624.
fn one_hop_less(frame: &[u8], begin: &[u8]) -> Vec<u8> {
    let mut wanted = [begin, &frame[begin.len()..]].concat();
    if frame[12..14] == [8, 0] {
        wanted[22] -= 1;
        let word = |frame: &[u8], at: usize| u32::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let sum = u32::from(!u16::from_be_bytes([frame[24], frame[25]]));
        let sum = sum + (0xffff - word(frame, 22)) + word(&wanted, 22);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        wanted[24..26].copy_from_slice(&sum.to_be_bytes());
    } else {
        wanted[21] -= 1;
    }
    wanted
}

#[test]
fn a_frame_is_forwarded_with_one_hop_less_and_the_next_links_addresses_or_stays_as_it_is() {
    let loaded = forwarding();
    let is_pods = |address: IpAddr| ips(ADDRESSES).contains(&address);
    let within = |nets: [&str; 2], address: IpAddr| {
        nets.iter().any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&address))
    };
    let is_routed = |address| within(["10.2.0.0/24", "fd00:2::/64"], address);
    let is_other_nodes = |address| is_routed(address) || within(["10.1.0.0/24", "fd00:1::/64"], address);
    for program in Forward::ALL {
        let (mut taken, mut left) = (0, 0);
        mutants(&[ADDRESSES, WRAPPED, ROUTED, PEER], &[ADDRESSES, WRAPPED, ROUTED, PEER], |_, frame| {
            let (action, after) = forwarded(&loaded, program, &frame);
            assert_eq!(after.len(), frame.len(), "{program:?} {frame:02x?}");
            if action != ELSEWHERE {
                assert_eq!(after, frame, "{program:?}");
                assert!(action == NEXT || action == DROP && !program.is_of_fast_path(), "{program:?} {frame:02x?}");
                left += 1;
                return;
            }
            taken += 1;
            let found = read(&frame).unwrap_or_else(|| panic!("{program:?} {frame:02x?}"));
            let begin = if is_pods(found.destination) { &HANDED_OVER[..] } else { &frame[..12] };
            assert_eq!(after, one_hop_less(&frame, begin), "{program:?} {frame:02x?}");
            let hops = if found.source.is_ipv4() { frame[22] } else { frame[21] };
            assert!(hops > 1, "{program:?} {frame:02x?}");
            match program {
                Forward::PastStack => assert!(is_pods(found.destination) || is_other_nodes(found.destination)),
                Forward::FromUnderlay => assert!(is_pods(found.destination) && is_routed(found.source)),
                other => panic!("{other:?} sends nothing elsewhere without a tunnel: {frame:02x?}"),
            }
        });
        assert_eq!(taken > rounds() / 100, program.is_of_fast_path(), "{program:?} {taken}");
        assert!(left > rounds() / 20, "{program:?} {left}");
    }
}

fn is_in_pools(address: IpAddr) -> bool {
    POOLS.iter().any(|net| net.parse::<ipnet::IpNet>().unwrap().contains(&address))
}

/// A receiver's reading of it, and whether it is nobody else's: no neighbours, no packets between pods, no group.
fn leaves(frame: &[u8]) -> Option<Read> {
    let found = read(frame)?;
    let is_kept = is_in_pools(found.destination) || found.destination.is_multicast();
    (!is_kept && !is_discovery(frame)).then_some(found)
}

#[test]
fn no_pods_address_leaves_and_nothing_of_a_packet_but_address_port_and_sums_is_changed() {
    let (loaded, _maps) = masquerading();
    let mut out = 0;
    mutants(&[ADDRESSES, ADDRESSES, NODE], &[PEER, WRAPPED], |_, frame| {
        let (action, after) = masqueraded(&loaded, Masquerade::Out, &frame);
        assert_eq!(after.len(), frame.len(), "{frame:02x?}");
        if action == DROP {
            return;
        }
        assert_eq!(action, NEXT, "{frame:02x?}");
        if let Some(found) = leaves(&after) {
            assert!(!is_in_pools(found.source), "{frame:02x?} leaves as {after:02x?}");
        }
        if after != frame {
            out += 1;
            let (before, found) = (read(&frame).unwrap(), read(&after).unwrap());
            assert!(is_in_pools(before.source) || ips(NODE).contains(&before.source), "{frame:02x?}");
            assert!(ips(NODE).contains(&found.source), "{frame:02x?}");
            assert_eq!((before.destination, before.upper), (found.destination, found.upper), "{frame:02x?}");
            assert_few_changed(&frame, &after, before);
        }
    });
    assert!(out > rounds() / 20, "{out}");
}

/// An address, a port and their sums; in an error the same again within what it quotes.
fn assert_few_changed(frame: &[u8], after: &[u8], read: Read) {
    let changed = frame.iter().zip(after).filter(|(before, after)| before != after).count();
    let address = if read.source.is_ipv4() { 4 + 2 } else { 16 };
    let is_error = read.upper.is_some_and(|upper| [ICMP, ICMPV6].contains(&upper.protocol) && !upper.is_later);
    let most = if is_error { 2 * address + 2 + 2 + 2 + 2 } else { address + 2 + 2 };
    assert!(changed <= most, "{changed} bytes of {frame:02x?} are others in {after:02x?}");
}

/// Answers to what left, and their mutants: some find their pod, and all others stay as they are.
#[test]
fn what_comes_back_reaches_a_pod_or_stays_the_nodes_unchanged() {
    let (loaded, _maps) = masquerading();
    let mut back = 0;
    mutants(&[ADDRESSES], &[PEER], |dice, frame| {
        let (action, left) = masqueraded(&loaded, Masquerade::Out, &frame);
        let answer = match answer_to(&left) {
            Some(answer) if action == NEXT => answer,
            _ => return,
        };
        let mut answer = answer;
        for _ in 0..dice.below(3) {
            let at = 14 + dice.below(answer.len() - 14);
            answer[at] ^= 1 << dice.below(8);
        }
        let (action, after) = masqueraded(&loaded, Masquerade::In, &answer);
        assert_eq!(action, NEXT, "{answer:02x?}");
        assert_eq!(after.len(), answer.len(), "{answer:02x?}");
        if after != answer {
            back += 1;
            let (before, found) = (read(&answer).unwrap(), read(&after).unwrap());
            assert!(ips(NODE).contains(&before.destination), "{answer:02x?}");
            assert!(is_in_pools(found.destination), "{answer:02x?}");
            assert_eq!((before.source, before.upper), (found.source, found.upper), "{answer:02x?}");
            assert_few_changed(&answer, &after, before);
        }
    });
    assert!(back > rounds() / 100, "{back}");
}

/// The ends of a packet with ports exchanged; `None`: it has none.
fn answer_to(frame: &[u8]) -> Option<Vec<u8>> {
    let found = read(frame)?;
    let upper = found.upper.filter(|upper| [TCP, UDP].contains(&upper.protocol) && !upper.is_later)?;
    let mut answer = frame.to_vec();
    let bytes = if found.source.is_ipv4() { 4 } else { 16 };
    let at = if found.source.is_ipv4() { 26 } else { 22 };
    for byte in 0..bytes {
        answer.swap(at + byte, at + bytes + byte);
    }
    answer.get(upper.at..upper.at + 4)?;
    answer.swap(upper.at, upper.at + 2);
    answer.swap(upper.at + 1, upper.at + 3);
    Some(answer)
}
