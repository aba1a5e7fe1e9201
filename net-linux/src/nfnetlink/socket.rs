//! A socket of `NETLINK_NETFILTER`. The kernel answers within the system call, so nothing here waits for long.

use super::{Malformed, Message, attributes, messages};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recv, sendmsg, setsockopt, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Room for any datagram: dumps come in pieces of at most 32 KiB, an error without its request is small.
const RECEIVE_BYTES: usize = 256 * 1024;
/// `NLMSG_ERROR` and `NLMSG_DONE` of `include/uapi/linux/netlink.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// What the kernel answered to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of the message.
    pub(crate) sequence: u32,
    /// `None` is success.
    pub(crate) error: Option<Errno>,
    /// The kernel's words, where it has some.
    pub(crate) text: Option<String>,
    /// Where in the message the offending attribute begins, counted from its `nlmsghdr`.
    pub(crate) offset: Option<usize>,
}

/// The socket. It belongs to the network namespace of the thread that opened it.
pub(crate) struct NfSocket {
    socket: Socket,
    port: u32,
    send_bytes: usize,
    buffer: Vec<u8>,
}

impl NfSocket {
    /// A socket that sends and is answered.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        // Kernels before 4.12 and 4.3 lack these two: errors are then without text.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, port, send_bytes: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// A socket that hears what all others change: multicast `group`, an `NFNLGRP_*`.
    pub(crate) fn subscribe(group: u32) -> io::Result<Self> {
        let opened = Self::open()?;
        opened.socket.add_membership(group)?;
        opened.listen()?;
        Ok(opened)
    }

    /// From now on it is read without waiting.
    pub(crate) fn listen(&self) -> io::Result<()> {
        // Much can happen at once; without the privilege the default has to do.
        let _ = setsockopt(&self.socket, sockopt::RcvBufForce, &(4 * 1024 * 1024));
        self.socket.set_non_blocking(true)
    }

    /// Our netlink port: what notifications of our own changes carry.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Sends `parts` as one datagram, so that the kernel sees one batch.
    pub(crate) fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        self.make_room(total);
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let none: &[ControlMessage<'_>] = &[];
        loop {
            match sendmsg::<NoAddress>(self.socket.as_raw_fd(), &slices, none, MsgFlags::empty(), None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Raises the send buffer when `total` bytes would not fit: the kernel takes a datagram whole or refuses it (`EMSGSIZE`).
    fn make_room(&mut self, total: usize) {
        // The kernel doubles what it is told and counts its own overhead in.
        let wanted = total.max(64 * 1024);
        if wanted <= self.send_bytes {
            return;
        }
        let wanted = wanted.next_power_of_two();
        // The forced one needs CAP_NET_ADMIN in the first user namespace, the plain one stops at wmem_max. When neither is
        // enough, the send says so.
        if setsockopt(&self.socket, sockopt::SndBufForce, &wanted).is_err() {
            let _ = setsockopt(&self.socket, sockopt::SndBuf, &wanted);
        }
        self.send_bytes = wanted;
    }

    /// Every answer that is there now.
    pub(crate) fn answers(&mut self) -> io::Result<Vec<Answer>> {
        let mut all = Vec::new();
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC) {
                Ok(length) => {
                    for message in messages(self.buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?) {
                        let message = message.map_err(invalid)?;
                        if message.kind == NLMSG_ERROR {
                            all.push(answer(&message).map_err(invalid)?);
                        }
                    }
                }
                Err(Errno::EAGAIN) => return Ok(all),
                // Some answers did not fit. Those that did tell enough: there are errors among them.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Reads the answer to a dump. `Ok(false)`: the tables changed meanwhile, so what was read may not fit together.
    pub(crate) fn dump<E: From<io::Error>>(
        &mut self,
        mut each: impl FnMut(&Message<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut whole = true;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(io::Error::from(errno).into()),
            };
            let datagram = self.buffer.get(..length).ok_or(io::Error::from(io::ErrorKind::InvalidData))?;
            for message in messages(datagram) {
                let message = message.map_err(invalid)?;
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => {
                        return match answer(&message).map_err(invalid)?.error {
                            None => Ok(whole),
                            Some(Errno::EINTR) => Ok(false),
                            Some(errno) => Err(io::Error::from(errno).into()),
                        };
                    }
                    _ => each(&message)?,
                }
            }
        }
    }

    /// Reads one datagram of notifications; [`io::ErrorKind::WouldBlock`] when there is none.
    pub(crate) fn notifications(&mut self, mut each: impl FnMut(&Message<'_>)) -> io::Result<()> {
        let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC)?;
        let datagram = self.buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
        for message in messages(datagram) {
            each(&message.map_err(invalid)?);
        }
        Ok(())
    }
}

impl AsFd for NfSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NfSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// The kernel is where a message without address goes.
type NoAddress = nix::sys::socket::NetlinkAddr;

fn invalid(malformed: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, malformed)
}

/// Reads `struct nlmsgerr` and what extended acknowledgement adds.
fn answer(message: &Message<'_>) -> Result<Answer, Malformed> {
    let wrong = Malformed::new("nlmsgerr");
    let code = message.payload.first_chunk::<4>().ok_or(wrong)?;
    let code = i32::from_ne_bytes(*code);
    let mut answer = Answer {
        sequence: message.sequence,
        error: (code != 0).then(|| Errno::from_raw(code.saturating_neg())),
        text: None,
        offset: None,
    };
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return Ok(answer);
    }
    let request = message.payload.get(4..).ok_or(wrong)?;
    let skip = if message.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        let length = request.first_chunk::<4>().ok_or(wrong)?;
        usize::try_from(u32::from_ne_bytes(*length)).map_err(|_| wrong)?.next_multiple_of(4)
    };
    for attr in attributes(request.get(skip..).ok_or(wrong)?) {
        let attr = attr?;
        match attr.kind {
            NLMSGERR_ATTR_MSG => answer.text = Some(attr.text()),
            NLMSGERR_ATTR_OFFS => {
                // The one number of these that is in host order.
                let bytes = attr.value.first_chunk::<4>().ok_or(wrong)?;
                answer.offset = usize::try_from(u32::from_ne_bytes(*bytes)).ok();
            }
            _ => {}
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reading_an_answer_never_panics(flags: u16, payload: Vec<u8>) {
            let _ = answer(&Message { kind: NLMSG_ERROR, flags, sequence: 1, port: 0, payload: &payload });
        }
    }
}
