//! Which packets answer others, and which connections were judged already. Never a verdict of its own.

use crate::flow;
use crate::maps;
use backend_ebpf_abi::{Connection, ConnectionKey, Judged, Tracked, Verdict};
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
    /// It was allowed once. Whether the node itself began it, to its own pod.
    Open(bool),
    /// It is allowed by the policy that is in force, and this packet of it was noted.
    Judged(Verdict),
}

/// A packet as a part of a connection.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    pub packet: &'a Packet,
    pub is_answer: bool,
    /// Seconds since the machine was started.
    pub now: u32,
    /// Its bytes without the link's header; 0: nobody wants to know what passes.
    pub bytes: u32,
}

/// Looks for the connection. A message's code is no part of the key, so messages are never judged by one that came before.
#[inline(always)]
pub fn judged(key: &ConnectionKey, part: Part<'_>, epoch: u32) -> Known {
    let Some(entry) = maps::connection(key) else { return Known::No };
    let found = read(entry);
    if !found.is_alive(part.packet.protocol, part.now) {
        return Known::No;
    }
    if begins_anew(part) {
        return if found.is_closing() { Known::No } else { Known::Open(false) };
    }
    if part.packet.protocol == ICMP || part.packet.protocol == ICMPV6 {
        return Known::Open(found.judged.is_of_node());
    }
    match found.judged.allowed_in(epoch) {
        Some(enforced) => {
            note(entry, &found, part);
            Known::Judged(Verdict { enforced: enforced & !Verdict::OWN_NODE, staged: found.staged })
        }
        None => Known::Open(found.judged.is_of_node()),
    }
}

/// A packet of the connection passes by this verdict. Answers whether it was open before.
#[inline(always)]
pub fn pass(key: &ConnectionKey, part: Part<'_>, judged: Judged, staged: u32) -> bool {
    if let Some(entry) = maps::connection(key) {
        let mut found = read(entry);
        let goes_on = found.is_alive(part.packet.protocol, part.now);
        if goes_on && !(begins_anew(part) && found.is_closing()) {
            if begins_anew(part) {
                // Nothing is known of this beginning but itself.
                found.state = 0;
                // SAFETY: the map's own entry, as in `read`.
                unsafe { (*entry).connection.state = 0 };
            }
            note(entry, &found, part);
            if found.judged != judged {
                // SAFETY: the map's own entry, as in `read`; verdict and epoch are one word.
                unsafe {
                    (*entry).connection.staged = staged;
                    core::ptr::write_volatile(&raw mut (*entry).connection.judged.0, judged.0);
                }
            }
            return true;
        }
        if part.bytes != 0 {
            flow::tell_end(key, entry);
        }
    }
    let connection = Connection { judged, staged, ..Connection::seen(part.now, state(part)) };
    open(key, &connection, part.bytes);
    false
}

/// A function of its own, because the stack of who calls it is nearly full.
#[inline(never)]
fn open(key: &ConnectionKey, connection: &Connection, bytes: u32) {
    maps::remember_connection(key, &Tracked::opened(*connection, bytes));
}

/// Whether the packet belongs to a connection that is open, and notes it. What was let in stays so, whatever policy says since.
#[inline(always)]
pub fn is_open(key: &ConnectionKey, part: Part<'_>) -> bool {
    let Some(entry) = maps::connection(key) else { return false };
    let found = read(entry);
    if !found.is_alive(part.packet.protocol, part.now) || begins_anew(part) {
        return false;
    }
    note(entry, &found, part);
    true
}

#[inline(always)]
pub fn read(entry: *mut Tracked) -> Connection {
    // SAFETY: the map's own entry. One that is reused while it is read is another connection's: its key was not ours when it
    // was looked up, so at worst this packet is taken for one of a connection that has just made room.
    unsafe {
        let mut found = (*entry).connection;
        // In one piece, so that verdict and epoch belong together.
        found.judged.0 = core::ptr::read_volatile(&raw const (*entry).connection.judged.0);
        found
    }
}

#[inline(always)]
fn note(entry: *mut Tracked, found: &Connection, part: Part<'_>) {
    // Whoever guesses ports can send one RST; only who is broken stays silent after it.
    let state = found.state & !Connection::RESET | state(part);
    // SAFETY: the map's own entry, as in `read`. Two CPUs that write at once may lose a bit, which the next packet sets again, or
    // one of two packets that go the same way: a count that others wait for costs more than all else here.
    unsafe {
        if found.seen_seconds != part.now {
            (*entry).connection.seen_seconds = part.now;
        }
        if found.state != state {
            (*entry).connection.state = state;
        }
        if part.bytes != 0 {
            let count = if part.is_answer { &raw mut (*entry).received } else { &raw mut (*entry).sent };
            (*count).packets += 1;
            (*count).bytes += part.bytes as u64;
        }
    }
}

/// What a packet says of its connection.
#[inline(always)]
fn state(Part { packet, is_answer, .. }: Part<'_>) -> u32 {
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

/// Whether the packet begins a connection, also where there is one like it.
#[inline(always)]
fn begins_anew(part: Part<'_>) -> bool {
    part.packet.protocol == TCP && part.packet.flags & (SYN | ACK) == SYN && !part.is_answer
}
