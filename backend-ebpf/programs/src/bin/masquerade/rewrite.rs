//! An address and a port of a packet are changed, and its checksums with them. Never a checksum made anew: what was wrong before
//! stays wrong, and what a card is to fill in stays its to fill in.
//!
//! | | address | port |
//! |---|---|---|
//! | IPv4 header | in its sum | - |
//! | TCP, UDP, ICMPv6 | in their sum, by the pseudo header (RFC 1071, RFC 8200 section 8.1) | in their sum |
//! | ICMP | - | the identifier, in its sum |

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_csum_diff, bpf_l4_csum_replace};
use aya_ebpf::programs::TcContext;
use backend_ebpf_programs::packet::{ICMP, ICMPV6, LINK_BYTES, Packet, TCP, UDP};

/// `BPF_F_*` of `include/uapi/linux/bpf.h`.
const RECOMPUTE_CSUM: u64 = 1;
const PSEUDO_HDR: u64 = 1 << 4;
/// A UDP sum of 0 is none, and stays so. RFC 768.
const MARK_MANGLED_0: u64 = 1 << 5;
/// Linux 6.16: the sum that a card made of the whole packet is not changed, as the address in it makes up for the sum in it.
const IPV6: u64 = 1 << 7;

/// Which end is changed.
#[derive(Clone, Copy, PartialEq)]
pub enum Side {
    Source,
    Destination,
}

impl Side {
    /// Where its address is in an IP header.
    #[inline(always)]
    pub fn address_at(self, v4: bool) -> u32 {
        match (v4, self) {
            (true, Self::Source) => 12,
            (true, Self::Destination) => 16,
            (false, Self::Source) => 8,
            (false, Self::Destination) => 24,
        }
    }

    /// Where its port is in a header of this protocol.
    #[inline(always)]
    pub fn port_at(self, protocol: u8) -> u32 {
        match (protocol, self) {
            // An echo's identifier.
            (ICMP | ICMPV6, _) => 4,
            (_, Self::Source) => 0,
            (_, Self::Destination) => 2,
        }
    }
}

/// What becomes of a packet's end.
pub struct Change {
    pub side: Side,
    pub old: [u8; 16],
    pub new: [u8; 16],
    pub old_port: u16,
    pub port: u16,
}

/// Where the sum of a protocol is in its header.
#[inline(always)]
pub fn sum_at(protocol: u8) -> u32 {
    match protocol {
        TCP => 16,
        ICMP | ICMPV6 => 2,
        _ => 6,
    }
}

/// The bits of a mapped IPv4 address as helpers take them.
#[inline(always)]
pub fn v4_word(address: &[u8; 16]) -> u64 {
    u32::from_ne_bytes([address[12], address[13], address[14], address[15]]) as u64
}

/// Whether the protocol's sum is there. A later fragment has none.
#[inline(always)]
pub fn is_whole(ctx: &TcContext, packet: &Packet) -> bool {
    packet.later || ctx.load::<[u8; 2]>((packet.upper + sum_at(packet.protocol)) as usize).is_ok()
}

/// Changes it. `false`: the kernel refuses, and the packet may be half changed.
///
/// A function of its own, because the stack of who calls it is nearly full.
#[inline(never)]
pub fn packet(ctx: &TcContext, packet: &Packet, change: &Change) -> bool {
    upper(ctx, packet, change).is_some() && address(ctx, packet.v4, change).is_some()
}

/// The address in the IP header.
#[inline(always)]
pub fn address(ctx: &TcContext, v4: bool, change: &Change) -> Option<()> {
    let at = (LINK_BYTES + change.side.address_at(v4)) as usize;
    if !v4 {
        return ctx.store(at, &change.new, 0).ok();
    }
    let (old, new) = (v4_word(&change.old), v4_word(&change.new));
    ctx.l3_csum_replace(LINK_BYTES as usize + 10, old, new, 4).ok()?;
    ctx.store(at, &(new as u32), 0).ok()
}

#[inline(always)]
fn upper(ctx: &TcContext, packet: &Packet, change: &Change) -> Option<()> {
    if packet.later {
        return Some(());
    }
    let sum = (packet.upper + sum_at(packet.protocol)) as usize;
    let mangled = if packet.protocol == UDP { MARK_MANGLED_0 } else { 0 };
    if packet.protocol != ICMP {
        pseudo(ctx, packet.v4, sum, &change.old, &change.new, mangled)?;
    }
    let without = mangled != 0 && ctx.load::<[u8; 2]>(sum).ok()? == [0, 0];
    let (old, new) = (change.old_port.to_be(), change.port.to_be());
    ctx.l4_csum_replace(sum, old as u64, new as u64, mangled | 2).ok()?;
    // Where no sum makes up for it, that of the whole packet has to follow.
    let follow = if without { RECOMPUTE_CSUM } else { 0 };
    ctx.store((packet.upper + change.side.port_at(packet.protocol)) as usize, &new, follow).ok()
}

/// The address in the pseudo header of the sum at an offset.
#[inline(always)]
pub fn pseudo(ctx: &TcContext, v4: bool, sum: usize, old: &[u8; 16], new: &[u8; 16], mangled: u64) -> Option<()> {
    if v4 {
        return ctx.l4_csum_replace(sum, v4_word(old), v4_word(new), mangled | PSEUDO_HDR | 4).ok();
    }
    let difference = difference(old, new)?;
    // SAFETY: the kernel's own packet, and numbers.
    let replace = |flags| unsafe { bpf_l4_csum_replace(ctx.as_ptr().cast(), sum as u32, 0, difference, flags) };
    let flags = mangled | PSEUDO_HDR;
    // A kernel that does not know the flag looks at flags first.
    if replace(flags | IPV6) == 0 || replace(flags) == 0 { Some(()) } else { None }
}

/// What an IPv6 address adds to a sum when it takes the place of another.
#[inline(always)]
pub fn difference(old: &[u8; 16], new: &[u8; 16]) -> Option<u64> {
    let words = |bytes: &[u8; 16]| {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        [word(0), word(4), word(8), word(12)]
    };
    let (mut old, mut new) = (words(old), words(new));
    // SAFETY: two arrays of the lengths that are said.
    let difference = unsafe { bpf_csum_diff(old.as_mut_ptr(), 16, new.as_mut_ptr(), 16, 0) };
    u64::try_from(difference).ok()
}
