//! The address in a socket's call, read and written. Never more than one aligned word at once: the verifier lets these fields be
//! accessed by words only.

use aya_ebpf::programs::SockAddrContext;
use backend_ebpf_abi::{Target, mapped};

#[inline(always)]
pub fn read<const V6: bool>(ctx: &SockAddrContext) -> Target {
    let words = ctx.sock_addr;
    // SAFETY: the kernel gives a valid context, and the fields are words. Each is read by itself.
    let (address, port) = unsafe {
        let port = core::ptr::read_volatile(&raw const (*words).user_port);
        let address = if V6 {
            let word = [
                core::ptr::read_volatile(&raw const (*words).user_ip6[0]).to_ne_bytes(),
                core::ptr::read_volatile(&raw const (*words).user_ip6[1]).to_ne_bytes(),
                core::ptr::read_volatile(&raw const (*words).user_ip6[2]).to_ne_bytes(),
                core::ptr::read_volatile(&raw const (*words).user_ip6[3]).to_ne_bytes(),
            ];
            core::mem::transmute::<[[u8; 4]; 4], [u8; 16]>(word)
        } else {
            mapped(core::ptr::read_volatile(&raw const (*words).user_ip4).to_ne_bytes())
        };
        (address, port)
    };
    Target { address, port: u16::from_be(port as u16), unused: 0 }
}

#[inline(always)]
pub fn write<const V6: bool>(ctx: &SockAddrContext, target: &Target) {
    let words = ctx.sock_addr;
    let at = |first: usize| {
        let bytes = &target.address;
        u32::from_ne_bytes([bytes[first], bytes[first + 1], bytes[first + 2], bytes[first + 3]])
    };
    // SAFETY: as above; these fields may be written by these hooks.
    unsafe {
        if V6 {
            core::ptr::write_volatile(&raw mut (*words).user_ip6[0], at(0));
            core::ptr::write_volatile(&raw mut (*words).user_ip6[1], at(4));
            core::ptr::write_volatile(&raw mut (*words).user_ip6[2], at(8));
            core::ptr::write_volatile(&raw mut (*words).user_ip6[3], at(12));
        } else {
            core::ptr::write_volatile(&raw mut (*words).user_ip4, at(12));
        }
        core::ptr::write_volatile(&raw mut (*words).user_port, u32::from(target.port.to_be()));
    }
}

/// TCP, UDP or whatever the socket speaks.
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> u32 {
    // SAFETY: as above.
    unsafe { core::ptr::read_volatile(&raw const (*ctx.sock_addr).protocol) }
}
