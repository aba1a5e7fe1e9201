//! UDP sockets for BFD: what came, from whom, over which device, and how far. Never reads a packet's meaning.

use super::super::{sockopt, tcp};
use crate::bfd::{SOURCE_PORTS, TTL};
use nix::cmsg_space;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockType, SockaddrStorage, recvmsg, setsockopt, sockopt as option,
};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Longer than any control packet that means something to us.
pub(super) const DATAGRAM_BYTES: usize = 128;

/// What is known of a datagram besides its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) remote: IpAddr,
    /// Our address that it was sent to.
    pub(super) local: Option<IpAddr>,
    /// Index of the device that it came over.
    pub(super) interface: u32,
    pub(super) ttl: u8,
}

/// Hears one port on all addresses of a family.
pub(super) fn receiver(port: u16, v6: bool) -> io::Result<UdpSocket> {
    let any: IpAddr = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = tcp::open(any, SockType::Datagram)?;
    if v6 {
        setsockopt(&socket, option::Ipv6V6Only, &true)?;
        setsockopt(&socket, option::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, option::Ipv6RecvHopLimit, &true)?;
    } else {
        setsockopt(&socket, option::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, option::Ipv4RecvTtl, &true)?;
    }
    tcp::bind(&socket, SocketAddr::new(any, port), None)?;
    Ok(UdpSocket::from(socket))
}

/// Reads one datagram; `None` when there is none.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, Origin)>> {
    let mut control = cmsg_space!(libc::in6_pktinfo, libc::c_int);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
        Ok(message) => message,
        Err(errno) if io::Error::from(errno).kind() == ErrorKind::WouldBlock => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let v4 = |address: &SockaddrStorage| address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    let v6 = |address: &SockaddrStorage| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
    let remote = message.address.as_ref().and_then(|address| v4(address).or_else(|| v6(address)));
    let mut origin =
        Origin { remote: remote.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), local: None, interface: 0, ttl: 0 };
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                origin.local = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                origin.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                origin.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                origin.interface = info.ipi6_ifindex;
            }
            ControlMessageOwned::Ipv4Ttl(ttl) | ControlMessageOwned::Ipv6HopLimit(ttl) => {
                origin.ttl = u8::try_from(ttl).unwrap_or(0);
            }
            _ => {}
        }
    }
    Ok(Some((message.bytes, origin)))
}

/// Sends from a source port of its own, RFC 5881, section 4; `start` chooses where the search for a free one begins.
pub(super) fn sender(
    remote: IpAddr,
    local: Option<IpAddr>,
    interface: Option<&str>,
    start: u64,
) -> io::Result<UdpSocket> {
    let socket = tcp::open(remote, SockType::Datagram)?;
    if let Some(interface) = interface {
        tcp::bind_to_device(&socket, interface)?;
    }
    sockopt::ttl(&socket, remote.is_ipv6(), TTL)?;
    let any: IpAddr = if remote.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let local = local.unwrap_or(any);
    let count = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
    for step in 0..count {
        // Less than `count`, which fits.
        let port = SOURCE_PORTS.start() + ((start + step) % count) as u16;
        match tcp::bind(&socket, SocketAddr::new(local, port), interface) {
            Ok(()) => return Ok(UdpSocket::from(socket)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AddrInUse.into())
}
