//! Services at sockets: what a client asks for is replaced by a backend before a packet exists. Never sees a packet, so what
//! comes from outside of the node is not translated here.

#![no_std]
#![no_main]

mod address;
mod maps;
mod translate;

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use translate::{forwards, reverses};

/// A TCP connection or a UDP socket's peer, over IPv4.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    forwards::<false>(&ctx)
}

/// The same over IPv6, and IPv4 by an IPv6 socket.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    forwards::<true>(&ctx)
}

/// A datagram to an address of its own.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    forwards::<false>(&ctx)
}

/// The same over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    forwards::<true>(&ctx)
}

/// Whom a datagram is from.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    reverses::<false>(&ctx)
}

/// The same over IPv6, and IPv4 by an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    reverses::<true>(&ctx)
}

/// Whom a socket talks to.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    reverses::<false>(&ctx)
}

/// The same over IPv6, and IPv4 by an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    reverses::<true>(&ctx)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
