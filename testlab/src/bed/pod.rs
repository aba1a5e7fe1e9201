//! A pod: a namespace with echo servers, and clients that talk to others. Never knows how packets get there.

use super::shell::try_run;
use crate::patience::stretched;
use net_linux::netns::NetNs;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const ECHO: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that nobody uses stays so long: it may be all that a test has of what was there before an engine was started anew.
const IDLE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// Between two datagrams of a stream.
const PACE: Duration = Duration::from_millis(1);
/// So many datagrams of a stream follow when its occasion is over, for what comes about late.
const AFTER: usize = 100;
/// The last answers of a stream may take so long.
const LAST: Duration = Duration::from_millis(500);

/// A pod with echo servers over TCP and UDP.
pub struct Pod {
    /// The pod's namespace.
    pub netns: NetNs,
    /// One of each family.
    pub addresses: Vec<IpAddr>,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Pod {
    /// Echo servers in a namespace with these addresses.
    pub fn serving(netns: NetNs, addresses: Vec<IpAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp, udp) = (stop.clone(), stop.clone());
        let servers = netns
            .run(|| {
                let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, ECHO));
                let (listener, socket) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
                listener.set_nonblocking(true).unwrap();
                socket.set_read_timeout(Some(POLL)).unwrap();
                vec![
                    std::thread::spawn(move || serve_tcp(&listener, &tcp)),
                    std::thread::spawn(move || serve_udp(&socket, &udp)),
                ]
            })
            .unwrap();
        Self { netns, addresses, stop, servers }
    }

    /// Talks to an echo server over TCP (more than a window of it), UDP and ICMP.
    pub fn talks_to(&self, address: IpAddr) {
        let to = SocketAddr::new(address, ECHO);
        self.netns
            .run(|| {
                tcp(to, 300_000).unwrap_or_else(|error| panic!("TCP to {to}: {error}"));
                udp(to, 64).unwrap_or_else(|error| panic!("UDP to {to}: {error}"));
                try_run(&format!("ping -n -c 1 -W 5 {address}")).unwrap();
            })
            .unwrap();
    }

    /// Whether one datagram comes back soon.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.netns
            .run(|| {
                let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let to = SocketAddr::new(mapped(address), ECHO);
                socket.send_to(b"anybody there?", to).is_ok() && socket.recv(&mut [0; 64]).is_ok()
            })
            .unwrap()
    }

    /// Sends a datagram each millisecond for as long as `work` takes, and some more.
    pub fn stream_while(&self, address: IpAddr, work: impl FnOnce()) -> Stream {
        let socket = self.netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
        let to = SocketAddr::new(mapped(address), ECHO);
        let receiver = socket.try_clone().unwrap();
        receiver.set_read_timeout(Some(stretched(LAST))).unwrap();
        let (sending, ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (go_on, over) = (sending.clone(), ended.clone());
        let sender = std::thread::spawn(move || {
            let (mut sent, mut left) = (Vec::new(), AFTER);
            while left > 0 {
                if !go_on.load(Ordering::Acquire) {
                    left -= 1;
                }
                let mut datagram = [7; 64];
                datagram[..8].copy_from_slice(&(sent.len() as u64).to_be_bytes());
                sent.push(Instant::now());
                // What the kernel refuses is lost as well.
                let _ = socket.send_to(&datagram, to);
                std::thread::sleep(PACE);
            }
            over.store(true, Ordering::Release);
            sent
        });
        let collector = std::thread::spawn(move || {
            let mut came = BTreeSet::new();
            let mut buffer = [0; 128];
            loop {
                match receiver.recv(&mut buffer) {
                    Ok(_) => drop(came.insert(u64::from_be_bytes(buffer[..8].try_into().unwrap()))),
                    Err(_) if ended.load(Ordering::Acquire) => return came,
                    Err(_) => {}
                }
            }
        });
        work();
        sending.store(false, Ordering::Release);
        Stream::of(&sender.join().unwrap(), &collector.join().unwrap())
    }
}

/// What became of a stream of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// So many were sent.
    pub sent: usize,
    /// So many came back.
    pub came: usize,
    /// The longest time between two that came back, by when they were sent, with lost ones between; zero without any.
    pub longest_gap: Duration,
}

impl Stream {
    fn of(sent: &[Instant], came: &BTreeSet<u64>) -> Self {
        let at = |number: &u64| sent[usize::try_from(*number).unwrap()];
        let pairs = came.iter().zip(came.iter().skip(1));
        let gaps = pairs.filter(|(one, next)| *next - *one > 1).map(|(one, next)| at(next) - at(one));
        Self { sent: sent.len(), came: came.len(), longest_gap: gaps.max().unwrap_or_default() }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

fn mapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 => v6,
    }
}

/// Sends so many bytes and wants them back.
///
/// # Errors
/// No connection, or it stands still.
pub fn tcp(to: SocketAddr, bytes: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = stream.try_clone()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        stream.write_all(&vec![7; bytes])?;
        stream.shutdown(std::net::Shutdown::Write)
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back)?;
    sender.join().unwrap()?;
    assert_eq!(back.len(), bytes);
    Ok(())
}

/// Sends a datagram of so many bytes until it comes back.
///
/// # Errors
/// It was never sent or does not come back.
pub fn udp(to: SocketAddr, bytes: usize) -> std::io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let start = Instant::now();
    let mut buffer = vec![0; 65_535];
    loop {
        socket.send_to(&vec![7; bytes], SocketAddr::new(mapped(to.ip()), to.port()))?;
        match socket.recv(&mut buffer) {
            Ok(length) => {
                assert_eq!(length, bytes);
                return Ok(());
            }
            Err(error) if start.elapsed() > PATIENCE => return Err(error),
            Err(_) => {}
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, _)) => {
                std::thread::spawn(move || echo(stream));
            }
            Err(_) => std::thread::sleep(POLL / 10),
        }
    }
}

fn echo(mut stream: TcpStream) {
    let limit = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(stretched(IDLE))));
    let mut buffer = [0; 16_384];
    while limit.is_ok() {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) if stream.write_all(&buffer[..length]).is_ok() => {}
            _ => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_535];
    while !stop.load(Ordering::Acquire) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}
