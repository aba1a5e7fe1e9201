//! Packets that end too early, at every length: nothing is decided about bytes that are not there. Never a changed byte.

use super::kinds::{Kind, plain, shortest, twisted, upper};
use super::rigs::{
    AT, DROP, ELSEWHERE, NEXT, NODE, PEER, ROUTED, WRAPPED, closed_node, forwarded, forwarding, ip, ips, masqueraded,
    masquerading, pod,
};
use crate::bed::judge;
use crate::frames::Frame;
use crate::host::frames::{in_namespace, to_node};
use crate::pod::ADDRESSES;
use backend_ebpf::abi::{Masqueraded, Reason};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use backend_ebpf::kernel::forward::Forward;
use backend_ebpf::kernel::masquerade::Masquerade;

/// Every kind in every dress between these, of both families.
fn frames(from: [&'static str; 2], to: [&'static str; 2]) -> impl Iterator<Item = (Kind, Frame)> {
    (0..2).flat_map(move |family| {
        let all = Kind::ALL.into_iter();
        all.flat_map(move |kind| {
            twisted(kind, ip(from[family]), ip(to[family])).into_iter().map(move |frame| (kind, frame))
        })
    })
}

/// Drops because of headers that are not all there.
fn malformed(enforcer: &Enforcer, way: Way) -> u64 {
    let counts = enforcer.object.packets(way).unwrap();
    counts.into_iter().find(|(reason, _)| *reason == Reason::Malformed).map_or(0, |(_, count)| count)
}

#[test]
fn a_pods_packet_cut_before_what_policy_asks_for_is_dropped_and_counted_and_behind_that_judged_like_the_whole() {
    for (way, from, to) in [(Way::FromPod, ADDRESSES, PEER), (Way::ToPod, PEER, ADDRESSES)] {
        let enforcer = pod();
        let mut dropped = 0;
        for (kind, frame) in frames(from, to) {
            let (whole, asked) = (frame.bytes(), upper(&frame) + kind.asked());
            for length in shortest(&whole)..asked {
                let (reason, _) = judge(&enforcer, way, &whole[..length]);
                assert_eq!(reason, Reason::Malformed, "{way:?}, {length} bytes of {frame:?}");
                dropped += 1;
            }
            // What an error quotes is looked at, too: see below.
            if kind == Kind::Error {
                continue;
            }
            let passes = judge(&enforcer, way, &whole).0.passes();
            for length in asked.max(shortest(&whole))..whole.len() {
                let (reason, _) = judge(&enforcer, way, &whole[..length]);
                assert_eq!(reason.passes(), passes, "{way:?}, {reason:?}, {length} bytes of {frame:?}");
            }
        }
        assert!(dropped > 500, "{dropped}");
        assert_eq!(malformed(&enforcer, way), dropped, "{way:?}");
    }
}

#[test]
fn an_error_is_about_a_connection_only_with_the_whole_of_what_it_quotes() {
    let enforcer = pod();
    for family in 0..2 {
        let (own, peer) = (ip(ADDRESSES[family]), ip(PEER[family]));
        // As the error quotes it: from the pod's port 53.
        let mut sent = plain(Kind::Udp, own, peer);
        sent.payload[..4].copy_from_slice(&[0, 53, 0xd9, 3]);
        let error = plain(Kind::Error, peer, own);
        let whole = error.bytes();
        let quoted = upper(&error) + 8 + if family == 0 { 20 } else { 40 };
        assert_eq!(judge(&enforcer, Way::ToPod, &whole).0, Reason::Denied, "about nothing that is open");
        assert_eq!(judge(&enforcer, Way::FromPod, &sent.bytes()).0, Reason::Allowed);
        for length in upper(&error) + 8..quoted + 8 {
            assert_eq!(judge(&enforcer, Way::ToPod, &whole[..length]).0, Reason::Denied, "{length} bytes");
        }
        assert_eq!(judge(&enforcer, Way::ToPod, &whole[..quoted + 8]).0, Reason::Related);
    }
}

