//! All sockets of a transport behind one descriptor, so that one task can wait for thousands. Never reads or writes one.
//!
//! An epoll instance is itself readable when one of its sockets is ready: tokio watches that, and the sockets that are
//! ready are then asked for in one call.

use super::sockopt::{self, Instance};
use crate::speaker::ConnId;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io;
use std::os::fd::AsFd;
use tokio::io::unix::AsyncFd;

/// How many ready sockets are asked for at once.
const BATCH: usize = 256;

/// Whose socket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Token {
    Connection(ConnId),
    Listener(u64),
    Discovery(u64),
    Addresses,
}

/// The lowest three bits tell the kinds apart; ids are counted from 0 and never reach 2^61.
impl Token {
    const fn encode(self) -> u64 {
        match self {
            Self::Connection(ConnId::Out(id)) => id << 3,
            Self::Connection(ConnId::In(id)) => id << 3 | 1,
            Self::Listener(id) => id << 3 | 2,
            Self::Discovery(id) => id << 3 | 3,
            Self::Addresses => 4,
        }
    }

    const fn decode(bits: u64) -> Self {
        let id = bits >> 3;
        match bits & 7 {
            0 => Self::Connection(ConnId::Out(id)),
            1 => Self::Connection(ConnId::In(id)),
            2 => Self::Listener(id),
            3 => Self::Discovery(id),
            _ => Self::Addresses,
        }
    }
}

/// What a socket is ready for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: Token,
    /// There is something to read, an end or an error.
    pub(super) read: bool,
    /// There is room to write, or an error.
    pub(super) write: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Interest {
    pub(super) const READ: Self = Self { read: true, write: false };
    pub(super) const WRITE: Self = Self { read: false, write: true };
    pub(super) const NONE: Self = Self { read: false, write: false };

    fn event(self, token: Token) -> EpollEvent {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, self.read);
        flags.set(EpollFlags::EPOLLOUT, self.write);
        EpollEvent::new(flags, token.encode())
    }
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: AsyncFd<Instance>,
    events: Vec<EpollEvent>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = sockopt::watch(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?)?;
        Ok(Self { epoll, events: vec![EpollEvent::empty(); BATCH] })
    }

    pub(super) fn add(&self, socket: &impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.get_ref().epoll().add(socket, interest.event(token))?)
    }

    pub(super) fn change(&self, socket: &impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.get_ref().epoll().modify(socket, &mut interest.event(token))?)
    }

    /// Waits until sockets are ready, and says which: at most [`BATCH`], none where it was a false alarm. Nothing is lost
    /// when this is dropped: a socket is told of until it is no longer ready.
    pub(super) async fn wait(&mut self, found: &mut Vec<Ready>) -> io::Result<()> {
        found.clear();
        let mut guard = self.epoll.readable().await?;
        let count = guard.get_inner().epoll().wait(&mut self.events, EpollTimeout::ZERO)?;
        if count == 0 {
            guard.clear_ready();
        }
        self.tell(count, found);
        Ok(())
    }

    /// As [`Self::wait`], without waiting.
    pub(super) fn look(&mut self, found: &mut Vec<Ready>) -> io::Result<()> {
        let count = self.epoll.get_ref().epoll().wait(&mut self.events, EpollTimeout::ZERO)?;
        self.tell(count, found);
        Ok(())
    }

    fn tell(&self, count: usize, found: &mut Vec<Ready>) {
        let broken = EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP;
        found.extend(self.events[..count].iter().map(|event| {
            let flags = event.events();
            Ready {
                token: Token::decode(event.data()),
                read: flags.intersects(EpollFlags::EPOLLIN | broken),
                write: flags.intersects(EpollFlags::EPOLLOUT | broken),
            }
        }));
    }
}
