//! Pieces that contradict each other: RFC 1858, RFC 3128, RFC 5722. Never a reassembly: what a receiver makes of pieces is its own, so
//! none may pass that could say something else than what was judged.

use super::kinds::{FRAGMENT, Kind, plain, upper};
use super::rigs::{PEER, ip, pod};
use crate::bed::judge;
use crate::frames::Frame;
use crate::pod::ADDRESSES;
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;

const CLOSED: u16 = 54;

/// A piece of a packet to the pod: its place in units of 8 bytes, and what it has of the packet.
fn piece(kind: Kind, family: usize, id: u8, (offset, more): (u16, bool), payload: Vec<u8>) -> Frame {
    let frame = Frame { payload, ..plain(kind, ip(PEER[family]), ip(ADDRESSES[family])) };
    if family == 0 {
        return Frame { fragment: (offset | u16::from(more) << 13, id.into()), ..frame };
    }
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    Frame { extensions: vec![(FRAGMENT, vec![0, high, low, 0, 0, 0, id])], ..frame }
}

/// The first piece, to a port.
fn first(kind: Kind, family: usize, id: u8, port: u16) -> Frame {
    let mut payload = plain(kind, ip(PEER[family]), ip(ADDRESSES[family])).payload;
    payload.truncate(24);
    payload[2..4].copy_from_slice(&port.to_be_bytes());
    piece(kind, family, id, (0, true), payload)
}

fn reason(enforcer: &Enforcer, frame: &Frame) -> Reason {
    judge(enforcer, Way::ToPod, &frame.bytes()).0
}

#[test]
fn a_second_first_piece_is_judged_by_its_own_ports_and_so_is_what_follows_it() {
    let enforcer = pod();
    for family in 0..2 {
        for (id, kind) in [(1, Kind::Tcp), (2, Kind::Udp), (3, Kind::Sctp)] {
            let later = piece(kind, family, id, (3, false), vec![0; 8]);
            assert_eq!(reason(&enforcer, &first(kind, family, id, 53)), Reason::Allowed);
            assert_eq!(reason(&enforcer, &later), Reason::Allowed);
            assert_eq!(reason(&enforcer, &first(kind, family, id, CLOSED)), Reason::Denied, "{kind:?}");
            assert_eq!(reason(&enforcer, &later), Reason::Denied, "{kind:?}");
            assert_eq!(reason(&enforcer, &first(kind, family, id, 53)), Reason::Allowed);
        }
    }
}

/// The direct method of RFC 1858, section 3.2.1.
#[test]
fn a_first_piece_too_short_for_what_is_asked_is_dropped_and_so_is_what_follows_it() {
    let enforcer = pod();
    for family in 0..2 {
        for (id, kind, bytes) in [(1, Kind::Tcp, 8), (2, Kind::Udp, 0), (3, Kind::Sctp, 0), (4, Kind::Echo, 0)] {
            let mut frame = first(kind, family, id, 53);
            frame.payload.truncate(bytes);
            assert_eq!(reason(&enforcer, &frame), Reason::Malformed, "{kind:?}");
            let later = piece(kind, family, id, (2, false), vec![0; 16]);
            assert_eq!(reason(&enforcer, &later), Reason::UnknownFragment, "{kind:?}");
        }
    }
}

#[test]
fn a_piece_within_a_piece_is_dropped() {
    let enforcer = pod();
    let mut frame = first(Kind::Udp, 1, 1, 53);
    frame.extensions.push((FRAGMENT, vec![0, 0, 1, 0, 0, 0, 2]));
    assert_eq!(reason(&enforcer, &frame), Reason::Malformed);
    assert!(upper(&frame) > 54 + 8);
}

#[test]
fn pieces_of_others_with_the_same_number_are_not_mistaken() {
    let enforcer = pod();
    for family in 0..2 {
        assert_eq!(reason(&enforcer, &first(Kind::Udp, family, 1, 53)), Reason::Allowed);
        let later = piece(Kind::Udp, family, 1, (3, false), vec![0; 8]);
        let other = if family == 0 { "192.0.2.77" } else { "2001:db8::77" };
        assert_eq!(reason(&enforcer, &Frame { source: ip(other), ..later.clone() }), Reason::UnknownFragment);
        let of_tcp = piece(Kind::Tcp, family, 1, (3, false), vec![0; 8]);
        assert_eq!(reason(&enforcer, &of_tcp), Reason::UnknownFragment);
        // The way back is another packet's.
        let back = Frame { source: later.destination, destination: later.source, ..later.clone() };
        assert_eq!(judge(&enforcer, Way::FromPod, &back.bytes()).0, Reason::UnknownFragment);
        assert_eq!(reason(&enforcer, &later), Reason::Allowed);
    }
}

/// A first piece has at least TCP's flags, which end 14 bytes behind the ports' beginning: whatever honestly follows begins at 16 or
/// later. What begins at 8 would write over the flags. RFC 1858, section 4; RFC 3128.
#[test]
fn a_later_piece_of_tcp_never_writes_over_flags_that_were_judged() {
    for family in 0..2 {
        let enforcer = pod();
        assert_eq!(reason(&enforcer, &first(Kind::Tcp, family, 1, 53)), Reason::Allowed);
        let over = piece(Kind::Tcp, family, 1, (1, false), vec![0; 16]);
        assert_eq!(reason(&enforcer, &over), Reason::Malformed, "family {family}");
        let behind = piece(Kind::Tcp, family, 1, (3, false), vec![0; 16]);
        assert_eq!(reason(&enforcer, &behind), Reason::Allowed);
    }
}
