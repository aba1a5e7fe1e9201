//! From the TUN device to the peers, as a router forwards. Never cuts a packet that is to stay whole.

use super::stats::count;
use super::{BATCH, PACKET_BYTES, Shared, Sockets};
use crate::config::{Family, MIN_MTU_V6_BYTES, Tunnel};
use crate::object::family_of;
use crate::udp::icmp::{self, Cause};
use crate::udp::packet::{self, Inner};
use crate::udp::rate::Limit;
use net_linux::pmtu;
use net_linux::tun::Tun;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    SockaddrStorage, sendmmsg, sendto, setsockopt, socket,
};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::PoisonError;
use std::time::Instant;

/// Whether the device is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    There,
    Gone,
}

/// One packet of the batch that goes to a peer.
struct Outgoing {
    buffer: usize,
    bytes: usize,
    inner: Inner,
    to: SocketAddr,
}

/// Raw sockets for ICMP errors.
pub(super) struct ErrorSockets {
    v4: OwnedFd,
    /// `None` where the kernel has no IPv6.
    v6: Option<OwnedFd>,
}

impl ErrorSockets {
    pub(super) fn open() -> io::Result<Self> {
        let raw = |family, protocol| -> io::Result<OwnedFd> {
            let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
            // The kernel hands raw sockets a copy of all ICMP that comes in; nobody reads it here.
            setsockopt(&fd, RcvBuf, &0)?;
            Ok(fd)
        };
        Ok(Self {
            v4: raw(AddressFamily::Inet, SockProtocol::Icmp)?,
            v6: raw(AddressFamily::Inet6, SockProtocol::IcmpV6).ok(),
        })
    }
}

/// Buffers for one batch, and the sockets for errors.
pub(super) struct Egress {
    buffers: Vec<Vec<u8>>,
    headers: MultiHeaders<SockaddrStorage>,
    errors: ErrorSockets,
    limit: Limit,
}

impl Egress {
    pub(super) fn new(errors: ErrorSockets) -> Self {
        Self {
            buffers: vec![vec![0; PACKET_BYTES]; BATCH],
            headers: MultiHeaders::preallocate(BATCH, None),
            errors,
            limit: Limit::new(Instant::now()),
        }
    }

    /// Moves one batch.
    pub(super) fn turn(&mut self, shared: &Shared, tun: &Tun, sockets: &Sockets) -> Device {
        let (lengths, device) = self.read(tun);
        let mut outgoing = Vec::with_capacity(lengths.len());
        let mut errors = Vec::new();
        {
            let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
            for (buffer, bytes) in lengths.into_iter().enumerate() {
                let packet = &mut self.buffers[buffer][..bytes];
                let Ok(inner) = packet::parse(packet) else {
                    count(&shared.counters.malformed);
                    continue;
                };
                match table.lookup(inner.destination) {
                    None => errors.push((buffer, bytes, inner, Cause::NoRoute)),
                    Some(_) if inner.ttl <= 1 => errors.push((buffer, bytes, inner, Cause::HopsUsedUp)),
                    Some(to) => {
                        packet::count_down(packet);
                        outgoing.push(Outgoing { buffer, bytes, inner, to });
                    }
                }
            }
        }
        for (buffer, bytes, inner, cause) in errors {
            count(if cause == Cause::NoRoute { &shared.counters.no_route } else { &shared.counters.hops_used_up });
            self.answer(buffer, bytes, &inner, cause);
        }
        for family in [Family::Ipv4, Family::Ipv6] {
            let of_family: Vec<&Outgoing> =
                outgoing.iter().filter(|packet| family_of(&packet.to.ip()) == family).collect();
            match sockets.of(family) {
                Some(socket) => self.send(shared, socket, &of_family),
                None => of_family.iter().for_each(|_| count(&shared.counters.refused)),
            }
        }
        device
    }

    /// Lengths of what the device had, in order of the buffers.
    fn read(&mut self, tun: &Tun) -> (Vec<usize>, Device) {
        let mut lengths = Vec::with_capacity(BATCH);
        while lengths.len() < BATCH {
            match tun.read(&mut self.buffers[lengths.len()]) {
                Ok(bytes) => lengths.push(bytes),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => break,
                Err(_) => return (lengths, Device::Gone),
            }
        }
        (lengths, Device::There)
    }

