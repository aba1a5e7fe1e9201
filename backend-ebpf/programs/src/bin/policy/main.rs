//! Policy at the host's end of a pod's veth, and of the node itself at its own interfaces. Never remembers a rule: it looks up
//! what the compiler wrote into the maps. At a pod's veth it drops what they do not know.

#![no_std]
#![no_main]

mod decide;
mod flow;
mod host;
mod maps;
mod related;
mod socket;
mod tracking;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{FlowEvent, Verdict};
use backend_ebpf_programs::packet::{self, Packet};
use backend_ebpf_programs::{DROP, NEXT, Way};
use maps::Kept;

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

/// What comes to the node itself.
#[classifier]
pub fn to_host(mut ctx: TcContext) -> i32 {
    host::judge(&mut ctx, Way::ToPod)
}

/// What goes from it.
#[classifier]
pub fn from_host(mut ctx: TcContext) -> i32 {
    host::judge(&mut ctx, Way::FromPod)
}

#[inline(always)]
fn judge(ctx: &mut TcContext, way: Way) -> i32 {
    let mut verdict = Verdict::CLOSED;
    let mut packet = Packet::default();
    let mut begins = false;
    let Some(wanted) = flow::wanted() else { return DROP };
    let reason = match packet::parse::<Kept>(ctx, way, &mut packet) {
        None => decide::decide(ctx, &packet, way, wanted, &mut verdict, &mut begins),
        Some(reason) => reason,
    };
    maps::count(reason, way);
    // The later packets of a connection pay no more than this for flows.
    let is_decision = begins || !reason.passes();
    if is_decision || flow::is_chosen(wanted, reason) {
        let chosen = if is_decision { 0 } else { FlowEvent::CHOSEN };
        flow::tell(ctx, &packet, flow::pods(way) | chosen, reason, &verdict);
    }
    let control = ctx.cb_mut();
    control[0] = reason as u32;
    control[1] = verdict.enforced;
    control[2] = verdict.staged;
    if reason.passes() { NEXT } else { DROP }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
