//! Which addresses this node has, and that they have changed. Never changes one, and never decides what they are good for.

use super::driver::Driver;
use super::poller::{Interest, Poller, Token};
use super::{Core, Host, Trouble};
use crate::speaker::{Addresses, Input};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::libc;
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrStorage};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// They are read at most so often: on a node whose containers come and go, addresses change all the time.
const PACE: Duration = Duration::from_secs(1);
/// Changes of addresses, as the kernel names the group of each IP version.
const GROUPS: i32 = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR;

/// The addresses of a network namespace.
#[derive(Debug)]
pub(super) struct Watch {
    /// Where the kernel says that something has changed. What is not read out: the addresses are read whole.
    socket: OwnedFd,
    told: Addresses,
    /// When they were last read, and when they are to be read again.
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Watch {
    /// Watches those of the calling thread's network namespace, which are to be read at once.
    pub(super) fn open(now: Instant, poller: &Poller) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS.unsigned_abs()))?;
        poller.add(&socket, Token::Addresses, Interest::READ)?;
        Ok(Self { socket, told: Addresses::new(), last: None, due: Some(now) })
    }

    /// Something has changed.
    pub(super) fn changed(&mut self, now: Instant) {
        let mut scratch = [0; 4096];
        // ENOBUFS: more has changed than the socket holds, which says as much.
        while matches!(
            socket::recv(self.socket.as_raw_fd(), &mut scratch, MsgFlags::MSG_DONTWAIT),
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR)
        ) {}
        let next = self.last.map_or(now, |last| now.max(last + PACE));
        self.due.get_or_insert(next);
    }

    /// When to call [`Self::tick`].
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// The addresses, when it is time to read them and they are others than before. An error is tried again.
    pub(super) fn tick(&mut self, now: Instant) -> io::Result<Option<Addresses>> {
        if self.due.is_none_or(|due| due > now) {
            return Ok(None);
        }
        (self.last, self.due) = (Some(now), None);
        let found = read().inspect_err(|_| self.due = Some(now + PACE))?;
        Ok((found != self.told).then(|| {
            self.told.clone_from(&found);
            found
        }))
    }
}

impl<C: Core, H: Host> Driver<C, H> {
    /// Without them, the core knows less of what peers share with us, and all else goes on.
    pub(super) fn watch_addresses(&mut self, now: Instant) {
        match Watch::open(now, &self.poller) {
            Ok(watch) => self.addresses = Some(watch),
            Err(source) => self.host.trouble(Trouble::Addresses(source)),
        }
        self.read_addresses(now);
    }

    pub(super) fn read_addresses(&mut self, now: Instant) {
        match self.addresses.as_mut().map(|watch| watch.tick(now)) {
            Some(Ok(Some(addresses))) => self.feed(now, Input::Addresses(addresses)),
            Some(Err(source)) => self.host.trouble(Trouble::Addresses(source)),
            Some(Ok(None)) | None => {}
        }
    }
}

fn read() -> io::Result<Addresses> {
    let mut found = Addresses::new();
    for item in getifaddrs()? {
        if let Some(address) = address(&item) {
            found.entry(Arc::from(item.interface_name.as_str())).or_default().insert(address);
        }
    }
    Ok(found)
}

fn address(item: &InterfaceAddress) -> Option<IpNet> {
    IpNet::with_netmask(ip(item.address.as_ref()?)?, ip(item.netmask.as_ref()?)?).ok()
}

fn ip(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}
