//! What comes to the node itself and goes from it, at interfaces to others and to its pods. Never what passes through: that has
//! no end here, and goes on to whoever is next.
//!
//! A connection that was let in stays so while it lasts, as in the host's own tracking: who is logged in is not cut off by a
//! policy. Where nothing is enforced everything passes, so that a mistake closes nothing that no policy is about.

use crate::decide::{self, Asked};
use crate::flow;
use crate::maps::{self, Kept};
use crate::related;
use crate::socket;
use crate::tracking::{self, Part, Role};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{ConnectionKey, Endpoint, FlowEvent, FlowsWanted, Judged, Reason, Verdict, nobodys};
use backend_ebpf_programs::packet::{self, ICMPV6, Packet, TCP};
use backend_ebpf_programs::{DROP, NEXT, Way, now_seconds};

/// `PACKET_OTHERHOST` of `include/uapi/linux/if_packet.h`: the stack throws it away.
const OTHER_HOST: u32 = 3;
/// The bits of a tag that name a VLAN: one of number 0 is none. IEEE 802.1Q, section 9.6.
const VLAN_ID: u32 = 0xfff;

/// Listener queries, reports and ends, router and neighbour solicitations and advertisements, listener reports of version 2: without
/// them a host is cut off from its link. RFC 4890, sections 4.3.1 and 4.4.1.
const OF_THE_LINK: core::ops::RangeInclusive<u8> = 130..=136;
const LISTENER_REPORT_V2: u8 = 143;

/// `Way::ToPod` is to the node, seen as an endpoint.
#[inline(always)]
pub fn judge(ctx: &mut TcContext, way: Way) -> i32 {
    let mut verdict = Verdict::CLOSED;
    let mut packet = Packet::default();
    let Some(wanted) = flow::wanted() else { return NEXT };
    let Some(reason) = decide(ctx, way, wanted, &mut packet, &mut verdict) else { return NEXT };
    maps::count_host(reason, way);
    // A packet that policy was asked about, and no later one of what it let in.
    let begins = matches!(reason, Reason::Allowed) && verdict.allows();
    let is_decision = begins || !reason.passes();
    if is_decision || flow::is_chosen(wanted, reason) {
        let chosen = if is_decision { 0 } else { FlowEvent::CHOSEN };
        flow::tell(ctx, &packet, flow::pods(way) | FlowEvent::OF_NODE | chosen, reason, &verdict);
    }
    let control = ctx.cb_mut();
    control[0] = reason as u32;
    control[1] = verdict.enforced;
    control[2] = verdict.staged;
    if reason.passes() { NEXT } else { DROP }
}

/// `None`: it is no packet of the node's, or nothing is enforced here.
#[inline(always)]
fn decide(
    ctx: &TcContext,
    way: Way,
    wanted: &FlowsWanted,
    packet: &mut Packet,
    verdict: &mut Verdict,
) -> Option<Reason> {
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks each access.
    let (is_tagged, tag, kind) = unsafe { ((*skb).vlan_present != 0, (*skb).vlan_tci, (*skb).pkt_type) };
    // What a VLAN's own interface shows is judged there.
    if (is_tagged && tag & VLAN_ID != 0) || (way == Way::ToPod && kind == OTHER_HOST) {
        return None;
    }
    let stop = packet::parse_untagged::<Kept>(ctx, way, packet);
    match stop {
        Some(Reason::Arp | Reason::NotIp | Reason::NeighbourDiscovery) => return None,
        // A tag behind a tag of no VLAN: the stack would take both off.
        Some(Reason::Vlan) => return if is_tagged { Some(Reason::Vlan) } else { None },
        _ => {}
    }
    // Nobody else sends from our own addresses: passed on, it would open what it then pretends to answer.
    if way == Way::ToPod
        && !socket::is_none(&packet.source, packet.v4)
        && maps::host(packet.interface, packet.source).is_some()
    {
        return Some(Reason::UnknownEndpoint);
    }
    let host = end(ctx, packet, way)?;
    if let Some(reason) = stop {
        return Some(reason);
    }
    let message = (packet.detail >> 8) as u8;
    if packet.protocol == ICMPV6 && (OF_THE_LINK.contains(&message) || message == LISTENER_REPORT_V2) {
        return Some(Reason::NeighbourDiscovery);
    }
    Some(connection(ctx, packet, way, host, flow::counted(ctx, wanted), verdict))
}

