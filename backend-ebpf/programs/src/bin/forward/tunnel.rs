//! Into the tunnel and out of it. Never an outer packet's bytes: the tunnel device makes them of what is said here.

use crate::headers;
use crate::maps;
use aya_ebpf::bindings::bpf_tunnel_key;
use aya_ebpf::helpers::{bpf_skb_change_type, bpf_skb_get_tunnel_key, bpf_skb_set_tunnel_key};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Forwarded, Settings, Way};

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
    match maps::way(&packet.destination) {
        Some(way) if way.kind == Way::TUNNEL => to(ctx, settings, way),
        _ => Forwarded::UnknownPrefix,
    }
}

#[inline(always)]
fn to(ctx: &TcContext, settings: &Settings, way: &Way) -> Forwarded {
    // SAFETY: integers and unions of integers, for which zeros are values.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    key.tunnel_id = settings.vni;
    key.tunnel_ttl = OUTER_TTL;
    // Over IPv6 without a checksum too (RFC 6935); both ends have the device so.
    let mut flags = ZERO_CSUM_TX;
    if is_v4(&way.node) {
        key.__bindgen_anon_1.remote_ipv4 = v4(&way.node);
        key.__bindgen_anon_3.local_ipv4 = v4(&settings.local);
    } else {
        flags |= TUNINFO_IPV6;
        key.__bindgen_anon_1.remote_ipv6 = words(&way.node);
        key.__bindgen_anon_3.local_ipv6 = words(&settings.local);
    }
    // SAFETY: the kernel's own packet and a key of the length that is said.
    let refused = unsafe { bpf_skb_set_tunnel_key(ctx.skb.skb, &mut key, KEY_BYTES, flags) } != 0;
    if refused { Forwarded::Refused } else { Forwarded::Wrapped }
}

/// Takes what came by the tunnel as sent to this node: inner frames name no receiver.
#[inline(always)]
pub fn unwrap(ctx: &TcContext) -> Forwarded {
    let Some(settings) = maps::settings() else { return Forwarded::Refused };
    // SAFETY: as above.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    let family = if is_v4(&settings.local) { 0 } else { TUNINFO_IPV6 };
    // SAFETY: as above.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &mut key, KEY_BYTES, family) } != 0 {
        return Forwarded::Refused;
    }
    if key.tunnel_id != settings.vni {
        return Forwarded::OtherNetwork;
    }
    // SAFETY: the kernel's own packet.
    let refused = unsafe { bpf_skb_change_type(ctx.skb.skb, PACKET_HOST) } != 0;
    if refused { Forwarded::Refused } else { Forwarded::Unwrapped }
}

#[inline(always)]
pub fn is_v4(address: &[u8; 16]) -> bool {
    words(address)[..2] == [0, 0] && words(address)[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff])
}

/// As a number: the helper wants the machine's order for IPv4.
#[inline(always)]
fn v4(address: &[u8; 16]) -> u32 {
    u32::from_be_bytes([address[12], address[13], address[14], address[15]])
}

/// In network order, which the helper wants for IPv6.
#[inline(always)]
pub fn words(address: &[u8; 16]) -> [u32; 4] {
    let word = |at: usize| u32::from_ne_bytes([address[at], address[at + 1], address[at + 2], address[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}
