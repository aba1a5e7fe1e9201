//! Past the host's stack. Never an answer to a sender: what needs one is left to the stack, which knows how.

use crate::headers::{self, CHECKSUM_AT, HOP_LIMIT_AT, Headers, LINK_BYTES, TTL_AT, is_v4};
use crate::maps;
use crate::tunnel::{node, zeroed};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_redir_neigh;
use aya_ebpf::helpers::{bpf_check_mtu, bpf_redirect, bpf_redirect_neigh};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Forwarded, Pod, Settings, Way};
use core::mem::MaybeUninit;

/// Packets that are cut on the way are judged by their pieces: `BPF_MTU_CHK_SEGS`.
const SEGMENTS: u64 = 1;

/// `BPF_F_RECOMPUTE_CSUM`.
const RECOMPUTE_CSUM: u64 = 1;

/// `AF_INET` and `AF_INET6`.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The action that takes the packet away; `None`: the stack has to.
#[inline(always)]
pub fn from_pod(ctx: &TcContext) -> Option<i32> {
    let settings = direct()?;
    let packet = plain(ctx)?;
    if let Some(pod) = maps::pod(&packet.destination) {
        return deliver(ctx, &packet, pod);
    }
    let way = maps::way(packet.v4, &packet.destination)?;
    if way.kind == Way::TUNNEL {
        let tunnel = settings.tunnel;
        if !fits(ctx, tunnel) {
            return None;
        }
        one_hop_less(ctx, &packet)?;
        maps::count(Forwarded::ToNode);
        // SAFETY: numbers only. The tunnel device's own program says where it goes.
        return Some(unsafe { bpf_redirect(tunnel, 0) } as i32);
    }
    if !fits(ctx, settings.underlay) {
        return None;
    }
    one_hop_less(ctx, &packet)?;
    maps::count(Forwarded::ToNode);
    let mut room = MaybeUninit::<bpf_redir_neigh>::uninit();
    // SAFETY: words and a union of words, for which zeros are values.
    let next = unsafe { zeroed(&mut room) };
    let node = node(way);
    if is_v4(&node) {
        next.nh_family = AF_INET;
        next.__bindgen_anon_1.ipv4_nh = node[3];
    } else {
        next.nh_family = AF_INET6;
        next.__bindgen_anon_1.ipv6_nh = node;
    }
    let length = core::mem::size_of::<bpf_redir_neigh>() as i32;
    // SAFETY: a next hop of the length that is said.
    Some(unsafe { bpf_redirect_neigh(settings.underlay, next, length, 0) } as i32)
}

/// The same for what came from another node's pods by the kind of way that packets to them go: by another only who pretends comes. What
/// came from outside is left to the stack: it sees the answers, which it would take for connections that begin, and masquerade, had it
/// not seen what they answer.
#[inline(always)]
pub fn to_pod(ctx: &TcContext, kind: u32) -> Option<i32> {
    direct()?;
    let packet = plain(ctx)?;
    maps::way(packet.v4, &packet.source).filter(|way| way.kind == kind)?;
    deliver(ctx, &packet, maps::pod(&packet.destination)?)
}

#[inline(always)]
fn direct() -> Option<&'static Settings> {
    maps::settings().filter(|settings| settings.flags & Settings::DIRECT != 0)
}

/// A packet that a router only passes on.
#[inline(always)]
fn plain(ctx: &TcContext) -> Option<Headers> {
    headers::read(ctx).filter(|packet| !packet.options && packet.hops > 1)
}

/// To the host's end of the pod's veth, as the stack would send it: policy's program there sees it.
#[inline(always)]
fn deliver(ctx: &TcContext, packet: &Headers, pod: &Pod) -> Option<i32> {
    if !fits(ctx, pod.interface) {
        return None;
    }
    one_hop_less(ctx, packet)?;
    ctx.store(0, &pod.addresses, 0).ok()?;
    maps::count(Forwarded::ToPod);
    // SAFETY: numbers only.
    Some(unsafe { bpf_redirect(pod.interface, 0) } as i32)
}

#[inline(always)]
fn fits(ctx: &TcContext, interface: u32) -> bool {
    let mut mtu = 0;
    // SAFETY: the kernel's own packet and a number to write to.
    unsafe { bpf_check_mtu(ctx.as_ptr(), interface, &mut mtu, 0, SEGMENTS) == 0 }
}

#[inline(always)]
fn one_hop_less(ctx: &TcContext, packet: &Headers) -> Option<()> {
    let hops = packet.hops - 1;
    if !packet.v4 {
        // A sum that a card made of the whole packet has to follow; for IPv4 the header's own sum makes up for it.
        return ctx.store(HOP_LIMIT_AT, &hops, RECOMPUTE_CSUM).ok();
    }
    // The sum is of words of two bytes: the count of hops and the protocol are one.
    let word = |hops: u8| u64::from(u16::from_ne_bytes([hops, packet.protocol]));
    ctx.l3_csum_replace(CHECKSUM_AT, word(packet.hops), word(hops), 2).ok()?;
    ctx.store(TTL_AT, &hops, 0).ok()
}

const _: () = assert!(LINK_BYTES == 14, "a pod's two Ethernet addresses are followed by the protocol");
