//! Policy at the host's end of a pod's veth. Never remembers a rule: it looks up what the compiler wrote into the maps, and
//! drops what they do not know.

#![no_std]
#![no_main]

mod maps;
mod packet;
mod policy;
mod tracking;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::Verdict;
use packet::Packet;

/// `TC_ACT_UNSPEC` of `include/uapi/linux/pkt_cls.h`, which `TCX_NEXT` of `bpf.h` is too: whoever else is attached decides.
const NEXT: i32 = -1;
/// `TC_ACT_SHOT`, and `TCX_DROP`.
const DROP: i32 = 2;

/// Which way a packet goes, seen from the pod.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// From it: what comes in at the host's end.
    FromPod,
    /// To it.
    ToPod,
}

/// What comes from a pod.
#[classifier]
pub fn from_pod(mut ctx: TcContext) -> i32 {
    judge(&mut ctx, Way::FromPod)
}

/// What goes to a pod.
#[classifier]
pub fn to_pod(mut ctx: TcContext) -> i32 {
    judge(&mut ctx, Way::ToPod)
}

#[inline(always)]
fn judge(ctx: &mut TcContext, way: Way) -> i32 {
    let mut verdict = Verdict::CLOSED;
    let mut packet = Packet::default();
    let reason = match packet::parse(ctx, way, &mut packet) {
        None => policy::decide(&packet, way, &mut verdict),
        Some(reason) => reason,
    };
    maps::count(reason, way);
    let control = ctx.cb_mut();
    control[0] = reason as u32;
    control[1] = verdict.enforced;
    control[2] = verdict.staged;
    if reason.passes() { NEXT } else { DROP }
}

/// The interface that the program is attached to.
#[inline(always)]
pub fn interface(ctx: &TcContext) -> u32 {
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks the access.
    unsafe { (*skb).ifindex }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
