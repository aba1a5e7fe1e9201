//! Which packets answer others, and which connections were judged already. Never a verdict of its own.

use crate::maps;
use backend_ebpf_abi::{Connection, ConnectionKey, Judged, Verdict};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::{
    ACK, ECHO, ECHO_REPLY, ECHO_REPLY_V6, ECHO_V6, FIN, ICMP, ICMPV6, Packet, RST, SYN, TCP,
};

/// What a packet may be.
#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    /// It begins a connection, and answers none.
    Begins,
    /// It answers one, and begins none.
    Answers,
    /// Either.
    Either,
    /// It belongs to no connection.
    Single,
}

#[inline(always)]
pub fn role(packet: &Packet) -> Role {
    let kind = (packet.detail >> 8) as u8;
    match packet.protocol {
        TCP if packet.flags & (SYN | ACK | RST) == SYN => Role::Begins,
        ICMP if kind == ECHO => Role::Begins,
        ICMP if kind == ECHO_REPLY => Role::Answers,
        ICMPV6 if kind == ECHO_V6 => Role::Begins,
        ICMPV6 if kind == ECHO_REPLY_V6 => Role::Answers,
        ICMP | ICMPV6 => Role::Single,
        _ => Role::Either,
    }
}

/// The key of the packet's connection, if the pod began it or if the other end did.
#[inline(always)]
pub fn key(packet: &Packet, way: Way, by_pod: bool) -> ConnectionKey {
    let echo = packet.protocol == ICMP || packet.protocol == ICMPV6;
    let to_port = if echo { packet.source_port } else { packet.detail };
    let (own, other, own_port, other_port) = match way {
        Way::FromPod => (packet.source, packet.destination, packet.source_port, to_port),
        Way::ToPod => (packet.destination, packet.source, to_port, packet.source_port),
    };
    let by = if by_pod { ConnectionKey::BY_POD } else { 0 };
    let protocol = packet.protocol as u32 | by;
    ConnectionKey { interface: packet.interface, own, other, own_port, other_port, protocol }
}

/// What policy has to be asked of the packet that this one answers: its destination port or message, and its source port.
#[inline(always)]
pub fn answered(packet: &Packet) -> (u16, u16) {
    match packet.protocol {
        ICMP => ((ECHO as u16) << 8, packet.source_port),
        ICMPV6 => ((ECHO_V6 as u16) << 8, packet.source_port),
        _ => (packet.source_port, packet.detail),
    }
}

/// What is known of a packet's connection.
pub enum Known {
    /// There is none.
    No,
    /// It was allowed once.
    Open,
    /// It is allowed by the policy that is in force, and this packet of it was noted.
    Judged(Verdict),
}

/// Looks for the connection. A message's code is no part of the key, so messages are never judged by one that came before.
#[inline(always)]
pub fn judged(key: &ConnectionKey, packet: &Packet, is_answer: bool, epoch: u32, now: u32) -> Known {
    let Some(entry) = maps::connection(key) else { return Known::No };
    let found = read(entry);
    if !found.is_alive(packet.protocol, now) {
        return Known::No;
    }
    let is_message = packet.protocol == ICMP || packet.protocol == ICMPV6;
    if is_message || (begins_anew(packet) && !is_answer) {
        return Known::Open;
    }
    match found.judged.allowed_in(epoch) {
        Some(enforced) => {
            note(entry, &found, state(packet, is_answer), now);
            Known::Judged(Verdict { enforced, staged: found.staged })
        }
        None => Known::Open,
    }
}

/// A packet of the connection passes by this verdict.
#[inline(always)]
pub fn pass(key: &ConnectionKey, packet: &Packet, is_answer: bool, now: u32, judged: Judged, staged: u32) {
    let state = state(packet, is_answer);
    if let Some(entry) = maps::connection(key) {
        let found = read(entry);
        if found.is_alive(packet.protocol, now) && (is_answer || !begins_anew(packet)) {
            note(entry, &found, state, now);
            if found.judged != judged {
                // SAFETY: the map's own entry, as in `read`; verdict and epoch are one word.
                unsafe {
                    (*entry).staged = staged;
                    core::ptr::write_volatile(&raw mut (*entry).judged.0, judged.0);
                }
            }
            return;
        }
    }
    maps::remember_connection(key, &Connection { judged, staged, ..Connection::seen(now, state) });
}

/// Whether the packet belongs to a connection that is open, and notes it. What was let in stays so, whatever policy says since.
#[inline(always)]
pub fn is_open(key: &ConnectionKey, packet: &Packet, is_answer: bool, now: u32) -> bool {
    let Some(entry) = maps::connection(key) else { return false };
    let found = read(entry);
    if !found.is_alive(packet.protocol, now) || (begins_anew(packet) && !is_answer) {
        return false;
    }
    note(entry, &found, state(packet, is_answer), now);
    true
}

/// A connection that is open from now on, or goes on.
#[inline(always)]
pub fn open(key: &ConnectionKey, packet: &Packet, now: u32) {
    maps::remember_connection(key, &Connection::seen(now, state(packet, false)));
}

#[inline(always)]
pub fn read(entry: *mut Connection) -> Connection {
    // SAFETY: the map's own entry. One that is reused while it is read is another connection's: its key was not ours when it
    // was looked up, so at worst this packet is taken for one of a connection that has just made room.
    unsafe {
        let mut found = *entry;
        // In one piece, so that verdict and epoch belong together.
        found.judged.0 = core::ptr::read_volatile(&raw const (*entry).judged.0);
        found
    }
}

#[inline(always)]
fn note(entry: *mut Connection, found: &Connection, state: u32, now: u32) {
    let state = found.state | state;
    // SAFETY: the map's own entry, as in `read`. Two CPUs that write at once may lose a bit, which the next packet sets again.
    unsafe {
        if found.seen_seconds != now {
            (*entry).seen_seconds = now;
        }
        if found.state != state {
            (*entry).state = state;
        }
    }
}

/// What a packet says of its connection.
#[inline(always)]
fn state(packet: &Packet, is_answer: bool) -> u32 {
    let mut state = if is_answer { Connection::ANSWERED } else { 0 };
    if packet.protocol == TCP {
        if packet.flags & FIN != 0 {
            state |= if is_answer { Connection::ANSWER_FIN } else { Connection::FIN };
        }
        if packet.flags & RST != 0 {
            state |= Connection::RESET;
        }
    }
    state
}

/// Whether a packet begins a connection, also where there is one like it.
#[inline(always)]
fn begins_anew(packet: &Packet) -> bool {
    packet.protocol == TCP && packet.flags & (SYN | ACK) == SYN
}
