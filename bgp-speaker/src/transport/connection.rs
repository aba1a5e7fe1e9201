//! One TCP connection: its socket, what waits to be sent, and how it ends. Never knows what the bytes mean.

use super::poller::Interest;
use super::tcp::failure;
use crate::speaker::ConnectFailure;
use bytes::{Buf, Bytes};
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// How much one connection may send before the others have their turn.
const TURN_BYTES: usize = 256 << 10;
/// Messages handed to the kernel in one call.
const SLICES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Asked for, not decided.
    Connecting,
    Open,
    /// The speaker has closed it; what is queued goes out first.
    Flushing,
    /// All is sent, and the end too. What the peer still says is read, for a close with unread bytes is a reset, which
    /// would take our last message from the peer.
    Ending,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) phase: Phase,
    pub(super) interface: Option<Arc<str>>,
    /// To be connected, to be wanted by the speaker, to be closed by then.
    pub(super) deadline: Option<Instant>,
    /// Accepted, and the speaker has not said a word on it.
    pub(super) stranger: bool,
    /// Stands in the list of those that have something to send.
    pub(super) listed: bool,
    /// What the poller waits for.
    pub(super) interest: Interest,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// The kernel took no more.
    blocked: bool,
    /// Nothing can be sent any more. What the peer said before it went is still to be read.
    dead: bool,
}

/// What reading has come to.
#[derive(Debug)]
pub(super) enum Heard {
    Bytes(usize),
    Nothing,
    End(ConnectFailure),
}

impl Connection {
    pub(super) fn new(stream: TcpStream, phase: Phase, interface: Option<Arc<str>>) -> Self {
        Self {
            stream,
            phase,
            interface,
            deadline: None,
            stranger: false,
            listed: false,
            interest: if phase == Phase::Connecting { Interest::WRITE } else { Interest::READ },
            queue: VecDeque::new(),
            queued_bytes: 0,
            blocked: false,
            dead: false,
        }
    }

    pub(super) const fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether [`flush`](Self::flush) would do something.
    pub(super) fn can_send(&self) -> bool {
        !self.blocked && !self.queue.is_empty() && matches!(self.phase, Phase::Open | Phase::Flushing)
    }

    pub(super) fn queue(&mut self, bytes: Bytes) {
        if !self.dead && !bytes.is_empty() {
            self.queued_bytes += bytes.len();
            self.queue.push_back(bytes);
        }
    }

    pub(super) const fn unblock(&mut self) {
        self.blocked = false;
    }

    /// What to wait for from now on.
    pub(super) fn wanted(&self) -> Interest {
        match self.phase {
            Phase::Connecting => Interest::WRITE,
            Phase::Open | Phase::Flushing | Phase::Ending => Interest { read: true, write: self.blocked },
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Heard {
        match self.stream.read(buffer) {
            Ok(0) => Heard::End(ConnectFailure::Closed),
            Ok(bytes) => Heard::Bytes(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Heard::Nothing,
            Err(error) => Heard::End(failure(&error)),
        }
    }

    /// Hands what is queued to the kernel, as much as it takes and its turn allows. Gives the number of bytes.
    pub(super) fn flush(&mut self) -> usize {
        let mut sent = 0;
        while sent < TURN_BYTES && self.can_send() {
            match self.write() {
                Ok(bytes) => {
                    sent += bytes;
                    self.forget(bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // Reading gives the reason, after what the peer said last.
                    self.dead = true;
                    self.queue.clear();
                    self.queued_bytes = 0;
                }
            }
        }
        if self.phase == Phase::Flushing && self.queue.is_empty() {
            self.phase = Phase::Ending;
            // It fails where there is no connection any more, and then there is nobody to tell.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        sent
    }

    fn write(&mut self) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        self.stream.write_vectored(&slices[..count])
    }

    /// Lets the kernel drop what it has not sent when the socket is closed.
    pub(super) fn abort(&self) {
        // Without it the kernel goes on trying for a while, which harms nobody.
        let _ = setsockopt(&self.stream, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }

    fn forget(&mut self, mut bytes: usize) {
        self.queued_bytes -= bytes;
        while bytes > 0
            && let Some(first) = self.queue.front_mut()
        {
            if first.len() > bytes {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.queue.pop_front();
        }
    }
}
