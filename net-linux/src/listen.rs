//! TCP sockets that listen at an address which need not be there yet. Never what is said on them.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// Listens in the network namespace of the calling thread, at this address and no other: one that no interface has is listened
/// at as soon as one has it (`IP_FREEBIND`, ip(7)). The socket does not block.
///
/// # Errors
/// Whatever the kernel says; `EADDRINUSE`: somebody else listens there, or at the same port of all addresses.
pub fn tcp(at: SocketAddr) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let open = || -> Result<TcpListener, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)?;
        if at.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        // A predecessor's connections that wait for their end do not keep us away.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(socket.into())
    };
    open().map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::NetNs;

    #[test]
    fn an_address_that_nobody_has_yet_can_be_listened_at_and_by_one_only() {
        let netns = NetNs::new().unwrap();
        for at in ["192.0.2.1:30100", "[2001:db8::1]:30100"] {
            let at: SocketAddr = at.parse().unwrap();
            let first = netns.run(|| tcp(at)).unwrap().unwrap();
            assert_eq!(first.local_addr().unwrap(), at);
            assert_eq!(netns.run(|| tcp(at)).unwrap().unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop(first);
            netns.run(|| tcp(at)).unwrap().unwrap();
        }
    }

    #[test]
    fn another_namespace_has_the_port_for_itself() {
        let (one, other) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        let at: SocketAddr = "192.0.2.1:30100".parse().unwrap();
        let _held = one.run(|| tcp(at)).unwrap().unwrap();
        other.run(|| tcp(at)).unwrap().unwrap();
    }
}