    /// Sends in order. A packet that fails is dealt with alone, and the rest goes on.
    fn send(&mut self, shared: &Shared, socket: &UdpSocket, packets: &[&Outgoing]) {
        let mut done = 0;
        let mut waited = false;
        while done < packets.len() {
            let rest = &packets[done..];
            let slices: Vec<[IoSlice<'_>; 1]> =
                rest.iter().map(|packet| [IoSlice::new(&self.buffers[packet.buffer][..packet.bytes])]).collect();
            let to: Vec<Option<SockaddrStorage>> = rest.iter().map(|packet| Some(packet.to.into())).collect();
            let sent = sendmmsg(socket.as_raw_fd(), &mut self.headers, &slices, &to, [], MsgFlags::MSG_DONTWAIT)
                .map(Iterator::count);
            match sent {
                Ok(sent) => {
                    shared.counters.sent.fetch_add(sent as u64, std::sync::atomic::Ordering::Relaxed);
                    done += sent;
                }
                Err(nix::Error::EMSGSIZE) => {
                    self.too_big(shared, socket, rest[0]);
                    done += 1;
                }
                Err(nix::Error::EAGAIN | nix::Error::ENOBUFS) if !waited => {
                    // A full send buffer: wait a moment, as a device's queue would, then drop.
                    waited = true;
                    let mut writable = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
                    let _ = poll(&mut writable, PollTimeout::from(10_u8));
                }
                Err(nix::Error::EINTR) => {}
                Err(_) => {
                    count(&shared.counters.refused);
                    done += 1;
                }
            }
        }
    }

    /// A packet that does not fit the path: its sender is told, or the outer packet may be cut.
    fn too_big(&mut self, shared: &Shared, socket: &UdpSocket, packet: &Outgoing) {
        let overhead = Tunnel::Udp.overhead_bytes(family_of(&packet.to.ip()));
        let fits = pmtu::path_mtu_bytes(packet.to).unwrap_or(0).saturating_sub(overhead);
        // No IPv6 link may be smaller than 1280 (RFC 8200, section 5), so below that the tunnel has to cut.
        let may_tell = packet.inner.whole && (packet.inner.source.is_ipv4() || fits >= MIN_MTU_V6_BYTES);
        if may_tell && fits > 0 {
            count(&shared.counters.too_big);
            self.answer(packet.buffer, packet.bytes, &packet.inner, Cause::TooBig(fits));
            return;
        }
        let bytes = &self.buffers[packet.buffer][..packet.bytes];
        let cut = pmtu::set_whole(socket, false).and_then(|()| socket.send_to(bytes, packet.to));
        count(if cut.is_ok() { &shared.counters.sent } else { &shared.counters.refused });
        if let Err(error) = pmtu::set_whole(socket, true) {
            tracing::warn!(%error, "the tunnel's socket went on cutting packets");
        }
    }

    /// Tells the sender, where that is allowed and not too often.
    fn answer(&mut self, buffer: usize, bytes: usize, inner: &Inner, cause: Cause) {
        let Some(message) = icmp::error(&self.buffers[buffer][..bytes], inner, cause) else { return };
        if !self.limit.take(Instant::now()) {
            return;
        }
        // The sender may be gone: nothing to do about it.
        let _ = match inner.source {
            IpAddr::V4(v4) => {
                send_raw(&self.errors.v4, &message, &SockaddrIn::from(std::net::SocketAddrV4::new(v4, 0)))
            }
            IpAddr::V6(v6) => match &self.errors.v6 {
                Some(socket) => {
                    send_raw(socket, &message, &SockaddrIn6::from(std::net::SocketAddrV6::new(v6, 0, 0, 0)))
                }
                None => Ok(0),
            },
        };
    }
}

fn send_raw(socket: &OwnedFd, message: &[u8], to: &dyn SockaddrLike) -> nix::Result<usize> {
    sendto(socket.as_raw_fd(), message, to, MsgFlags::MSG_DONTWAIT)
}
