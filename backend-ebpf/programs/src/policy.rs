//! The verdict on a packet: four lookups, however many rules there are. Never the packet itself.

use crate::Way;
use crate::maps;
use crate::packet::Packet;
use backend_ebpf_abi::{PeerClass, ProgramRef, Reason, Verdict, VerdictKey};

#[inline(always)]
pub fn decide(packet: &Packet, way: Way, verdict: &mut Verdict) -> Reason {
    let (own, other) = match way {
        Way::FromPod => (&packet.source, &packet.destination),
        Way::ToPod => (&packet.destination, &packet.source),
    };
    let Some(endpoint) = maps::endpoint(packet.interface, *own) else { return Reason::UnknownEndpoint };
    let program = match way {
        Way::FromPod => &endpoint.egress,
        Way::ToPod => &endpoint.ingress,
    };
    let Some(found) = walk(program, packet, other) else { return Reason::Incomplete };
    *verdict = found;
    if found.allows() {
        return Reason::Allowed;
    }
    match maps::endpoint(packet.interface, *other) {
        Some(same) if same.id == endpoint.id => Reason::SameEndpoint,
        _ => Reason::Denied,
    }
}

#[inline(always)]
fn walk(program: &ProgramRef, packet: &Packet, other: &[u8; 16]) -> Option<Verdict> {
    let flags = program.flags;
    let peer = if flags & ProgramRef::PEER == 0 {
        PeerClass { class: 0, default: program.default }
    } else {
        maps::peer_class(program, maps::identity(packet.v4, other))
    };
    if flags & ProgramRef::VERDICTS == 0 {
        return Some(peer.default);
    }
    let traffic = if flags & ProgramRef::TRAFFIC == 0 {
        0
    } else {
        maps::traffic_class(program.program, packet.protocol, packet.detail)?
    };
    let source = if flags & ProgramRef::SOURCE == 0 {
        0
    } else {
        maps::source_class(program.program, packet.source_port)?
    };
    let key =
        VerdictKey { program: program.program, peer: peer.class, traffic: traffic as u16, source: source as u16 };
    match maps::verdict(&key) {
        Some(verdict) => Some(verdict),
        None => Some(peer.default),
    }
}
