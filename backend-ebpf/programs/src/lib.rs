//! What programs share. Never a program or a map: those are in `bin/`, one folder for each object, and a map that stood here
//! would be in every object.

#![no_std]

pub mod packet;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::programs::TcContext;

/// `TC_ACT_UNSPEC` of `include/uapi/linux/pkt_cls.h`, which `TCX_NEXT` of `bpf.h` is too: whoever else is attached decides.
pub const NEXT: i32 = -1;
/// `TC_ACT_SHOT`, and `TCX_DROP`.
pub const DROP: i32 = 2;

/// Which way a packet goes, seen from the pod.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// From it: what comes in at the host's end.
    FromPod,
    /// To it.
    ToPod,
}

/// The interface that the program is attached to.
#[inline(always)]
pub fn interface(ctx: &TcContext) -> u32 {
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks the access.
    unsafe { (*skb).ifindex }
}

/// Whether the packet was made on this node: it came in by no interface.
#[inline(always)]
pub fn is_own(ctx: &TcContext) -> bool {
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks the access.
    unsafe { (*skb).ingress_ifindex == 0 }
}

/// Seconds since the machine was started.
#[inline(always)]
pub fn now_seconds() -> u32 {
    // SAFETY: the helper has no arguments and cannot fail.
    (unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() } / 1_000_000_000) as u32
}
