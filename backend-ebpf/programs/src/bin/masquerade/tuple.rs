//! Packets as connections: which one, what a packet says of it, and whether it still is one. Never a lookup.

use crate::maps::Kept;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Coming, Connection, Leaving, Life, Masquerading, Reason, Tuple};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::{
    self, ACK, ECHO, ECHO_REPLY, ECHO_REPLY_V6, ECHO_V6, FIN, ICMP, ICMPV6, Packet, RST, SYN, TCP, UDP, UDP_LITE,
};
use core::intrinsics::AtomicOrdering::SeqCst;
use core::intrinsics::atomic_cxchg;

/// Reads the headers. Answers the number of a [`Reason`]; [`READ`]: nothing is left to ask.
///
/// A function of its own, so that its stack is free again for what follows.
#[inline(never)]
pub fn read(ctx: &TcContext, comes: bool, packet: &mut Packet) -> u32 {
    let way = if comes { Way::ToPod } else { Way::FromPod };
    match packet::parse::<Kept>(ctx, way, packet) {
        Some(reason) => reason as u32,
        None => READ,
    }
}

/// No reason has this number.
pub const READ: u32 = Reason::COUNT;

/// What a packet is for a translation by ports.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// It has ports.
    Ports,
    /// An echo that asks.
    Asks,
    /// An echo that answers.
    Answers,
    /// It has no port.
    Other,
}

#[inline(always)]
pub fn kind(packet: &Packet) -> Kind {
    let message = (packet.detail >> 8) as u8;
    match packet.protocol {
        TCP | UDP | UDP_LITE => Kind::Ports,
        ICMP if message == ECHO => Kind::Asks,
        ICMP if message == ECHO_REPLY => Kind::Answers,
        ICMPV6 if message == ECHO_V6 => Kind::Asks,
        ICMPV6 if message == ECHO_REPLY_V6 => Kind::Answers,
        _ => Kind::Other,
    }
}

/// The packet's connection with its sender as this end.
#[inline(always)]
pub fn of_sender(packet: &Packet, kind: Kind) -> Tuple {
    let other_port = if let Kind::Ports = kind { packet.detail } else { 0 };
    Tuple {
        own: packet.source,
        other: packet.destination,
        own_port: packet.source_port,
        other_port,
        protocol: packet.protocol as u32,
    }
}

/// The packet's connection with its receiver as this end.
#[inline(always)]
pub fn of_receiver(packet: &Packet, kind: Kind) -> Tuple {
    let (own_port, other_port) =
        if let Kind::Ports = kind { (packet.detail, packet.source_port) } else { (packet.source_port, 0) };
    Tuple { own: packet.destination, other: packet.source, own_port, other_port, protocol: packet.protocol as u32 }
}

/// The node's address of a family; zeros: there is none.
#[inline(always)]
pub fn node(settings: &Masquerading, v4: bool) -> &[u8; 16] {
    if v4 { &settings.v4 } else { &settings.v6 }
}

/// What a packet says of its connection.
#[inline(always)]
pub fn state(packet: &Packet, answers: bool) -> u32 {
    let mut state = if answers { Connection::ANSWERED } else { 0 };
    if packet.protocol == TCP {
        if packet.flags & FIN != 0 {
            state |= if answers { Connection::ANSWER_FIN } else { Connection::FIN };
        }
        if packet.flags & RST != 0 {
            state |= Connection::RESET;
        }
    }
    state
}

/// Whether a packet begins a connection, also where there was one like it.
#[inline(always)]
pub fn begins_anew(packet: &Packet) -> bool {
    packet.protocol == TCP && packet.flags & (SYN | ACK | RST) == SYN
}

#[inline(always)]
pub fn read_coming(entry: *mut Coming) -> Coming {
    // SAFETY: the map's own entry. One that is reused while it is read is another connection's, which has just taken this one's
    // room: at worst one packet goes astray.
    unsafe { *entry }
}

#[inline(always)]
pub fn read_leaving(entry: *mut Leaving) -> Leaving {
    // SAFETY: as above.
    unsafe { *entry }
}

/// Its life alone.
#[inline(always)]
pub fn read_life(entry: *mut Coming) -> Life {
    // SAFETY: as above.
    unsafe { (*entry).life }
}

/// Where a connection's life is.
#[inline(always)]
pub fn life_of(entry: *mut Coming) -> *mut Life {
    // SAFETY: the map's own entry.
    unsafe { &raw mut (*entry).life }
}

/// The same of one that leaves as it is.
#[inline(always)]
pub fn life_as_it_is(entry: *mut Leaving) -> *mut Life {
    // SAFETY: as above.
    unsafe { &raw mut (*entry).life }
}

/// A packet of a connection passes. Answers whether it is the first in this second. That it was broken (RST) is believed until another
/// packet comes: whoever guesses ports can say so once.
#[inline(always)]
pub fn note(life: *mut Life, found: Life, state: u32, anew: bool, now: u32) -> bool {
    let noted = Life::new(now, if anew { state } else { found.state() & !Connection::RESET | state });
    if noted != found {
        // SAFETY: within the map's own entry, in one piece. Of two CPUs that write at once one may lose a bit, which the next
        // packet sets again.
        unsafe { core::ptr::write_volatile(life, noted) };
    }
    found.seen_seconds() != now
}

/// Takes an entry whose connection has ended: of several that want it, one gets it.
#[inline(always)]
pub fn win(entry: *mut Coming, found: Life, now: u32) -> bool {
    let (life, taken) = (life_of(entry).cast::<u64>(), Life::new(now, 0));
    // SAFETY: within the map's own entry, aligned by its type; the other accesses to it are of the whole word.
    let (_, won) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(life, found.0, taken.0) };
    won
}
