//! Asks a pod whether it hears another one, over TCP, UDP and ICMP. Never leaves the namespaces it is given.

mod icmp;
mod responder;

pub use responder::Responder;

use net_linux::netns::{NetNs, NetNsError};
use serde::Serialize;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Where every pod answers, on TCP and UDP.
pub const PORT: u16 = 7777;

/// What a probe speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A connection and one byte there and back.
    Tcp,
    /// A datagram there and back.
    Udp,
    /// Echo request and reply.
    Icmp,
}

/// Every protocol.
pub const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
        })
    }
}

/// A probe that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The probe itself failed, or nobody answered in time.
    #[error("{protocol} to {to}: {source}")]
    NoAnswer {
        /// The protocol.
        protocol: Protocol,
        /// The address.
        to: IpAddr,
        /// What the socket said.
        source: io::Error,
    },
}

/// How long to wait for one answer, and how often to ask.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Time for one answer.
    pub timeout: Duration,
    /// Answers to take the median of, at least 1.
    pub samples: usize,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(1), samples: 3 }
    }
}

/// Round-trip times from the namespace to each target, in the order of targets: the median, or the first failure.
///
/// # Errors
/// The namespace could not be entered. A target that does not answer is an error in its place.
pub fn probe_all(
    from: &NetNs,
    targets: &[(Protocol, IpAddr)],
    patience: Patience,
) -> Result<Vec<Result<Duration, ProbeError>>, ProbeError> {
    let all = || targets.iter().map(|(protocol, to)| median(*protocol, *to, patience)).collect();
    Ok(from.run(all)?)
}

fn median(protocol: Protocol, to: IpAddr, patience: Patience) -> Result<Duration, ProbeError> {
    let mut times = Vec::with_capacity(patience.samples);
    for _ in 0..patience.samples.max(1) {
        let time =
            once(protocol, to, patience.timeout).map_err(|source| ProbeError::NoAnswer { protocol, to, source })?;
        times.push(time);
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

fn once(protocol: Protocol, to: IpAddr, timeout: Duration) -> io::Result<Duration> {
    let start = Instant::now();
    match protocol {
        Protocol::Tcp => tcp(to, timeout)?,
        Protocol::Udp => udp(to, timeout)?,
        Protocol::Icmp => icmp::echo(to, timeout)?,
    }
    Ok(start.elapsed())
}

fn tcp(to: IpAddr, timeout: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, PORT), timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"?")?;
    let mut answer = [0];
    stream.read_exact(&mut answer)
}

fn udp(to: IpAddr, timeout: Duration) -> io::Result<()> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to, PORT))?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(b"?")?;
    let mut answer = [0; 64];
    socket.recv(&mut answer).map(|_| ())
}

/// The source address that a target sees, asked over UDP: tells whether the packet was masqueraded.
///
/// # Errors
/// [`ProbeError`].
pub fn seen_as(from: &NetNs, to: IpAddr, timeout: Duration) -> Result<IpAddr, ProbeError> {
    let ask = || -> io::Result<IpAddr> {
        let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((to, PORT))?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send(b"who am i")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]);
        text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is no address"))
    };
    from.run(ask)?.map_err(|source| ProbeError::NoAnswer { protocol: Protocol::Udp, to, source })
}
