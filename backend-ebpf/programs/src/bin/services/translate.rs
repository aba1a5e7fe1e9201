//! From a service to a backend, and back. Never a decision of its own about who may talk to whom, and never about a socket of
//! a network namespace that is not among our clients: another agent may serve it.

use crate::{address, maps};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_set_retval};
use aya_ebpf::programs::SockAddrContext;
use backend_ebpf_abi::{
    Affinity, AffinityKey, Frontend, FrontendKey, MAGLEV_BITS, MemberKey, ReverseKey, SlotKey, Target,
};

/// What the hooks return.
const REFUSE: i32 = 0;
const PROCEED: i32 = 1;

/// `include/uapi/asm-generic/errno.h`.
const ECONNREFUSED: i32 = 111;
const ETIMEDOUT: i32 = 110;

/// What the caller sees: as if the backend itself refused. Without a number of ours it would be `EPERM`.
#[inline(always)]
fn refuse() -> i32 {
    // SAFETY: the helper takes a number.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    REFUSE
}

/// What a client sees whose packets are dropped, but at once.
#[inline(always)]
fn deny() -> i32 {
    // SAFETY: as above.
    unsafe { bpf_set_retval(-ETIMEDOUT) };
    REFUSE
}

/// `connect` and `sendmsg`.
#[inline(always)]
pub fn forwards<const V6: bool>(ctx: &SockAddrContext) -> i32 {
    let service = address::read::<V6>(ctx);
    let protocol = address::protocol(ctx);
    let key = FrontendKey { address: service.address, port: service.port, protocol: protocol as u16 };
    let Some(frontend) = maps::frontend(&key) else { return PROCEED };
    // SAFETY: the helper takes the context of this hook.
    let client = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    if !maps::is_client(client) {
        return PROCEED;
    }
    // SAFETY: entries are replaced whole, and freed after the program ended.
    let found = unsafe { *frontend };
    if found.limited != 0 && !maps::is_in_a_range(&key, found.limited, client) {
        return deny();
    }
    if found.count == 0 {
        return refuse();
    }
    let backend = if found.affinity_seconds == 0 {
        choose(&key, frontend, &found, client)
    } else {
        affine(&key, frontend, &found, client)
    };
    let Some(backend) = backend else { return refuse() };
    // SAFETY: as above.
    let socket = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    maps::remember_reverse(&ReverseKey { socket, backend, protocol }, &service);
    address::write::<V6>(ctx, &backend);
    PROCEED
}

/// `recvmsg` and `getpeername`.
#[inline(always)]
pub fn reverses<const V6: bool>(ctx: &SockAddrContext) -> i32 {
    let backend = address::read::<V6>(ctx);
    // SAFETY: the helper takes the context of this hook.
    let socket = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if let Some(service) = maps::reverse(&ReverseKey { socket, backend, protocol: address::protocol(ctx) }) {
        address::write::<V6>(ctx, &service);
    }
    PROCEED
}

/// Where the client went last, or else as for everybody.
#[inline(always)]
fn affine(key: &FrontendKey, frontend: *mut Frontend, found: &Frontend, client: u64) -> Option<Target> {
    // SAFETY: the helper takes nothing.
    let now = (unsafe { bpf_ktime_get_boot_ns() } / 1_000_000_000) as u32;
    let who = AffinityKey { client, frontend: *key, unused: 0 };
    let last = match maps::affinity(&who) {
        Some(last)
            // Another processor may have seen the client a second after we looked at the clock.
            if now.wrapping_sub(last.seen_seconds).cast_signed() <= found.affinity_seconds.cast_signed()
                && maps::is_member(&MemberKey { frontend: *key, backend: last.backend }) =>
        {
            Some(last.backend)
        }
        _ => None,
    };
    let backend = match last {
        Some(backend) => backend,
        None => choose(key, frontend, found, client)?,
    };
    maps::remember_affinity(&who, &Affinity { backend, seen_seconds: now });
    Some(backend)
}

#[inline(always)]
fn choose(key: &FrontendKey, frontend: *mut Frontend, found: &Frontend, client: u64) -> Option<Target> {
    let slot = match found.choice {
        Frontend::IN_TURN => turn(frontend),
        Frontend::BY_CLIENT => by_table(key, client),
        _ => by_table(key, 0),
    };
    // A count of 0 was refused; slots beyond the count are those of a table that is replaced right now.
    let slot = slot % found.count;
    maps::slot(&SlotKey { frontend: *key, slot }).copied()
}

/// The next one. Two connections of the same instant may get the same.
#[inline(always)]
fn turn(frontend: *mut Frontend) -> u32 {
    // SAFETY: a word of an entry that is freed after the program ended.
    unsafe {
        let turn = core::ptr::read_volatile(&raw const (*frontend).turn);
        core::ptr::write_volatile(&raw mut (*frontend).turn, turn.wrapping_add(1));
        turn
    }
}

#[inline(always)]
fn by_table(key: &FrontendKey, client: u64) -> u32 {
    let Some(table) = maps::table(key) else { return 0 };
    // Fibonacci hashing: the upper bits of the product are mixed best. A shift, not a remainder: of that the compiler makes a
    // product whose bounds the verifier does not see.
    let mixed =
        ((client ^ u64::from(key.port)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - MAGLEV_BITS)) as usize;
    match table.get(mixed) {
        Some(slot) => u32::from(*slot),
        None => 0,
    }
}
