//! Source NAT of pods' packets that leave the cluster, at the underlay. Never a verdict of policy, and never an answer to a
//! sender: what cannot be translated is dropped and counted, what is nobody's passes as it is.
//!
//! ```text
//! masq_out (egress):   pod:port > other:port   ->  node:our port > other:port
//! masq_in (ingress):   other:port > node:our port  ->  other:port > pod:port
//! ```

#![no_std]
#![no_main]
// The kernel's machine compares and exchanges (Linux 5.12), but the library has that for no target of its kind.
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "see above")]

mod back;
mod choose;
mod errors;
mod maps;
mod out;
mod rewrite;
mod tuple;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::Masqueraded;
use backend_ebpf_programs::{DROP, NEXT};

/// What leaves by the underlay.
#[classifier]
pub fn masq_out(ctx: TcContext) -> i32 {
    finish(out::translate(&ctx))
}

/// What comes by it.
#[classifier]
pub fn masq_in(ctx: TcContext) -> i32 {
    finish(back::translate(&ctx))
}

#[inline(always)]
fn finish(done: Masqueraded) -> i32 {
    if done == Masqueraded::NotOurs {
        return NEXT;
    }
    maps::count(done);
    if done.is_dropped() { DROP } else { NEXT }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
