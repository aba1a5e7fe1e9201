//! The socket that hears multicast messages. Never sends.

use super::event::{Event, Notice, parse};
use crate::netlink::{Error, Result, messages};
use crate::netns::NetNs;
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// Receive buffer, where we may choose it: thousands of changes while we do something else.
const BUFFER_BYTES: usize = 16 << 20;
/// More than any one multicast message.
const RECEIVE_BYTES: usize = 64 * 1024;

/// A table whose changes are told (`RTNLGRP_*` of `include/uapi/linux/rtnetlink.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Devices.
    Links,
    /// Addresses of both families.
    Addresses,
    /// Routes of both families.
    Routes,
    /// Neighbours of both families, and forwarding entries.
    Neighbours,
    /// Next-hop objects.
    NextHops,
    /// Settings of the IP layer of both families.
    Settings,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 6] =
        [Self::Links, Self::Addresses, Self::Routes, Self::Neighbours, Self::NextHops, Self::Settings];

    const fn numbers(self) -> &'static [u32] {
        match self {
            Self::Links => &[1],
            Self::Addresses => &[5, 9],
            Self::Routes => &[7, 11],
            Self::Neighbours => &[3],
            Self::NextHops => &[32],
            Self::Settings => &[24, 25],
        }
    }
}

/// A stream of changes of one network namespace.
#[derive(Debug)]
pub struct Monitor {
    socket: AsyncFd<OwnedFd>,
    receive: Vec<u8>,
    queued: VecDeque<Notice>,
}

impl Monitor {
    /// Listens in the network namespace of the calling thread. From here on nothing is missed without [`Event::Lost`]:
    /// open it first, then read the tables. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open(groups: &[Group]) -> Result<Self> {
        Self::from_socket(listen(groups)?)
    }

    /// The same in another namespace; the caller's runtime does the waiting.
    ///
    /// # Errors
    /// [`Error::Socket`]; also when the namespace can't be entered.
    pub fn open_in(namespace: &NetNs, groups: &[Group]) -> Result<Self> {
        let socket = namespace.run(|| listen(groups)).map_err(|error| Error::Invalid {
            operation: "open",
            object: "monitor socket".to_owned(),
            field: "namespace",
            detail: error.to_string(),
        })?;
        Self::from_socket(socket?)
    }

    fn from_socket(socket: OwnedFd) -> Result<Self> {
        let socket = sys::ready::register(socket).map_err(failed("register"))?;
        Ok(Self { socket, receive: vec![0; RECEIVE_BYTES], queued: VecDeque::new() })
    }

    /// Waits for the next change. Cancelling loses nothing.
    ///
    /// # Errors
    /// [`Error::Socket`]: the stream has ended.
    pub async fn next(&mut self) -> Result<Notice> {
        loop {
            if let Some(notice) = self.queued.pop_front() {
                return Ok(notice);
            }
            let mut ready = self.socket.readable().await.map_err(failed("wait"))?;
            let read = ready.try_io(|socket| receive(socket.get_ref(), &mut self.receive, &mut self.queued));
            if let Ok(read) = read {
                read.map_err(failed("recvmsg"))?;
            }
        }
    }

    /// The next change that is here already; `None` when there is none now.
    ///
    /// # Errors
    /// [`Error::Socket`]: the stream has ended.
    pub fn try_next(&mut self) -> Result<Option<Notice>> {
        while self.queued.is_empty() {
            match receive(self.socket.get_ref(), &mut self.receive, &mut self.queued) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(failed("recvmsg")(error)),
            }
        }
        Ok(self.queued.pop_front())
    }
}

fn failed(call: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::Socket {
        operation: "listen",
        object: "monitor socket".to_owned(),
        call,
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    }
}

fn listen(groups: &[Group]) -> Result<OwnedFd> {
    const NETLINK_ROUTE: isize = 0;
    let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE).map_err(failed("socket"))?;
    socket.bind_auto().map_err(failed("bind"))?;
    socket.set_non_blocking(true).map_err(failed("fcntl"))?;
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        // A smaller buffer loses sooner, and says so.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES);
    }
    for group in groups.iter().flat_map(|group| group.numbers()) {
        socket.add_membership(*group).map_err(failed("setsockopt NETLINK_ADD_MEMBERSHIP"))?;
    }
    // The crate's socket can't be taken apart safely; a second descriptor of the same socket outlives it.
    socket.as_fd().try_clone_to_owned().map_err(failed("dup"))
}

/// Reads one datagram into the queue.
fn receive(socket: &OwnedFd, buffer: &mut [u8], queue: &mut VecDeque<Notice>) -> io::Result<()> {
    let lost = Notice { port: 0, event: Event::Lost };
    match nix::sys::socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
        Ok(length) if length <= buffer.len() => {
            queue.extend(messages(&buffer[..length]).filter_map(|(header, payload)| {
                parse(header, payload).map(|event| Notice { port: header.port, event })
            }));
        }
        Ok(_) | Err(Errno::ENOBUFS) => queue.push_back(lost),
        Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(())
}
