//! Pods' packets to where they go: into the tunnel and out of it, and past the host's stack where settings say so. Never a
//! verdict: policy's programs come first on the same hooks, and what they drop never gets here.

#![no_std]
#![no_main]

mod fast;
mod headers;
mod maps;
mod tunnel;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Forwarded, Way};
use backend_ebpf_programs::{DROP, NEXT};

/// What the host's stack, or another program, sends into the tunnel device.
#[classifier]
pub fn into_tunnel(ctx: TcContext) -> i32 {
    finish(tunnel::wrap(&ctx))
}

/// What came by the tunnel.
#[classifier]
pub fn out_of_tunnel(ctx: TcContext) -> i32 {
    match tunnel::unwrap(&ctx) {
        Forwarded::Unwrapped => match fast::to_pod(&ctx, Way::TUNNEL) {
            Some(action) => action,
            None => finish(Forwarded::Unwrapped),
        },
        other => finish(other),
    }
}

/// What comes from a pod of this node.
#[classifier]
pub fn past_stack(ctx: TcContext) -> i32 {
    match fast::from_pod(&ctx) {
        Some(action) => action,
        None => finish(Forwarded::ToStack),
    }
}

/// What comes from the underlay.
#[classifier]
pub fn from_underlay(ctx: TcContext) -> i32 {
    match fast::to_pod(&ctx, Way::PLAIN) {
        Some(action) => action,
        None => finish(Forwarded::ToStack),
    }
}

#[inline(always)]
fn finish(forwarded: Forwarded) -> i32 {
    maps::count(forwarded);
    match forwarded {
        Forwarded::UnknownPrefix | Forwarded::OtherNetwork | Forwarded::NotIp | Forwarded::Refused => DROP,
        _ => NEXT,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
