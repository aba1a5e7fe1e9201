//! TCP sockets as BGP wants them. Never waits: all of them are non-blocking.

use super::{Guard, Listener, sockopt};
use crate::speaker::{ConnectFailure, Target};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt as option,
};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// How many connections wait in the kernel to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Answers to a SYN go out with the greatest TTL: who checks it (RFC 5082) gets what is wanted, who does not does not
/// mind. Which of the two a stranger is can't be known before.
const LISTENER_TTL: u8 = 255;

/// A non-blocking socket of the family of `address`.
pub(super) fn open(address: IpAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    Ok(socket::socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?)
}

pub(super) fn bind_to_device(socket: &impl AsFd, interface: &str) -> io::Result<()> {
    Ok(setsockopt(socket, option::BindToDevice, &OsString::from(interface))?)
}

/// Binds to an address of ours, `interface` being the scope of a link-local one.
pub(super) fn bind(socket: &OwnedFd, address: SocketAddr, interface: Option<&str>) -> io::Result<()> {
    Ok(socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(scoped(address, interface)?))?)
}

/// With the scope that a link-local address needs.
pub(super) fn scoped(mut address: SocketAddr, interface: Option<&str>) -> io::Result<SocketAddr> {
    if let (SocketAddr::V6(v6), Some(interface)) = (&mut address, interface)
        && v6.scope_id() == 0
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(if_nametoindex(interface)?);
    }
    Ok(address)
}

/// The device that a scoped address names.
pub(super) fn scope_name(address: SocketAddr) -> Option<Arc<str>> {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => {
            if_indextoname(v6.scope_id()).ok().and_then(|name| name.into_string().ok()).map(Arc::from)
        }
        _ => None,
    }
}

/// Opens a listener, without keys.
pub(super) fn listen(wish: &Listener) -> io::Result<TcpListener> {
    let v6 = wish.address.is_ipv6();
    let socket = open(wish.address.ip(), SockType::Stream)?;
    setsockopt(&socket, option::ReuseAddr, &true)?;
    if v6 {
        setsockopt(&socket, option::Ipv6V6Only, &true)?;
    }
    if let Some(interface) = &wish.interface {
        bind_to_device(&socket, interface)?;
    }
    sockopt::ttl(&socket, v6, LISTENER_TTL)?;
    bind(&socket, wish.address, wish.interface.as_deref())?;
    // Keys are set before the first SYN may be answered.
    Ok(TcpListener::from(socket))
}

/// Begins to take connections.
pub(super) fn start(listener: &TcpListener) -> io::Result<()> {
    Ok(socket::listen(listener, Backlog::new(BACKLOG)?)?)
}

/// Begins to connect; the socket is writable when it is decided.
pub(super) fn connect(target: &Target) -> io::Result<TcpStream> {
    let (v6, interface) = (target.remote.is_ipv6(), target.interface.as_deref());
    let socket = open(target.remote.ip(), SockType::Stream)?;
    if let Some(interface) = interface {
        bind_to_device(&socket, interface)?;
    }
    limits(&socket, v6, target.ttl, target.least_ttl)?;
    if let Some(password) = &target.password {
        sockopt::md5_key(&socket, IpNet::from(target.remote.ip()), password)?;
    }
    if let Some(local) = target.local {
        bind(&socket, SocketAddr::new(local, 0), interface)?;
    }
    let remote = SockaddrStorage::from(scoped(target.remote, interface)?);
    match socket::connect(socket.as_raw_fd(), &remote) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes an accepted socket what its guard says; without a guard it keeps what it has from the listener.
pub(super) fn accepted(stream: &TcpStream, v6: bool, guard: Option<&Guard>) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    match guard {
        Some(guard) => limits(stream, v6, guard.ttl, guard.least_ttl),
        None => Ok(setsockopt(stream, option::TcpNoDelay, &true)?),
    }
}

fn limits(socket: &impl AsFd, v6: bool, ttl: u8, least_ttl: Option<u8>) -> io::Result<()> {
    sockopt::ttl(socket, v6, ttl)?;
    if let Some(least) = least_ttl {
        sockopt::least_ttl(socket, v6, least)?;
    }
    Ok(setsockopt(socket, option::TcpNoDelay, &true)?)
}

/// In the words of the speaker.
pub(super) fn failure(error: &io::Error) -> ConnectFailure {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => ConnectFailure::Refused,
        Some(Errno::ETIMEDOUT) => ConnectFailure::TimedOut,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN) => {
            ConnectFailure::Unreachable
        }
        Some(Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED) => ConnectFailure::Reset,
        _ => ConnectFailure::Local(error.kind()),
    }
}
