//! ICMP errors about translated packets: what they quote has to be what the receiver sent. Never an error about a connection
//! that is not there.
//!
//! ```text
//! back: IP router > node | type, code, sum | IP node > other | our port ..    becomes  IP router > pod  | .. | IP pod > other
//! out:  IP pod > other   | ...             | IP other > pod  | .. pod's port  becomes  IP node > other  | .. | IP other > node
//! ```
//!
//! The node itself sends errors about packets that it could not hand to a pod: their own source stays.

use crate::maps;
use crate::rewrite::{self, Change, Side};
use crate::tuple::{read_coming, read_leaving};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Leaving, Masqueraded, Masquerading, Tuple};
use backend_ebpf_programs::now_seconds;
use backend_ebpf_programs::packet::{self, Ends, ICMP, ICMPV6, Packet, UDP};

/// Bytes of an ICMP error before what it quotes. RFC 792; RFC 4443, section 3.
const ERROR_BYTES: u32 = 8;
/// Where the sum of an ICMP message is.
const ICMP_SUM: u32 = 2;
/// Where that of an IPv4 header is.
const IPV4_SUM: u32 = 10;

/// A packet that an error quotes, and what becomes of it.
struct Quoted {
    protocol: u8,
    /// Where its protocol's header is.
    upper: u32,
    change: Change,
}

impl Quoted {
    const NONE: Self = Self {
        protocol: 0,
        upper: 0,
        change: Change { side: Side::Source, old: [0; 16], new: [0; 16], old_port: 0, port: 0 },
    };
}

// Functions of their own: together they would need more than the stack has.

/// An error to the node.
#[inline(never)]
pub fn back(ctx: &TcContext, settings: &Masquerading, error: &Packet) -> Masqueraded {
    let (mut quoted, mut outside) =
        (Quoted::NONE, Tuple { own: [0; 16], other: [0; 16], own_port: 0, other_port: 0, protocol: 0 });
    quoted.upper = sent(ctx, error, &mut outside);
    if quoted.upper == NOWHERE || outside.own != error.destination || !settings.has(outside.own_port) {
        return Masqueraded::NotOurs;
    }
    let Some(entry) = maps::coming(&outside) else { return Masqueraded::NotOurs };
    let found = read_coming(entry);
    quoted.protocol = outside.protocol as u8;
    if found.own == outside.own || !found.life.is_alive(quoted.protocol, now_seconds()) {
        return Masqueraded::NotOurs;
    }
    let (old_port, port) = (outside.own_port, found.own_port);
    quoted.change = Change { side: Side::Source, old: outside.own, new: found.own, old_port, port };
    if !inner(ctx, error, &quoted) {
        return Masqueraded::Refused;
    }
    quoted.change.side = Side::Destination;
    if outer(ctx, error, &quoted.change) { Masqueraded::Back } else { Masqueraded::Refused }
}

/// An error of a pod or of the node.
#[inline(never)]
pub fn out(ctx: &TcContext, error: &Packet, node: &[u8; 16], of_pod: bool) -> Masqueraded {
    let none = if of_pod { Masqueraded::ForgedError } else { Masqueraded::NotOurs };
    let (mut quoted, mut inside) =
        (Quoted::NONE, Tuple { own: [0; 16], other: [0; 16], own_port: 0, other_port: 0, protocol: 0 });
    quoted.upper = got(ctx, error, &mut inside);
    // It goes back to who sent what it quotes, and a pod tells of its own packets.
    if quoted.upper == NOWHERE || inside.other != error.destination || (of_pod && inside.own != error.source) {
        return none;
    }
    let Some(entry) = maps::leaving(&inside) else { return none };
    let found = read_leaving(entry);
    if found.flags & Leaving::AS_IT_IS != 0 {
        return Masqueraded::NotOurs;
    }
    quoted.protocol = inside.protocol as u8;
    let (old_port, port) = (inside.own_port, found.port);
    quoted.change = Change { side: Side::Destination, old: inside.own, new: *node, old_port, port };
    if !inner(ctx, error, &quoted) {
        return Masqueraded::Refused;
    }
    quoted.change.side = Side::Source;
    if !of_pod || outer(ctx, error, &quoted.change) { Masqueraded::Out } else { Masqueraded::Refused }
}

/// No header is there.
const NOWHERE: u32 = 0;

/// The connection of a packet that is quoted to who sent it, seen from there. Answers where its protocol's header is.
#[inline(never)]
fn sent(ctx: &TcContext, error: &Packet, tuple: &mut Tuple) -> u32 {
    let mut ends: Ends = [[0; 16]; 2];
    let Some((protocol, upper)) = packet::quoted_ends(ctx, error, ends.each_mut()) else { return NOWHERE };
    let Some((from, to)) = packet::quoted_ports(ctx, protocol, upper) else { return NOWHERE };
    [tuple.own, tuple.other] = ends;
    (tuple.own_port, tuple.other_port) = (from, other_port_of(protocol, to));
    tuple.protocol = protocol as u32;
    upper
}

