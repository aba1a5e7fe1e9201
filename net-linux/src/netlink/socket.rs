//! One netlink socket of one namespace. Never knows what a message means.

use super::batch::{Batch, add_flags, set_sequence, write_message};
use super::wire::{
    Attrs, HEADER_BYTES, Header, Message, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, messages,
};
use super::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Messages in one `sendmsg`: their errors must fit into the receive buffer.
const CHUNK_MESSAGES: usize = 256;
/// Bytes in one `sendmsg`.
const CHUNK_BYTES: usize = 64 * 1024;
/// Send and receive buffer, where we may choose it. The kernel doubles it.
const BUFFER_BYTES: usize = 4 << 20;
/// The kernel answers inside the system call; this long means that it never will.
const ANSWER_SECONDS: i64 = 10;
/// A dump that is cut short this often goes to the caller as [`Error::Interrupted`].
const DUMP_ATTEMPTS: u32 = 64;
/// The kernel sizes its datagrams of a dump by the buffer it is read with.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A netlink family (`include/uapi/linux/netlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// Sockets of processes.
    SockDiag,
    /// nftables, conntrack.
    Netfilter,
    /// Generic netlink: ethtool and others.
    Generic,
}

impl Protocol {
    const fn number(self) -> isize {
        match self {
            Self::Route => 0,
            Self::SockDiag => 4,
            Self::Netfilter => 12,
            Self::Generic => 16,
        }
    }
}

/// A netlink socket, bound to the network namespace that its thread was in when it was opened.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    receive: Vec<u8>,
    dump_retries: u64,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("fd", &self.inner.as_raw_fd()).finish_non_exhaustive()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// One answer of the kernel that ends or fails a request.
