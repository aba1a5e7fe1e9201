//! Calls that no safe crate wraps, mostly socket options. The only place of this crate with `unsafe`; never decides on a value.

use ipnet::IpNet;
use nix::libc::{self, c_int, c_void, setsockopt, sockaddr_storage, socklen_t};
use nix::sys::epoll::Epoll;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Longest key of TCP MD5 in bytes: `TCP_MD5SIG_MAXKEYLEN` of `include/uapi/linux/tcp.h`.
pub(super) const LONGEST_KEY_BYTES: usize = libc::TCP_MD5SIG_MAXKEYLEN;

/// `TCP_MD5SIG_FLAG_PREFIX` of `include/uapi/linux/tcp.h`.
const FLAG_PREFIX: u8 = 1;
/// `ICMPV6_FILTER` of `include/uapi/linux/icmpv6.h`.
const ICMPV6_FILTER: c_int = 1;

/// `struct tcp_md5sig` of `include/uapi/linux/tcp.h`.
#[repr(C)]
struct TcpMd5Sig {
    address: sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; LONGEST_KEY_BYTES],
}

fn set<T>(socket: &impl AsFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let bytes = socklen_t::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let place = (&raw const *value).cast::<c_void>();
    // SAFETY: the kernel reads `bytes` bytes, which `value` has for the length of the call; the socket is open while
    // borrowed.
    let result = unsafe { setsockopt(socket.as_fd().as_raw_fd(), level, name, place, bytes) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the key for segments from and to the addresses of `remote`; the empty key removes it. RFC 2385.
///
/// # Errors
/// A key of more than 80 bytes; the kernel has no MD5, or no key to remove (`ENOENT`).
pub(super) fn md5_key(socket: &impl AsFd, remote: IpNet, key: &[u8]) -> io::Result<()> {
    let storage = SockaddrStorage::from(SocketAddr::new(remote.network(), 0));
    // SAFETY: all zeros are a value of each field.
    let mut option: TcpMd5Sig = unsafe { std::mem::zeroed() };
    // SAFETY: both are `sockaddr_storage`s for their whole length, and they do not overlap.
    unsafe { std::ptr::copy_nonoverlapping(storage.as_ptr().cast(), &raw mut option.address, 1) };
    option.flags = FLAG_PREFIX;
    option.prefix_length = remote.prefix_len();
    option.key.get_mut(..key.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option)
}

/// TTL or hop limit of what is sent.
pub(super) fn ttl(socket: &impl AsFd, v6: bool, ttl: u8) -> io::Result<()> {
    let ttl = c_int::from(ttl);
    if v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &ttl)
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_TTL, &ttl)
    }
}

/// Drops what arrives with less; 0 takes all. RFC 5082.
pub(super) fn least_ttl(socket: &impl AsFd, v6: bool, ttl: u8) -> io::Result<()> {
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(socket, level, name, &c_int::from(ttl))
}

/// Hop limit of what is sent to groups.
pub(super) fn multicast_hops(socket: &impl AsFd, hops: u8) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &c_int::from(hops))
}

/// Whether packets to groups are also heard here.
pub(super) fn multicast_loop(socket: &impl AsFd, heard: bool) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, &c_int::from(heard))
}

/// The device over which packets to groups go.
pub(super) fn multicast_interface(socket: &impl AsFd, index: u32) -> io::Result<()> {
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index)
}

/// Lets only these ICMPv6 types through to a raw socket.
pub(super) fn icmp6_types(socket: &impl AsFd, types: &[u8]) -> io::Result<()> {
    // A set bit blocks a type: RFC 3542, section 3.2.
    let mut blocked = [u32::MAX; 8];
    for kind in types {
        blocked[usize::from(kind / 32)] &= !(1 << (kind % 32));
    }
    set(socket, libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &blocked)
}

/// Hears a group on a device.
pub(super) fn join(socket: &impl AsFd, group: Ipv6Addr, index: u32) -> io::Result<()> {
    let request =
        libc::ipv6_mreq { ipv6mr_multiaddr: libc::in6_addr { s6_addr: group.octets() }, ipv6mr_interface: index };
    set(socket, libc::IPPROTO_IPV6, libc::IPV6_ADD_MEMBERSHIP, &request)
}

/// Lets tokio tell when a descriptor is readable.
pub(super) fn watch(instance: Epoll) -> io::Result<AsyncFd<Instance>> {
    // SAFETY: `Instance` owns its descriptor, and nothing takes it out or closes it before the `AsyncFd` is dropped.
    let watched = unsafe { AsyncFd::register_with_interest(Instance(instance), Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// An epoll instance that tokio watches.
#[derive(Debug)]
pub(super) struct Instance(Epoll);

impl Instance {
    pub(super) const fn epoll(&self) -> &Epoll {
        &self.0
    }
}

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}