#[test]
fn a_nodes_packet_cut_before_what_policy_asks_for_is_dropped_and_counted() {
    in_namespace(|| {
        for (way, from, to) in [(Way::ToHost, PEER, NODE), (Way::FromHost, NODE, PEER)] {
            let enforcer = closed_node();
            let mut dropped = 0;
            for (kind, frame) in frames(from, to) {
                let whole = to_node(&frame.bytes());
                for length in shortest(&whole)..upper(&frame) + kind.asked() {
                    let judged = enforcer.object.judge(way, AT, &whole[..length], 1).unwrap();
                    let found = (judged.action, judged.reason);
                    assert_eq!(found, (DROP, Some(Reason::Malformed)), "{way:?}, {length} bytes of {frame:?}");
                    dropped += 1;
                }
            }
            assert!(dropped > 500, "{dropped}");
            assert_eq!(malformed(&enforcer, way), dropped, "{way:?}");
        }
    });
}

/// It asks for addresses and hops, and never for what is behind IP's own header.
#[test]
fn a_cut_packet_is_forwarded_as_the_whole_one_and_no_further_byte_of_it_is_looked_at() {
    let loaded = forwarding();
    for (program, from, to) in [
        (Forward::PastStack, PEER, ADDRESSES),
        (Forward::PastStack, ADDRESSES, WRAPPED),
        (Forward::PastStack, ADDRESSES, ROUTED),
        (Forward::PastStack, ADDRESSES, PEER),
        (Forward::FromUnderlay, ROUTED, ADDRESSES),
        (Forward::FromUnderlay, PEER, ADDRESSES),
        // It would have come by the tunnel.
        (Forward::FromUnderlay, WRAPPED, ADDRESSES),
        (Forward::IntoTunnel, ADDRESSES, WRAPPED),
        (Forward::IntoTunnel, ADDRESSES, ROUTED),
        // Without a tunnel around it nothing comes out.
        (Forward::OutOfTunnel, WRAPPED, ADDRESSES),
    ] {
        let mut taken = 0;
        for (_, frame) in frames(from, to) {
            let whole = frame.bytes();
            let (action, after) = forwarded(&loaded, program, &whole);
            taken += u32::from(action == ELSEWHERE);
            for length in shortest(&whole)..whole.len() {
                let cut = forwarded(&loaded, program, &whole[..length]);
                assert_eq!(cut, (action, after[..length].to_vec()), "{program:?}, {length} bytes of {frame:?}");
            }
        }
        let others = [(ADDRESSES, PEER), (PEER, ADDRESSES), (WRAPPED, ADDRESSES)];
        let is_taken = program.is_of_fast_path() && !others.contains(&(from, to));
        let is_delivered = program == Forward::PastStack && to == ADDRESSES;
        assert_eq!(taken > 0, is_taken || is_delivered, "{program:?} {from:?} {to:?}");
    }
}

/// Checksums are what is changed last in a header, so all up to them has to be there.
#[test]
fn a_pods_packet_cut_anywhere_leaves_with_the_nodes_address_or_not_at_all_and_what_comes_cut_is_left_to_the_node() {
    let (loaded, maps) = masquerading();
    for (_, frame) in frames(ADDRESSES, PEER) {
        let whole = frame.bytes();
        for length in shortest(&whole)..=whole.len() {
            let (action, after) = masqueraded(&loaded, Masquerade::Out, &whole[..length]);
            assert_eq!(after.len(), length);
            let source = super::kinds::read(&after).unwrap().source;
            assert!(action == DROP || ips(NODE).contains(&source), "{length} bytes of {frame:?}");
            assert!(action == DROP || action == NEXT, "{action}");
        }
    }
    let counted = |what| maps.packets(what).unwrap();
    assert!(counted(Masqueraded::Malformed) > 500 && counted(Masqueraded::Out) > 100);
    for (kind, frame) in frames(PEER, NODE).filter(|(kind, _)| *kind != Kind::Error) {
        let whole = frame.bytes();
        for length in shortest(&whole)..=whole.len() {
            // To a port that no connection has.
            let came = masqueraded(&loaded, Masquerade::In, &whole[..length]);
            assert_eq!(came, (NEXT, whole[..length].to_vec()), "{kind:?}, {length} bytes");
        }
    }
}