struct Answer {
    sequence: u32,
    outcome: Result<(), (Errno, Option<String>)>,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread, with the kernel's error messages and strict
    /// checking of dump filters switched on and buffers as large as we may have.
    ///
    /// # Errors
    /// [`Error::Socket`]: no such family in this kernel, or no descriptor left.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let failed = |call: &'static str| {
            move |error: io::Error| Error::Socket {
                operation: "open",
                object: format!("{protocol:?} socket"),
                call,
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            }
        };
        let mut inner = netlink_sys::Socket::new(protocol.number()).map_err(failed("socket"))?;
        inner.bind_auto().map_err(failed("bind"))?;
        inner.set_cap_ack(true).map_err(failed("setsockopt NETLINK_CAP_ACK"))?;
        inner.set_ext_ack(true).map_err(failed("setsockopt NETLINK_EXT_ACK"))?;
        if protocol == Protocol::Route {
            inner.set_netlink_get_strict_chk(true).map_err(failed("setsockopt NETLINK_GET_STRICT_CHK"))?;
        }
        enlarge_buffers(&inner);
        let timeout = TimeVal::seconds(ANSWER_SECONDS);
        setsockopt(&inner, sockopt::ReceiveTimeout, &timeout)
            .map_err(|errno| failed("setsockopt SO_RCVTIMEO")(errno.into()))?;
        Ok(Self { inner, sequence: 0, receive: vec![0; RECEIVE_BYTES], dump_retries: 0 })
    }

    /// A socket for links, addresses, routes and neighbours.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn route() -> Result<Self> {
        Self::open(Protocol::Route)
    }

    /// Our port: events caused by this socket carry it ([`Header::port`]).
    #[must_use]
    pub fn port(&self) -> u32 {
        let mut address = netlink_sys::SocketAddr::new(0, 0);
        match self.inner.get_address(&mut address) {
            Ok(()) => address.port_number(),
            Err(_) => 0,
        }
    }

    /// How many dumps were repeated because the table changed under them.
    #[must_use]
    pub fn dump_retries(&self) -> u64 {
        self.dump_retries
    }

    /// Writes a batch and gives one result per request, in order. A failed request does not stop the others.
    ///
    /// Only the last request of a `sendmsg` asks for an acknowledgement: the kernel works in order and reports
    /// errors without being asked, so silence up to that acknowledgement is success.
    pub fn run(&mut self, batch: &mut Batch) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut first = 0;
        while first < batch.len() {
            let start = batch.entries[first].start;
            let mut end = first + 1;
            while end < batch.len() && end - first < CHUNK_MESSAGES && batch.end(end) - start <= CHUNK_BYTES {
                end += 1;
            }
            self.run_chunk(batch, first, end, &mut results);
            first = end;
        }
        results
    }

    /// Runs a batch and gives its first error.
    ///
    /// # Errors
    /// The first failed request's; the others were tried all the same.
    pub fn run_all(&mut self, batch: &mut Batch) -> Result<()> {
        self.run(batch).into_iter().collect()
    }

    fn run_chunk(&mut self, batch: &mut Batch, first: usize, end: usize, results: &mut Vec<Result<()>>) {
        let first_sequence = self.reserve(end - first);
        for index in first..end {
            let start = batch.entries[index].start;
            set_sequence(&mut batch.bytes, start, first_sequence.wrapping_add((index - first) as u32));
        }
        add_flags(&mut batch.bytes, batch.entries[end - 1].start, NLM_F_ACK);
        let bytes = &batch.bytes[batch.entries[first].start..batch.end(end - 1)];
        let mut failures: Vec<Option<(Errno, Option<String>)>> = vec![None; end - first];
        let broken = match self.send(bytes) {
            Ok(()) => self.await_last(first_sequence, &mut failures),
            Err(errno) => Some(("sendmsg", errno)),
        };
        for (entry, failure) in batch.entries[first..end].iter().zip(failures) {
            let (operation, object) = (entry.operation, entry.object.clone());
            results.push(match (failure, broken) {
                (Some((errno, message)), _) => Err(Error::Kernel { operation, object, errno, message }),
                (None, None) => Ok(()),
                (None, Some((_, Errno::ENOBUFS))) => Err(Error::Lost { operation, object }),
                (None, Some((call, errno))) => Err(Error::Socket { operation, object, call, errno }),
            });
        }
    }

    /// Reads errors until the last request's answer. Gives what broke, when the answers are not complete.
    fn await_last(
        &mut self,
        first: u32,
        failures: &mut [Option<(Errno, Option<String>)>],
    ) -> Option<(&'static str, Errno)> {
        let last = failures.len() - 1;
        let mut lost = None;
        loop {
            // After a loss the last answer may be among the lost: take what is queued, wait for nothing.
            let flags = if lost.is_some() { MsgFlags::MSG_DONTWAIT } else { MsgFlags::empty() };
            let received = match self.receive(flags) {
                Ok(received) => received,
                Err(Errno::ENOBUFS) => {
                    lost = Some(("recvmsg", Errno::ENOBUFS));
                    continue;
                }
                Err(Errno::EAGAIN) if lost.is_some() => return lost,
                Err(errno) => return Some(("recvmsg", errno)),
            };
            let mut done = false;
            for (header, payload) in messages(&self.receive[..received]) {
                let Some(answer) = answer(header, payload) else { continue };
                let index = answer.sequence.wrapping_sub(first) as usize;
                if let Some(failure) = failures.get_mut(index) {
                    *failure = answer.outcome.err();
                    done |= index == last;
                }
            }
            if done {
                return lost;
            }
        }
    }

    /// Sends one request and collects what the kernel answers before its acknowledgement.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn query<T>(
        &mut self,
        operation: &'static str,
        object: impl fmt::Display,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Message<'_>),
        mut parse: impl FnMut(Header, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut bytes = Vec::with_capacity(256);
        write_message(&mut bytes, kind, flags | NLM_F_REQUEST | NLM_F_ACK, body);
        let sequence = self.reserve(1);
        set_sequence(&mut bytes, 0, sequence);
        let broken = |call: &'static str| {
            let object = &object;
            move |errno| Error::Socket { operation, object: object.to_string(), call, errno }
        };
        self.send(&bytes).map_err(broken("sendmsg"))?;
        let mut found = Vec::new();
        loop {
            let received = self.receive(MsgFlags::empty()).map_err(broken("recvmsg"))?;
            for (header, payload) in messages(&self.receive[..received]) {
                if header.sequence != sequence {
                    continue;
                }
                let Some(answer) = answer(header, payload) else {
                    found.extend(parse(header, payload));
                    continue;
                };
                return match answer.outcome {
                    Ok(()) => Ok(found),
                    Err((errno, message)) => {
                        Err(Error::Kernel { operation, object: object.to_string(), errno, message })
                    }
                };
            }
        }
    }

    /// Reads a table. `body` writes the fixed header and the filter, `parse` picks entries.
    ///
    /// A dump is cut short (`NLM_F_DUMP_INTR`) when the table changes under it. On a busy node that is normal, so it
    /// is repeated at once.
    ///
    /// # Errors
    /// The kernel refused (an unknown filter, say), or [`Error::Interrupted`] after many attempts.
    pub fn dump<T>(
        &mut self,
        object: impl fmt::Display,
        kind: u16,
        body: impl FnOnce(&mut Message<'_>),
        mut parse: impl FnMut(Header, &[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut bytes = Vec::with_capacity(256);
        write_message(&mut bytes, kind, NLM_F_REQUEST | NLM_F_DUMP, body);
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(found) = self.dump_once(&object, &mut bytes, &mut parse)? {
                return Ok(found);
            }
            self.dump_retries += 1;
        }
        Err(Error::Interrupted { operation: "dump", object: object.to_string(), attempts: DUMP_ATTEMPTS })
    }

    fn dump_once<T>(
        &mut self,
        object: &impl fmt::Display,
        request: &mut [u8],
        parse: &mut impl FnMut(Header, &[u8]) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let operation = "dump";
        let sequence = self.reserve(1);
        set_sequence(request, 0, sequence);
        let broken =
            |call: &'static str| move |errno| Error::Socket { operation, object: object.to_string(), call, errno };
        self.send(request).map_err(broken("sendmsg"))?;
        let mut found = Vec::new();
        let mut interrupted = false;
        loop {
            let received = self.receive(MsgFlags::empty()).map_err(broken("recvmsg"))?;
            for (header, payload) in messages(&self.receive[..received]) {
                if header.sequence != sequence {
                    continue;
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                let Some(answer) = answer(header, payload) else {
                    found.extend(parse(header, payload));
                    continue;
                };
                return match answer.outcome {
                    Ok(()) if interrupted => Ok(None),
                    Ok(()) => Ok(Some(found)),
                    Err((Errno::EINTR | Errno::EAGAIN, _)) => Ok(None),
                    Err((errno, message)) => {
                        Err(Error::Kernel { operation, object: object.to_string(), errno, message })
                    }
                };
            }
        }
    }

    /// Sequence numbers for so many requests; 0 is the events'.
    fn reserve(&mut self, count: usize) -> u32 {
        let count = count as u32;
        if self.sequence.checked_add(count).is_none() {
            self.sequence = 0;
        }
        let first = self.sequence + 1;
        self.sequence += count;
        first
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match nix::sys::socket::send(self.inner.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// One datagram into the receive buffer, which grows to what the kernel sends.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, Errno> {
        loop {
            let peeked = nix::sys::socket::recv(self.inner.as_raw_fd(), &mut self.receive, flags | MsgFlags::MSG_TRUNC);
            match peeked {
                Ok(length) if length > self.receive.len() => {
                    self.receive.resize(length, 0);
                    return Err(Errno::EMSGSIZE);
                }
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }
}

/// As large as we may; the default is enough for one chunk.
fn enlarge_buffers(socket: &netlink_sys::Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &BUFFER_BYTES);
    }
}

/// Reads an error, an acknowledgement or the end of a dump; `None` for a message with content.
fn answer(header: Header, payload: &[u8]) -> Option<Answer> {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let code = || payload.get(..4).map_or(0, |code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
    let attributes = match header.kind {
        NLMSG_ERROR => {
            // struct nlmsgerr: the code, then the request's header, then (uncapped) the request's payload.
            let request = payload
                .get(4..8)
                .map_or(0, |length| u32::from_ne_bytes([length[0], length[1], length[2], length[3]]) as usize);
            let capped = header.flags & NLM_F_CAPPED != 0 || code() == 0;
            Attrs::after(payload, 4 + if capped { HEADER_BYTES } else { request })
        }
        NLMSG_DONE => Attrs::after(payload, 4),
        NLMSG_OVERRUN => {
            return Some(Answer { sequence: header.sequence, outcome: Err((Errno::ENOBUFS, None)) });
        }
        _ => return None,
    };
    let message = (header.flags & NLM_F_ACK_TLVS != 0)
        .then(|| attributes.get(NLMSGERR_ATTR_MSG).map(|attribute| attribute.text()))
        .flatten();
    let outcome = match code() {
        // The end of a dump carries a positive count in some tables.
        code if code < 0 => Err((Errno::from_raw(-code), message)),
        _ => Ok(()),
    };
    Some(Answer { sequence: header.sequence, outcome })
}
