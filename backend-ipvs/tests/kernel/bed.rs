//! A node with pods, and clients beside it; servers that say who they are. Never an item.
//!
//! ```text
//!  client 192.0.2.2 ──┐                        ┌── pod 10.244.1.1, fd00:1::1
//!  other  192.0.2.3 ──┴── segment ── node 192.0.2.1 ── pod 10.244.1.2, fd00:1::2
//!                                              └── pod 10.244.1.3 ...
//! ```

use net_linux::ipvs::Ipvs;
use net_linux::netns::NetNs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use testlab::bed::{Underlays, cable, run};
use testlab::patience::stretched;

/// Where servers listen.
pub(crate) const PORT: u16 = 8080;
const POLL: Duration = Duration::from_millis(20);

/// Whether this kernel has IPVS. A stock kernel has it.
pub(crate) fn has_ipvs() -> bool {
    match Ipvs::open_loading() {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_none(), "a stock kernel has IPVS: {error}");
            println!("skipped: {error}");
            false
        }
    }
}

/// Drives a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A namespace with servers, or none.
pub(crate) struct Place {
    pub(crate) netns: NetNs,
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Place {
    fn new() -> Self {
        Self { netns: NetNs::new().unwrap(), stop: Arc::default(), servers: Vec::new() }
    }

    /// Answers each client with `name`, and from where it sees the client; over TCP it then echoes.
    pub(crate) fn serve(&mut self, name: u8, port: u16) {
        let (tcp, udp) = (self.stop.clone(), self.stop.clone());
        let servers = self.netns.run(|| {
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let (listener, socket) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
            listener.set_nonblocking(true).unwrap();
            socket.set_read_timeout(Some(POLL)).unwrap();
            [
                std::thread::spawn(move || serve_tcp(&listener, name, &tcp)),
                std::thread::spawn(move || serve_udp(&socket, name, &udp)),
            ]
        });
        self.servers.extend(servers.unwrap());
    }

    /// Who answers a client of this namespace over TCP, and from where it sees it.
    pub(crate) fn ask(&self, to: &str) -> std::io::Result<(u8, IpAddr)> {
        let to: SocketAddr = to.parse().unwrap();
        self.netns.run(|| greeting(&mut connect(to)?)).unwrap()
    }

    /// The same over UDP.
    pub(crate) fn ask_by_datagram(&self, to: &str) -> std::io::Result<(u8, IpAddr)> {
        let to: SocketAddr = to.parse().unwrap();
        self.netns
            .run(|| {
                let any: IpAddr = if to.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { IpAddr::from([0; 4]) };
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_read_timeout(Some(stretched(Duration::from_secs(2))))?;
                socket.connect(to)?;
                socket.send(b"who?")?;
                let mut bytes = [0; 17];
                socket.recv(&mut bytes)?;
                Ok(heard(bytes))
            })
            .unwrap()
    }

    /// Opens a connection, and who answers it.
    pub(crate) fn open(&self, to: &str) -> (TcpStream, u8) {
        let to: SocketAddr = to.parse().unwrap();
        let mut stream = self.netns.run(|| connect(to).unwrap()).unwrap();
        let (name, _) = greeting(&mut stream).unwrap();
        (stream, name)
    }

    /// How often each of three answers so many clients.
    pub(crate) fn count(&self, to: &str, clients: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..clients {
            let (name, _) = self.ask(to).unwrap_or_else(|error| panic!("{to}: {error}"));
            counts[usize::from(name) - 1] += 1;
        }
        counts
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

/// The connection still works.
pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"still there?").unwrap();
    let mut back = [0; 12];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still there?");
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, stretched(Duration::from_secs(2)))?;
    stream.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    Ok(stream)
}

fn greeting(stream: &mut TcpStream) -> std::io::Result<(u8, IpAddr)> {
    let mut bytes = [0; 17];
    stream.read_exact(&mut bytes)?;
    Ok(heard(bytes))
}

fn said(name: u8, client: SocketAddr) -> [u8; 17] {
    let mut bytes = [name; 17];
    let address = match client.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    bytes[1..].copy_from_slice(&address.octets());
    bytes
}

fn heard(bytes: [u8; 17]) -> (u8, IpAddr) {
    let address: [u8; 16] = bytes[1..].try_into().unwrap();
    (bytes[0], Ipv6Addr::from(address).to_canonical())
}

fn serve_tcp(listener: &TcpListener, name: u8, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        match listener.accept() {
            Ok((stream, client)) => {
                let stop = stop.clone();
                std::thread::spawn(move || echo(stream, said(name, client), &stop));
            }
            Err(_) => std::thread::sleep(POLL / 4),
        }
    }
}

fn echo(mut stream: TcpStream, greeting: [u8; 17], stop: &AtomicBool) {
    let begun = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(POLL * 10)))
        .and_then(|()| stream.write_all(&greeting));
    let mut buffer = [0; 4096];
    while begun.is_ok() && !stop.load(Ordering::Acquire) {
        match stream.read(&mut buffer) {
            Ok(length @ 1..) if stream.write_all(&buffer[..length]).is_ok() => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            _ => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: u8, stop: &AtomicBool) {
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Acquire) {
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&said(name, from), from);
        }
    }
}

/// A node with three pods that serve, one that does not, and two hosts beside it.
pub(crate) struct Bed {
    pub(crate) node: Place,
    pub(crate) pods: Vec<Place>,
    pub(crate) client: Place,
    pub(crate) other: Place,
    _underlays: Underlays,
}

impl Bed {
    pub(crate) fn new() -> Self {
        let underlays = Underlays::new();
        let (node, client, mut other) = (Place::new(), Place::new(), Place::new());
        for (number, place) in [(1, &node), (2, &client), (3, &other)] {
            underlays.plug(number, &place.netns);
        }
        node.netns
            .run(|| {
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
                std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            })
            .unwrap();
        for beside in [&client, &other] {
            beside
                .netns
                .run(|| {
                    for service in ["10.96.0.0/16", "203.0.113.0/24"] {
                        run(&format!("ip route add {service} via 192.0.2.1"));
                    }
                    run("ip route add fd00:96::/64 via 2001:db8:a::1");
                })
                .unwrap();
        }
        let mut pods: Vec<Place> = (1..=4).map(|number| pod(&node, number)).collect();
        for (name, pod) in (1..=3).zip(&mut pods) {
            pod.serve(name, PORT);
        }
        other.serve(3, PORT);
        Self { node, pods, client, other, _underlays: underlays }
    }
}

fn pod(node: &Place, number: u8) -> Place {
    let place = Place::new();
    let link = format!("cni{number:012x}");
    cable((&node.netns, &link), (&place.netns, "eth0"));
    node.netns
        .run(|| {
            run(&format!("ip link set {link} up"));
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/proxy_arp"), "1").unwrap();
            run(&format!("ip address add fe80::1/64 dev {link} nodad"));
            run(&format!("ip route add 10.244.1.{number} dev {link}"));
            run(&format!("ip route add fd00:1::{number} dev {link}"));
        })
        .unwrap();
    place
        .netns
        .run(|| {
            run("ip link set lo up");
            run("ip link set eth0 up");
            run(&format!("ip address add 10.244.1.{number}/32 dev eth0"));
            run(&format!("ip address add fd00:1::{number}/128 dev eth0 nodad"));
            run("ip route add 169.254.1.1 dev eth0 scope link");
            run("ip route add default via 169.254.1.1");
            run("ip route add ::/0 via fe80::1 dev eth0");
        })
        .unwrap();
    place
}