/// What is enforced of the node at its end of the packet.
#[inline(always)]
fn end(ctx: &TcContext, packet: &Packet, way: Way) -> Option<&'static Endpoint> {
    let own = if way == Way::ToPod { packet.destination } else { packet.source };
    if let Some(host) = maps::host(packet.interface, own) {
        return Some(host);
    }
    let is_ours = match way {
        // A broadcast, a group, an address that came after the last commit: the stack knows.
        Way::ToPod => maps::host(packet.interface, nobodys(packet.v4)).is_some() && socket::is_to_node(ctx, packet),
        // What it sends from other addresses it passes on.
        Way::FromPod => socket::is_none(&own, packet.v4),
    };
    if is_ours { maps::host(packet.interface, nobodys(packet.v4)) } else { None }
}

#[inline(always)]
fn connection(
    ctx: &TcContext,
    packet: &Packet,
    way: Way,
    host: &Endpoint,
    bytes: u32,
    verdict: &mut Verdict,
) -> Reason {
    let is_from = way == Way::FromPod;
    let role = tracking::role(packet);
    let now = now_seconds();
    let mut key = tracking::key(packet, way, is_from);
    key.interface = host.id;
    let part = Part { packet, is_answer: false, now, bytes };
    if role != Role::Answers && role != Role::Single && tracking::is_open(&key, part) {
        return Reason::Allowed;
    }
    if role == Role::Answers || role == Role::Either {
        key.protocol ^= ConnectionKey::BY_POD;
        if tracking::is_open(&key, Part { is_answer: true, ..part }) {
            return Reason::Established;
        }
        key.protocol ^= ConnectionKey::BY_POD;
    }
    if role == Role::Single && !packet.later && packet::is_error(packet) {
        if related::connection(ctx, packet, way, now, &mut key).is_some() {
            return Reason::Related;
        }
        // Made again rather than kept: for a second one there is no stack.
        key = tracking::key(packet, way, is_from);
        key.interface = host.id;
    }
    // Masqueraded, or the tunnel's around what a pod sent: whose it is was decided where it came from. What answers it has to
    // find a connection here.
    let passes_through = is_from && !socket::has_one(ctx);
    // Opened before anything was enforced here.
    if passes_through || (packet.protocol == TCP && role != Role::Begins && socket::is_connected(ctx, packet, way)) {
        // Nobody was told that it began.
        tracking::pass(&key, part, Judged::NEVER, 0);
        return Reason::Established;
    }
    let other = if is_from { &packet.destination } else { &packet.source };
    let asked = Asked {
        v4: packet.v4,
        protocol: packet.protocol,
        detail: packet.detail,
        source_port: packet.source_port,
        other,
    };
    let program = if is_from { &host.egress } else { &host.ingress };
    let Some(found) = decide::walk(program, &asked) else { return Reason::Incomplete };
    // Whoever sends from the node's own addresses was asked about before.
    let found = found.of_sender(true);
    if found.allows() && (role == Role::Begins || role == Role::Either) {
        // It is not judged again: the verdict is for who tells of it when it is over.
        let judged = Judged::new(maps::epoch(), found.enforced);
        if tracking::pass(&key, part, judged, found.staged) {
            // The same beginning seen again, as any other packet of what is open.
            return Reason::Allowed;
        }
    }
    *verdict = found;
    if found.allows() { Reason::Allowed } else { Reason::Denied }
}