/// The connection of a packet that is quoted by who got it, seen from there.
#[inline(never)]
fn got(ctx: &TcContext, error: &Packet, tuple: &mut Tuple) -> u32 {
    let mut ends: Ends = [[0; 16]; 2];
    let Some((protocol, upper)) = packet::quoted_ends(ctx, error, ends.each_mut()) else { return NOWHERE };
    let Some((from, to)) = packet::quoted_ports(ctx, protocol, upper) else { return NOWHERE };
    [tuple.other, tuple.own] = ends;
    (tuple.own_port, tuple.other_port) = (to, other_port_of(protocol, from));
    tuple.protocol = protocol as u32;
    upper
}

#[inline(always)]
fn other_port_of(protocol: u8, port: u16) -> u16 {
    if matches!(protocol, ICMP | ICMPV6) { 0 } else { port }
}

/// The address of the error itself: its sum has it in IPv6 only.
#[inline(never)]
fn outer(ctx: &TcContext, error: &Packet, change: &Change) -> bool {
    let sum = (error.upper + ICMP_SUM) as usize;
    if !error.v4 && rewrite::pseudo(ctx, false, sum, &change.old, &change.new, 0).is_none() {
        return false;
    }
    rewrite::address(ctx, error.v4, change).is_some()
}

/// What the error quotes, each change with the sum of the error itself.
#[inline(always)]
fn inner(ctx: &TcContext, error: &Packet, quoted: &Quoted) -> bool {
    let address = inner_address(ctx, error, &quoted.change);
    address != REFUSED && inner_port(ctx, error, quoted, address as u32)
}

/// No difference of a sum.
const REFUSED: u64 = 1 << 32;

/// The quoted address. Answers what it adds to the sums that are quoted, or [`REFUSED`].
#[inline(never)]
fn inner_address(ctx: &TcContext, error: &Packet, change: &Change) -> u64 {
    let (sum, ip) = (error.upper + ICMP_SUM, error.upper + ERROR_BYTES);
    let at = (ip + change.side.address_at(error.v4)) as usize;
    if error.v4 {
        let (old, new) = (rewrite::v4_word(&change.old), rewrite::v4_word(&change.new));
        let address = plus(!old as u32, new as u32);
        let done = word(ctx, sum, ip + IPV4_SUM, address)
            && ctx.l4_csum_replace(sum as usize, old, new, 4).is_ok()
            && ctx.store(at, &(new as u32), 0).is_ok();
        return if done { address as u64 } else { REFUSED };
    }
    let Some(difference) = rewrite::difference(&change.old, &change.new) else { return REFUSED };
    let done = ctx.l4_csum_replace(sum as usize, 0, difference, 0).is_ok() && ctx.store(at, &change.new, 0).is_ok();
    if done { difference & 0xffff_ffff } else { REFUSED }
}

/// The quoted port, and the sum of its header.
#[inline(never)]
fn inner_port(ctx: &TcContext, error: &Packet, quoted: &Quoted, address: u32) -> bool {
    let (sum, change) = (error.upper + ICMP_SUM, &quoted.change);
    let (old_port, port) = (change.old_port.to_be(), change.port.to_be());
    let ports = plus(!(old_port as u32), port as u32);
    let by = if quoted.protocol == ICMP { ports } else { plus(address, ports) };
    let own_sum = quoted.upper + rewrite::sum_at(quoted.protocol);
    // A quoted header may end before its sum, and a UDP sum of 0 is none.
    let has_sum = ctx.load::<[u8; 2]>(own_sum as usize).is_ok_and(|sum| quoted.protocol != UDP || sum != [0, 0]);
    if has_sum && !word(ctx, sum, own_sum, by) {
        return false;
    }
    let at = (quoted.upper + change.side.port_at(quoted.protocol)) as usize;
    ctx.l4_csum_replace(sum as usize, old_port as u64, port as u64, 2).is_ok() && ctx.store(at, &port, 0).is_ok()
}

/// Changes a sum within what is quoted by a difference, and the error's own sum with it. RFC 1624, section 3.
#[inline(never)]
fn word(ctx: &TcContext, sum: u32, at: u32, difference: u32) -> bool {
    let Ok(old) = ctx.load::<[u8; 2]>(at as usize) else { return false };
    let old = u16::from_ne_bytes(old);
    let new = !folded(plus(!old as u32, difference));
    ctx.l4_csum_replace(sum as usize, old as u64, new as u64, 2).is_ok() && ctx.store(at as usize, &new, 0).is_ok()
}

/// Ones' complement sums. RFC 1071.
#[inline(always)]
fn plus(sum: u32, more: u32) -> u32 {
    let (sum, carry) = sum.overflowing_add(more);
    sum + carry as u32
}

#[inline(always)]
fn folded(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
