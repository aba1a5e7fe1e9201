//! From the UDP sockets into the TUN device. Never lets in what no peer sent.

use super::stats::count;
use super::{BATCH, PACKET_BYTES, Shared};
use crate::udp::packet;
use net_linux::tun::Tun;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg};
use std::io::IoSliceMut;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::PoisonError;

/// Buffers for one batch.
pub(super) struct Ingress {
    buffers: Vec<Vec<u8>>,
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl Ingress {
    pub(super) fn new() -> Self {
        Self {
            buffers: vec![vec![0; PACKET_BYTES]; BATCH],
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Moves one batch.
    pub(super) fn turn(&mut self, shared: &Shared, tun: &Tun, socket: &UdpSocket) {
        let v4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
        let received = if v4 {
            receive(socket, &mut self.v4, &mut self.buffers, |address: &SockaddrIn| address.ip().into())
        } else {
            receive(socket, &mut self.v6, &mut self.buffers, |address: &SockaddrIn6| address.ip().into())
        };
        let table = shared.table.read().unwrap_or_else(PoisonError::into_inner);
        let counters = &shared.counters;
        for (buffer, (bytes, source)) in self.buffers.iter().zip(received) {
            let packet = &buffer[..bytes];
            if !source.is_some_and(|source| table.knows(&source)) {
                count(&counters.unknown_peer);
            } else if packet::parse(packet).is_err() {
                count(&counters.malformed);
            } else if tun.write(packet).is_err() {
                count(&counters.refused);
            } else {
                count(&counters.received);
            }
        }
    }
}

/// Lengths and senders of what came, in order of the buffers.
fn receive<S: SockaddrLike + Copy>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<S>,
    buffers: &mut [Vec<u8>],
    ip: impl Fn(&S) -> IpAddr,
) -> Vec<(usize, Option<IpAddr>)> {
    let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
    match recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None) {
        Ok(messages) => messages.map(|message| (message.bytes, message.address.as_ref().map(&ip))).collect(),
        // An ICMP error of an earlier datagram, or nothing there any more.
        Err(_) => Vec::new(),
    }
}
