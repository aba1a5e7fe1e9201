//! ICMP errors: of which connection they tell. Never a verdict: the connection's own is asked.
//!
//! ```text
//! error to a pod:   IP .. -> pod | type, code, 4 bytes | IP pod -> other | first 8 bytes of what the pod sent
//! error from a pod: IP pod -> other | ...              | IP other -> pod | first 8 bytes of what the pod got
//! ```
//!
//! Who sends an error quotes what it likes. It is related only when the quoted packet is one of this pod's own connection that is
//! open here, went the other way than the error, and the error goes back to who sent it.

use crate::maps;
use crate::tracking;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::ConnectionKey;
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::{self, ECHO, ECHO_V6, ICMP, ICMPV6, Packet};

/// Finds the connection of the packet that an error quotes, and makes `key` its key; where there is none, `key` is nobody's. Answers whether the pod
/// began it.
///
/// A function of its own, because the stack of who calls it is nearly full.
#[inline(never)]
pub fn connection(ctx: &TcContext, error: &Packet, way: Way, now: u32, key: &mut ConnectionKey) -> Option<bool> {
    // The pod's own end sent what an error to it quotes. Straight into the key: beside it there is no stack.
    let ends = match way {
        Way::FromPod => [&mut key.other, &mut key.own],
        Way::ToPod => [&mut key.own, &mut key.other],
    };
    let (protocol, upper) = packet::quoted_ends(ctx, error, ends)?;
    let (source, destination) = match way {
        Way::FromPod => (&key.other, &key.own),
        Way::ToPod => (&key.own, &key.other),
    };
    // It goes back to who sent what it quotes, and is about a packet of the pod's.
    if *source != error.destination || (way == Way::FromPod && *destination != error.source) {
        return None;
    }
    let (from_port, to_port) = packet::quoted_ports(ctx, protocol, upper)?;
    (key.own_port, key.other_port) = match way {
        Way::FromPod => (to_port, from_port),
        Way::ToPod => (from_port, to_port),
    };
    key.protocol = protocol as u32 | ConnectionKey::BY_POD;
    if is_open(key, protocol, now) {
        return Some(true);
    }
    key.protocol ^= ConnectionKey::BY_POD;
    if is_open(key, protocol, now) { Some(false) } else { None }
}

#[inline(always)]
fn is_open(key: &ConnectionKey, protocol: u8, now: u32) -> bool {
    match maps::connection(key) {
        Some(entry) => tracking::read(entry).is_alive(protocol, now),
        None => false,
    }
}

/// What policy has to be asked of a connection: its destination port or message, and its source port.
#[inline(always)]
pub fn asked(key: &ConnectionKey) -> (u16, u16) {
    match key.protocol as u8 {
        ICMP => ((ECHO as u16) << 8, key.own_port),
        ICMPV6 => ((ECHO_V6 as u16) << 8, key.own_port),
        _ if key.protocol & ConnectionKey::BY_POD != 0 => (key.other_port, key.own_port),
        _ => (key.own_port, key.other_port),
    }
}
