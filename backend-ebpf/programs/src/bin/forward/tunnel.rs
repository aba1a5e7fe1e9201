//! Into the tunnel and out of it. Never an outer packet's bytes: the tunnel device makes them of what is said here.

use crate::headers::{self, Address, is_v4};
use crate::maps;
use aya_ebpf::bindings::bpf_tunnel_key;
use aya_ebpf::helpers::{bpf_skb_change_type, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Forwarded, Settings, Way};
use core::mem::MaybeUninit;

/// `BPF_F_*` of `include/uapi/linux/bpf.h`.
const TUNINFO_IPV6: u64 = 1;
const ZERO_CSUM_TX: u64 = 2;

/// `PACKET_HOST` of `include/uapi/linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// What Linux gives packets of its own: `IPDEFTTL` of `include/uapi/linux/ip.h`.
const OUTER_TTL: u8 = 64;

const KEY_BYTES: u32 = core::mem::size_of::<bpf_tunnel_key>() as u32;

/// Says where the outer packet goes.
#[inline(always)]
pub fn wrap(ctx: &TcContext) -> Forwarded {
    let Some(packet) = headers::read(ctx) else { return Forwarded::NotIp };
    let Some(settings) = maps::settings() else { return Forwarded::Refused };
    match maps::way(packet.v4, &packet.destination) {
        Some(way) if way.kind == Way::TUNNEL => to(ctx, settings, way),
        _ => Forwarded::UnknownPrefix,
    }
}

/// Makes it all zeros, a word at a time and where it is: the compiler would call a loop over bytes.
///
/// # Safety
/// Zeros are a value of the type, which is aligned to four bytes and as long as some words.
#[inline(always)]
pub unsafe fn zeroed<T>(room: &mut MaybeUninit<T>) -> &mut T {
    let words: *mut u32 = room.as_mut_ptr().cast();
    for at in 0..core::mem::size_of::<T>() / 4 {
        // SAFETY: within the room, which is aligned to words.
        unsafe { words.add(at).write_volatile(0) };
    }
    // SAFETY: all of it is written, and zeros are a value.
    unsafe { room.assume_init_mut() }
}

#[inline(always)]
fn to(ctx: &TcContext, settings: &Settings, way: &Way) -> Forwarded {
    let mut room = MaybeUninit::<bpf_tunnel_key>::uninit();
    // SAFETY: words and unions of words, for which zeros are values.
    let key = unsafe { zeroed(&mut room) };
    let (node, local) = (node(way), local(settings));
    key.tunnel_id = settings.vni;
    key.tunnel_ttl = OUTER_TTL;
    // Over IPv6 without a checksum too (RFC 6935); both ends have the device so.
    let mut flags = ZERO_CSUM_TX;
    if is_v4(&node) {
        // The helper wants the machine's order for IPv4.
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(node[3]);
        key.__bindgen_anon_3.local_ipv4 = u32::from_be(local[3]);
    } else {
        flags |= TUNINFO_IPV6;
        key.__bindgen_anon_1.remote_ipv6 = node;
        key.__bindgen_anon_3.local_ipv6 = local;
    }
    // SAFETY: the kernel's own packet and a key of the length that is said.
    let refused = unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, key, KEY_BYTES, flags) } != 0;
    if refused { Forwarded::Refused } else { Forwarded::Wrapped }
}

/// Takes what came by the tunnel as sent to this node: inner frames name no receiver.
#[inline(always)]
pub fn unwrap(ctx: &TcContext) -> Forwarded {
    let Some(settings) = maps::settings() else { return Forwarded::Refused };
    let mut key = MaybeUninit::<bpf_tunnel_key>::uninit();
    let family = if is_v4(&local(settings)) { 0 } else { TUNINFO_IPV6 };
    // SAFETY: the kernel's own packet and room of the length that is said.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, key.as_mut_ptr(), KEY_BYTES, family) } != 0 {
        return Forwarded::Refused;
    }
    // SAFETY: the helper has written all of it; where it fails, too.
    let key = unsafe { key.assume_init_ref() };
    if key.tunnel_id != settings.vni {
        return Forwarded::OtherNetwork;
    }
    // SAFETY: the kernel's own packet.
    let refused = unsafe { bpf_skb_change_type(ctx.skb.skb, PACKET_HOST) } != 0;
    if refused { Forwarded::Refused } else { Forwarded::Unwrapped }
}

/// The other node's address.
#[inline(always)]
pub fn node(way: &Way) -> Address {
    // SAFETY: the first field of a value that begins at a multiple of four.
    unsafe { *(&raw const *way).cast() }
}

/// Our own.
#[inline(always)]
fn local(settings: &Settings) -> Address {
    // SAFETY: it follows a word, in a value that begins at a multiple of four.
    unsafe { *(&raw const settings.local).cast() }
}

const _: () = assert!(core::mem::offset_of!(Way, node) == 0 && core::mem::align_of::<Way>() == 4);
const _: () = assert!(core::mem::offset_of!(Settings, local) == 4 && core::mem::align_of::<Settings>() == 4);
