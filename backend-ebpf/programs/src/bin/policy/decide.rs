//! The verdict on a packet: a few lookups, however many rules there are. Never the packet itself.
//!
//! An answer passes while the packet that it answers would: the other direction's program is asked, as if for that one. So a
//! connection ends when policy turns, without anybody looking through connections. Until then its packets have the verdict that
//! its first one had: each change of policy begins an epoch, and verdicts of earlier ones do not count.

use crate::flow;
use crate::maps;
use crate::related;
use crate::socket;
use crate::tracking::{self, Known, Part, Role};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{ConnectionKey, FlowsWanted, Judged, PeerClass, ProgramRef, Reason, Verdict, VerdictKey};
use backend_ebpf_programs::packet::{self, Packet};
use backend_ebpf_programs::{Way, is_own};

#[inline(always)]
pub fn decide(
    ctx: &TcContext,
    packet: &Packet,
    way: Way,
    wanted: &FlowsWanted,
    verdict: &mut Verdict,
    begins: &mut bool,
) -> Reason {
    let from_pod = way == Way::FromPod;
    let role = tracking::role(packet);
    let now = backend_ebpf_programs::now_seconds();
    // Read before anything that belongs to it: what changes meanwhile is of a later one.
    let epoch = maps::epoch();
    let mut key = tracking::key(packet, way, from_pod);
    let part = Part { packet, is_answer: false, now, bytes: flow::counted(ctx, wanted) };
    let answer = Part { is_answer: true, ..part };
    let mut is_known = false;
    if role == Role::Begins || role == Role::Either {
        match tracking::judged(&key, part, epoch) {
            Known::Judged(judged) => {
                *verdict = judged;
                return Reason::Allowed;
            }
            Known::Open(_) => is_known = true,
            Known::No => {}
        }
    }
    let (mut is_answer, mut is_to_node) = (false, false);
    if role == Role::Answers || role == Role::Either {
        key.protocol ^= ConnectionKey::BY_POD;
        match tracking::judged(&key, answer, epoch) {
            Known::Judged(judged) => {
                *verdict = judged;
                return Reason::Established;
            }
            Known::Open(by_node) => {
                is_answer = true;
                is_to_node = by_node;
            }
            Known::No => key.protocol ^= ConnectionKey::BY_POD,
        }
    }
    let (own, other) = match way {
        Way::FromPod => (&packet.source, &packet.destination),
        Way::ToPod => (&packet.destination, &packet.source),
    };
    let Some(endpoint) = maps::endpoint(packet.interface, *own) else { return Reason::UnknownEndpoint };
    let mut by_pod = from_pod != is_answer;
    let (detail, source_port) =
        if is_answer { tracking::answered(packet) } else { (packet.detail, packet.source_port) };
    let mut asked = Asked { v4: packet.v4, protocol: packet.protocol, detail, source_port, other };
    let mut is_related = false;
    if role == Role::Single && !packet.later && packet::is_error(packet) {
        if let Some(pod_began) = related::connection(ctx, packet, way, now, &mut key) {
            is_related = true;
            by_pod = pod_began;
            let (detail, source_port) = related::asked(&key);
            asked = Asked { v4: packet.v4, protocol: key.protocol as u8, detail, source_port, other: &key.other };
        }
    }
    let program = if by_pod { &endpoint.egress } else { &endpoint.ingress };
    let Some(found) = walk(program, &asked) else { return Reason::Incomplete };
    // An answer is judged as what it answers; an error about what is open opens nothing.
    let is_nodes = if is_answer { is_to_node } else { is_related || is_made_here(ctx, packet) };
    // So that an answer to it is known, also by a later policy.
    let mark = if is_nodes { found.enforced & Verdict::OWN_NODE } else { 0 };
    let found = found.of_sender(is_nodes);
    *verdict = found;
    if !found.allows() {
        return match maps::endpoint(packet.interface, *other) {
            Some(same) if same.id == endpoint.id => Reason::SameEndpoint,
            _ => Reason::Denied,
        };
    }
    if is_related {
        return Reason::Related;
    }
    let judged = Judged::new(epoch, found.enforced | mark);
    if is_answer {
        tracking::pass(&key, answer, judged, found.staged);
        return Reason::Established;
    }
    if role == Role::Begins || role == Role::Either {
        tracking::pass(&key, part, judged, found.staged);
    }
    *begins = !is_known;
    Reason::Allowed
}

/// Whether the node made the packet. Of IPv6 it has to have a socket too: what is put together for connection tracking and cut again says
/// no more where it came in.
#[inline(always)]
fn is_made_here(ctx: &TcContext, packet: &Packet) -> bool {
    is_own(ctx) && (packet.v4 || socket::has_one(ctx))
}

/// What a program is asked.
pub struct Asked<'a> {
    pub v4: bool,
    pub protocol: u8,
    pub detail: u16,
    pub source_port: u16,
    pub other: &'a [u8; 16],
}

#[inline(always)]
pub fn walk(program: &ProgramRef, asked: &Asked<'_>) -> Option<Verdict> {
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
