//! What was decided, for whoever reads it. Never in the way of a packet: what has no room is counted as lost.

use crate::maps;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{FlowEvent, FlowsWanted, Reason, Verdict};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::{LINK_BYTES, Packet};

/// A power of two, and of pages.
const RING_BYTES: u32 = 1 << 20;

#[map]
static FLOWS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
/// A [`FlowsWanted`].
#[map]
static FLOWS_WANTED: Array<u32> = Array::with_max_entries(1, 0);
#[map]
static FLOWS_LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The marks of a packet from a pod, or to it.
#[inline(always)]
pub const fn pods(way: Way) -> u8 {
    if let Way::FromPod = way { FlowEvent::FROM_POD } else { 0 }
}

/// Tells of a packet, where somebody wants it: of one that passes only when it is the first of what it belongs to.
///
/// A function of its own, because most packets never come here.
#[inline(never)]
pub fn tell(ctx: &TcContext, packet: &Packet, marks: u8, reason: Reason, verdict: &Verdict) {
    let wanted = FLOWS_WANTED.get(0).copied().unwrap_or(FlowsWanted::None as u32);
    let all = wanted == FlowsWanted::All as u32;
    let would_deny = verdict.staged & (Verdict::STAGED | Verdict::ALLOW) == Verdict::STAGED;
    if wanted == FlowsWanted::None as u32 || (reason.passes() && !all && !would_deny) {
        return;
    }
    let Some(mut entry) = FLOWS.reserve::<FlowEvent>(0) else {
        if let Some(lost) = FLOWS_LOST.get_ptr_mut(0) {
            // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
            unsafe { *lost += 1 };
        }
        return;
    };
    let other = if marks & FlowEvent::FROM_POD != 0 { &packet.destination } else { &packet.source };
    entry.write(FlowEvent {
        // SAFETY: the helper has no arguments and cannot fail.
        time_ns: unsafe { bpf_ktime_get_ns() },
        source: packet.source,
        destination: packet.destination,
        interface: packet.interface,
        reason: reason as u32,
        enforced: verdict.enforced,
        staged: verdict.staged,
        identity: maps::identity(packet.v4, other),
        bytes: ctx.len().saturating_sub(LINK_BYTES),
        source_port: packet.source_port,
        detail: packet.detail,
        protocol: packet.protocol,
        flags: packet.flags,
        v4: packet.v4 as u8,
        marks: marks | if all { FlowEvent::ALL } else { 0 },
    });
    entry.submit(0);
}
