//! The verdict on a packet: a few lookups, however many rules there are. Never the packet itself.
//!
//! An answer passes while the packet that it answers would: the other direction's program is asked, as if for that one. So a
//! connection ends when policy turns, without anybody looking through connections.

use crate::maps;
use crate::tracking::{self, Role};
use backend_ebpf_abi::{PeerClass, ProgramRef, Reason, Verdict, VerdictKey};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::Packet;

#[inline(always)]
pub fn decide(packet: &Packet, way: Way, verdict: &mut Verdict) -> Reason {
    let (own, other) = match way {
        Way::FromPod => (&packet.source, &packet.destination),
        Way::ToPod => (&packet.destination, &packet.source),
    };
    let Some(endpoint) = maps::endpoint(packet.interface, *own) else { return Reason::UnknownEndpoint };
    let from_pod = way == Way::FromPod;
    let role = tracking::role(packet);
    let now = tracking::now_seconds();
    let mut key = tracking::key(packet, way, !from_pod);
    let is_answer = match role {
        Role::Begins | Role::Single => false,
        Role::Answers | Role::Either => tracking::is_open(&key, packet.protocol, now),
    };
    let program = if from_pod != is_answer { &endpoint.egress } else { &endpoint.ingress };
    let (detail, source_port) =
        if is_answer { tracking::answered(packet) } else { (packet.detail, packet.source_port) };
    let asked = Asked { v4: packet.v4, protocol: packet.protocol, detail, source_port, other };
    let Some(found) = walk(program, &asked) else { return Reason::Incomplete };
    *verdict = found;
    if !found.allows() {
        return match maps::endpoint(packet.interface, *other) {
            Some(same) if same.id == endpoint.id => Reason::SameEndpoint,
            _ => Reason::Denied,
        };
    }
    if is_answer {
        tracking::pass(&key, packet, true, now);
        return Reason::Established;
    }
    if role == Role::Begins || role == Role::Either {
        key.protocol ^= backend_ebpf_abi::ConnectionKey::BY_POD;
        tracking::pass(&key, packet, false, now);
    }
    Reason::Allowed
}

/// What a program is asked.
struct Asked<'a> {
    v4: bool,
    protocol: u8,
    detail: u16,
    source_port: u16,
    other: &'a [u8; 16],
}

#[inline(always)]
fn walk(program: &ProgramRef, asked: &Asked<'_>) -> Option<Verdict> {
    let flags = program.flags;
    let peer = if flags & ProgramRef::PEER == 0 {
        PeerClass { class: 0, default: program.default }
    } else {
        maps::peer_class(program, maps::identity(asked.v4, asked.other))
    };
    if flags & ProgramRef::VERDICTS == 0 {
        return Some(peer.default);
    }
    let number = program.program;
    let traffic =
        if flags & ProgramRef::TRAFFIC == 0 { 0 } else { maps::traffic_class(number, asked.protocol, asked.detail)? };
    let source = if flags & ProgramRef::SOURCE == 0 { 0 } else { maps::source_class(number, asked.source_port)? };
    let key = VerdictKey { program: number, peer: peer.class, traffic: traffic as u16, source: source as u16 };
    match maps::verdict(&key) {
        Some(verdict) => Some(verdict),
        None => Some(peer.default),
    }
}
