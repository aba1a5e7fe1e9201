//! The node's port of a pod's connection: the one that it has, or one that is free. Never one that a living connection has,
//! be it a pod's or the node's own.

use crate::maps;
use crate::tuple::{begins_anew, life_of, node, note, read_coming, read_leaving, read_life, state, win};
use backend_ebpf_abi::{Coming, Leaving, Life, Masquerading, Tuple};
use backend_ebpf_programs::packet::Packet;

/// So many ports are tried.
const TRIES: u32 = 64;

/// Primes above any number of ports, so that each of these steps goes through all of them.
const STEPS: [u32; 4] = [65_537, 65_539, 65_543, 65_551];

/// No port was free. As a number that no port is.
pub const NONE: u32 = 1 << 16;
/// None is known, and none is chosen before all of a predecessor's are.
pub const LATER: u32 = NONE + 1;

// Functions of their own: together they would need more than the stack has.

/// The port of a pod's connection, or [`NONE`] or [`LATER`].
#[inline(never)]
pub fn port(settings: &Masquerading, packet: &Packet, inside: &Tuple, now: u32) -> u32 {
    let mut outside = Tuple { own: *node(settings, packet.v4), ..*inside };
    let life = Life::new(now, state(packet, false));
    let wanted = Coming { own: inside.own, life, own_port: inside.own_port, unused: [0; 3] };
    if let Some(entry) = maps::leaving(inside) {
        outside.own_port = read_leaving(entry).port;
        if still(settings, packet, &wanted, &outside, now) {
            return outside.own_port as u32;
        }
    }
    if settings.is_handed_over(now) {
        return LATER;
    }
    let hash = hash(settings.salt, inside);
    if !find(settings, hash, &wanted, &mut outside, now) || !take(&wanted, &outside, now) {
        return NONE;
    }
    maps::set_leaving(inside, &Leaving { life, port: outside.own_port, flags: 0, unused: 0 });
    outside.own_port as u32
}

/// Looks for the connection's own port, where `LEAVING` alone has forgotten it, or one that nobody has who lives. Whoever takes that
/// at the same moment gets it, and this packet is dropped.
#[inline(never)]
fn find(settings: &Masquerading, hash: u64, wanted: &Coming, outside: &mut Tuple, now: u32) -> bool {
    let count = settings.ports as u32;
    if count == 0 {
        return false;
    }
    let step = STEPS[(hash >> 62) as usize & 3] % count;
    let mut place = hash as u32 % count;
    for _ in 0..TRIES {
        outside.own_port = settings.first_port.wrapping_add(place as u16);
        let Some(entry) = maps::coming(outside) else { return true };
        if !read_life(entry).is_alive(outside.protocol as u8, now) || is_of(entry, wanted) {
            return true;
        }
        place += step;
        if place >= count {
            place -= count;
        }
    }
    false
}

/// Whether the connection still has this port; notes the packet then.
#[inline(never)]
fn still(settings: &Masquerading, packet: &Packet, wanted: &Coming, outside: &Tuple, now: u32) -> bool {
    let Some(entry) = maps::coming(outside) else {
        // It had to make room for another connection, and its port may be somebody else's since then.
        return settings.has(outside.own_port) && !settings.is_handed_over(now) && maps::claim(outside, wanted);
    };
    // One of ports that are not ours any more gets no answers.
    if !settings.has(outside.own_port) || !is_of(entry, wanted) {
        return false;
    }
    let found = read_coming(entry);
    if found.life.is_alive(packet.protocol, now) {
        note(life_of(entry), found.life, wanted.life.state(), begins_anew(packet), now);
        return true;
    }
    !settings.is_handed_over(now) && win(entry, found.life, now) && maps::set_coming(outside, wanted)
}

/// Whether an entry is of the same pod and port.
#[inline(always)]
fn is_of(entry: *mut Coming, wanted: &Coming) -> bool {
    let found = read_coming(entry);
    found.own_port == wanted.own_port && found.own == wanted.own
}

/// Takes a port that is free, or that of a connection which has ended, or is this one.
#[inline(never)]
pub fn take(wanted: &Coming, outside: &Tuple, now: u32) -> bool {
    match maps::coming(outside) {
        None => maps::claim(outside, wanted),
        Some(entry) => {
            let life = read_life(entry);
            let is_free = !life.is_alive(outside.protocol as u8, now) || is_of(entry, wanted);
            is_free && win(entry, life, now) && maps::set_coming(outside, wanted)
        }
    }
}

/// Spreads connections; who does not know the salt cannot tell where to. Each word is mixed in by a multiplication with an odd
/// number, whose upper bits depend on all of it.
#[inline(always)]
fn hash(salt: u64, inside: &Tuple) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = salt;
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(ODD);
        hash ^= hash >> 29;
    };
    let word = |bytes: &[u8; 16], at: usize| {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as u64;
        word(at) << 32 | word(at + 4)
    };
    mix(word(&inside.own, 0));
    mix(word(&inside.own, 8));
    mix(word(&inside.other, 0));
    mix(word(&inside.other, 8));
    mix((inside.own_port as u64) << 48 | (inside.other_port as u64) << 32 | inside.protocol as u64);
    mix(salt);
    hash
}
