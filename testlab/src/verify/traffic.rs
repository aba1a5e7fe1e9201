//! Connections made for real, many at once: who is answered may connect, who is not may not. Never judges a policy.

use net_linux::netns::NetNs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// A connection and one byte from the listener.
    Tcp,
    /// A datagram there and one back.
    Udp,
}

/// One connection to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The index of the place it is made from.
    pub from: usize,
    /// The source address, where it matters which.
    pub source: Option<IpAddr>,
    /// The index of the place where somebody listens.
    pub to: usize,
    /// Where.
    pub address: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
    /// Nobody expects an answer: silence is believed early.
    pub hopeless: bool,
}

/// Tries of a connection that nobody expects to be answered, and the time for each.
const TRIES: usize = 3;
const TRY: Duration = Duration::from_millis(100);
/// Tries of one that should be answered: a busy machine must not look like a policy.
const PATIENT_TRIES: usize = 30;
/// Connections at once: each needs some descriptors, and a process often has 1,024.
const AT_ONCE: usize = 128;

enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

enum Client {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
        }
    }
}

/// Whether each attempt was answered.
///
/// # Errors
/// A namespace could not be entered, or a socket not be made. That is no verdict.
pub fn run(places: &[NetNs], attempts: &[Attempt]) -> io::Result<Vec<bool>> {
    let mut answered = Vec::with_capacity(attempts.len());
    for some in attempts.chunks(AT_ONCE) {
        answered.extend(run_some(places, some)?);
    }
    Ok(answered)
}

fn run_some(places: &[NetNs], attempts: &[Attempt]) -> io::Result<Vec<bool>> {
    let mut wanted: BTreeMap<usize, BTreeSet<(Transport, SocketAddr)>> = BTreeMap::new();
    for attempt in attempts {
        wanted.entry(attempt.to).or_default().insert((attempt.transport, attempt.address));
    }
    let mut room = Room { listeners: Vec::new(), accepted: Vec::new(), clients: Vec::new() };
    for (place, sockets) in wanted {
        let open = || sockets.iter().map(|(transport, address)| listen(*transport, *address)).collect();
        let opened: io::Result<Vec<Listener>> = places[place].run(open).map_err(io::Error::other)?;
        room.listeners.extend(opened?);
    }
    let mut answered = vec![false; attempts.len()];
    for number in 0..PATIENT_TRIES {
        let mut due: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, attempt) in attempts.iter().enumerate() {
            if !answered[index] && (number < TRIES || !attempt.hopeless) {
                due.entry(attempt.from).or_default().push(index);
            }
        }
        if due.is_empty() {
            break;
        }
        for (place, indices) in due {
            let begin = || indices.iter().filter_map(|index| begin(&attempts[*index]).map(|client| (*index, client)));
            let begun: Vec<(usize, Client)> = places[place].run(|| begin().collect()).map_err(io::Error::other)?;
            room.clients.extend(begun);
        }
        room.serve(Instant::now() + TRY, &mut answered)?;
    }
    Ok(answered)
}

/// Every socket of a round.
struct Room {
    listeners: Vec<Listener>,
    /// Kept, so that no reset comes after the answer.
    accepted: Vec<TcpStream>,
    clients: Vec<(usize, Client)>,
}

impl Room {
    /// Answers and hears answers until `end`, or until every client has its own.
    fn serve(&mut self, end: Instant, answered: &mut [bool]) -> io::Result<()> {
        loop {
            self.clients.retain(|(index, _)| !answered[*index]);
            let left = end.saturating_duration_since(Instant::now());
            if self.clients.is_empty() || left.is_zero() {
                return Ok(());
            }
            let listeners = self.listeners.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            let clients = self.clients.iter().map(|(_, client)| PollFd::new(client.as_fd(), PollFlags::POLLIN));
            let mut all: Vec<PollFd<'_>> = listeners.chain(clients).collect();
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut all, wait) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready: Vec<bool> = all.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
            drop(all);
            let (heard, replied) = ready.split_at(self.listeners.len());
            for (listener, _) in self.listeners.iter().zip(heard).filter(|(_, ready)| **ready) {
                answer(listener, &mut self.accepted);
            }
            let mut refused = BTreeSet::new();
            for (position, ((index, client), _)) in
                self.clients.iter().zip(replied).enumerate().filter(|(_, (_, ready))| **ready)
            {
                let mut byte = [0];
                let read = match client {
                    Client::Tcp(stream) => (&mut (stream as &TcpStream)).read(&mut byte),
                    Client::Udp(socket) => socket.recv(&mut byte),
                };
                match read {
                    Ok(1) => answered[*index] = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // Refused: no answer will come on this one.
                    _ => {
                        refused.insert(position);
                    }
                }
            }
            let mut position = 0..;
            self.clients.retain(|_| position.next().is_none_or(|position| !refused.contains(&position)));
        }
    }
}

fn listen(transport: Transport, address: SocketAddr) -> io::Result<Listener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("listen on {transport:?} {address}: {error}"));
    Ok(match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind(address).map_err(named)?;
            listener.set_nonblocking(true)?;
            Listener::Tcp(listener)
        }
        Transport::Udp => {
            let socket = UdpSocket::bind(address).map_err(named)?;
            socket.set_nonblocking(true)?;
            Listener::Udp(socket)
        }
    })
}

/// A client that went away is no concern of the others, so nothing here is an error.
fn answer(listener: &Listener, accepted: &mut Vec<TcpStream>) {
    match listener {
        Listener::Tcp(listener) => {
            while let Ok((mut stream, _)) = listener.accept() {
                if stream.write_all(b"!").is_ok() {
                    accepted.push(stream);
                }
            }
        }
        Listener::Udp(socket) => {
            let mut question = [0; 16];
            while let Ok((_, from)) = socket.recv_from(&mut question) {
                let _ = socket.send_to(b"!", from);
            }
        }
    }
}

/// A try that the kernel itself refuses at once, as an output chain that rejects makes it, is no client.
fn begin(attempt: &Attempt) -> Option<Client> {
    let begun = match attempt.transport {
        Transport::Tcp => begin_tcp(attempt).map(Client::Tcp),
        Transport::Udp => begin_udp(attempt).map(Client::Udp),
    };
    begun.ok()
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

fn begin_tcp(attempt: &Attempt) -> io::Result<TcpStream> {
    let family = if attempt.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    if let Some(source) = attempt.source {
        bind(&fd, SocketAddr::new(source, 0))?;
    }
    let done = match attempt.address {
        SocketAddr::V4(address) => connect(fd.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => connect(fd.as_raw_fd(), &SockaddrIn6::from(address)),
    };
    match done {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(errno) => Err(errno.into()),
    }
}

fn bind(fd: &impl AsRawFd, address: SocketAddr) -> nix::Result<()> {
    match address {
        SocketAddr::V4(address) => nix::sys::socket::bind(fd.as_raw_fd(), &SockaddrIn::from(address)),
        SocketAddr::V6(address) => nix::sys::socket::bind(fd.as_raw_fd(), &SockaddrIn6::from(address)),
    }
}

fn begin_udp(attempt: &Attempt) -> io::Result<UdpSocket> {
    let source = attempt.source.unwrap_or_else(|| unspecified(attempt.address.ip()));
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(attempt.address)?;
    socket.send(b"?")?;
    Ok(socket)
}
