//! The raw ICMPv6 socket of one link. Needs `CAP_NET_RAW`; never hears other types than the two.

use super::super::{sockopt, tcp};
use super::advert::{self, HOP_LIMIT, Message};
use nix::cmsg_space;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    self, AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recvmsg, sendto,
    setsockopt, sockopt as option,
};
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// What a link carries in one packet; more than the options of an advertisement need.
const MESSAGE_BYTES: usize = 1500;

#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    index: u32,
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Link {
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        // Nothing is let through before it can only come from this device.
        sockopt::icmp6_types(&socket, &[])?;
        tcp::bind_to_device(&socket, interface)?;
        setsockopt(&socket, option::Ipv6RecvHopLimit, &true)?;
        sockopt::multicast_hops(&socket, HOP_LIMIT)?;
        sockopt::multicast_interface(&socket, index)?;
        sockopt::multicast_loop(&socket, false)?;
        sockopt::join(&socket, ALL_ROUTERS, index)?;
        sockopt::icmp6_types(&socket, &[advert::SOLICITATION, advert::ADVERTISEMENT])?;
        Ok(Self { socket, index })
    }

    /// Sends to all nodes, or a solicitation to all routers.
    pub(super) fn send(&self, kind: u8, message: &[u8]) -> io::Result<()> {
        let group = if kind == advert::SOLICITATION { ALL_ROUTERS } else { ALL_NODES };
        let to = SockaddrIn6::from(SocketAddrV6::new(group, 0, 0, self.index));
        sendto(self.socket.as_raw_fd(), message, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// Reads one message: its sender where it is a link-local address and the hop limit is right, and what it says where
    /// it is well formed. `None` when there is none to read.
    #[allow(clippy::type_complexity, reason = "the two halves are checked apart")]
    pub(super) fn receive(&self) -> io::Result<Option<(Option<Ipv6Addr>, Option<Message>)>> {
        let mut buffer = [0; MESSAGE_BYTES];
        let mut control = cmsg_space!(libc::c_int);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let got =
            recvmsg::<SockaddrIn6>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT);
        let message = match got {
            Ok(message) => message,
            Err(errno) if io::Error::from(errno).kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let near = message
            .cmsgs()?
            .any(|control| matches!(control, ControlMessageOwned::Ipv6HopLimit(hops) if hops == i32::from(HOP_LIMIT)));
        let from = message.address.map(|from| from.ip()).filter(|from| near && from.is_unicast_link_local());
        let bytes = message.bytes;
        Ok(Some((from, advert::decode(&buffer[..bytes]))))
    }
}
