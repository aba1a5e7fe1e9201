//! What was decided, for whoever reads it. Never in the way of a packet: what has no room is counted as lost.

use crate::maps;
use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{ConnectionKey, Ended, FlowEvent, FlowsWanted, Reason, Tracked, Verdict};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::{LINK_BYTES, Packet};

/// A power of two, and of pages.
const RING_BYTES: u32 = 1 << 20;

#[map]
static FLOWS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static FLOWS_WANTED: Array<FlowsWanted> = Array::with_max_entries(1, 0);
#[map]
static FLOWS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The marks of a packet from a pod, or to it.
#[inline(always)]
pub const fn pods(way: Way) -> u8 {
    if let Way::FromPod = way { FlowEvent::FROM_POD } else { 0 }
}

/// What is wanted; `None` is for the verifier alone.
#[inline(always)]
pub fn wanted() -> Option<&'static FlowsWanted> {
    FLOWS_WANTED.get(0)
}

/// The packet's bytes without the link's header, where somebody wants to know what passes in connections; else 0, so that others
/// do not pay for a memory that several CPUs write.
#[inline(always)]
pub fn counted(ctx: &TcContext, wanted: &FlowsWanted) -> u32 {
    if wanted.decisions == FlowsWanted::ALL { ctx.len().saturating_sub(LINK_BYTES) } else { 0 }
}

/// Whether chance chooses this packet of an open connection.
#[inline(always)]
pub fn is_chosen(wanted: &FlowsWanted, reason: Reason) -> bool {
    if wanted.one_of == 0 || (reason as u32 != Reason::Allowed as u32 && reason as u32 != Reason::Established as u32) {
        return false;
    }
    // SAFETY: the helper has no arguments and cannot fail.
    (unsafe { bpf_get_prandom_u32() }) <= wanted.at_most
}

#[inline(always)]
fn lose() {
    if let Some(lost) = FLOWS_LOST.get_ptr_mut(0) {
        // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
        unsafe { *lost += 1 };
    }
}

/// Tells of a connection whose entry another one takes.
///
/// A function of its own, because most packets never come here.
#[inline(never)]
pub fn tell_end(key: &ConnectionKey, entry: *mut Tracked) {
    let Some(mut told) = FLOWS.reserve::<Ended>(0) else { return lose() };
    let into = told.as_mut_ptr();
    // SAFETY: the ring's memory for one of these, of which each field is written; and the map's own entry, as in
    // `tracking::read`. From one to the other, because there is no stack for it.
    unsafe {
        (*into).key = *key;
        (*into).unused = 0;
        core::ptr::copy_nonoverlapping(entry, &raw mut (*into).tracked, 1);
    }
    told.submit(0);
}

/// Tells of a packet, where somebody wants it: of one that passes only when it is the first of what it belongs to, or was chosen.
///
/// A function of its own, because most packets never come here.
#[inline(never)]
pub fn tell(ctx: &TcContext, packet: &Packet, marks: u8, reason: Reason, verdict: &Verdict) {
    let Some(wanted) = wanted() else { return };
    let all = wanted.decisions == FlowsWanted::ALL;
    let would_deny = verdict.staged & (Verdict::STAGED | Verdict::ALLOW) == Verdict::STAGED;
    let chosen = marks & FlowEvent::CHOSEN != 0;
    let logged = verdict.enforced & Verdict::LOGGED != 0;
    if !chosen && (wanted.decisions == FlowsWanted::NONE || (reason.passes() && !all && !would_deny && !logged)) {
        return;
    }
    let Some(mut entry) = FLOWS.reserve::<FlowEvent>(0) else { return lose() };
    let other = if marks & FlowEvent::FROM_POD != 0 { &packet.destination } else { &packet.source };
    let into = entry.as_mut_ptr();
    // SAFETY: the ring's memory for one of these, of which each field is written, one by one, because there is no stack for it; the
    // helper has no arguments and cannot fail.
    unsafe {
        (*into).time_ns = bpf_ktime_get_ns();
        (*into).source = packet.source;
        (*into).destination = packet.destination;
        (*into).interface = packet.interface;
        (*into).reason = reason as u32;
        (*into).enforced = verdict.enforced;
        (*into).staged = verdict.staged;
        (*into).identity = maps::identity(packet.v4, other);
        (*into).bytes = ctx.len().saturating_sub(LINK_BYTES);
        (*into).source_port = packet.source_port;
        (*into).detail = packet.detail;
        (*into).protocol = packet.protocol;
        (*into).flags = packet.flags;
        (*into).v4 = packet.v4 as u8;
        (*into).marks = marks | if all { FlowEvent::ALL } else { 0 };
        (*into).one_of = if chosen { wanted.one_of } else { 0 };
        (*into).epoch = maps::epoch();
    }
    entry.submit(0);
}
