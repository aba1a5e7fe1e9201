//! A node with pods and an outside, in namespaces, with the engine on the node. Never a policy of its own.

use crate::bed::{block_on, run};
use crate::items::endpoint;
use cni_core::backend::{Change, CommitReport};
use cni_core::policy::program::{EndpointProgram, PolicyEngine, PolicyItem};
use net_linux::netns::NetNs;
use policy_nftables::config::Config;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

pub(crate) const PORTS: [u16; 2] = [80, 81];
/// How long a packet may take in one machine, and how long we wait for one that must not come.
const SOON: Duration = Duration::from_millis(400);
const POLL: Duration = Duration::from_millis(5);

/// A namespace with echo servers on [`PORTS`].
pub(crate) struct Host {
    pub(crate) netns: NetNs,
    pub(crate) addresses: [IpAddr; 2],
    stop: Arc<AtomicBool>,
    servers: Vec<JoinHandle<()>>,
}

impl Host {
    fn serve(netns: NetNs, addresses: [&str; 2]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let servers = netns.run(|| PORTS.map(|port| servers(port, &stop)).into_iter().flatten().collect()).unwrap();
        Self { netns, addresses: addresses.map(|address| address.parse().unwrap()), stop, servers }
    }

    /// Whether a TCP connection to there is answered.
    pub(crate) fn tcp(&self, to: IpAddr, port: u16) -> bool {
        self.netns.run(|| Stream::open(to, port).is_some_and(|mut stream| stream.echoes())).unwrap()
    }

    /// Whether a datagram to there comes back.
    pub(crate) fn udp(&self, to: IpAddr, port: u16) -> bool {
        self.datagrams(to, port).echoes()
    }

    /// A socket for datagrams to there.
    pub(crate) fn datagrams(&self, to: IpAddr, port: u16) -> Datagrams {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = self.netns.run(|| UdpSocket::bind(any).unwrap()).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Datagrams { socket, to: SocketAddr::new(to, port) }
    }

    pub(crate) fn ping(&self, to: IpAddr) -> bool {
        let to = to.to_string();
        self.netns.run(|| crate::bed::try_run("ping", &["-n", "-c", "1", "-W", "1", &to]).is_ok()).unwrap()
    }

    /// An open connection that echoes.
    pub(crate) fn connect(&self, to: IpAddr, port: u16) -> Stream {
        self.netns.run(|| Stream::open(to, port)).unwrap().expect("the connection is allowed")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for server in self.servers.drain(..) {
            let _ = server.join();
        }
    }
}

/// A socket for datagrams to one place.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Datagrams {
    /// The port that it sends from.
    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    pub(crate) fn echoes(&self) -> bool {
        self.socket.send_to(b"x", self.to).is_ok() && self.socket.recv(&mut [0; 8]).is_ok()
    }
}

/// An open TCP connection.
pub(crate) struct Stream(TcpStream);

impl Stream {
    fn open(to: IpAddr, port: u16) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), SOON).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        Some(Self(stream))
    }

    /// Whether it goes on after it was cut: the sender tries again ever more rarely.
    pub(crate) fn resumes(&mut self) -> bool {
        (0..15).any(|_| self.echoes())
    }

    pub(crate) fn echoes(&mut self) -> bool {
        self.0.write_all(b"x").is_ok() && self.0.read_exact(&mut [0]).is_ok()
    }
}

fn servers(port: u16, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let (listener, socket) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
    listener.set_nonblocking(true).unwrap();
    socket.set_read_timeout(Some(POLL)).unwrap();
    let (tcp, udp) = (stop.clone(), stop.clone());
    vec![
        std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !tcp.load(Ordering::Acquire) {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                streams.retain_mut(|stream| {
                    let mut buffer = [0; 64];
                    match stream.read(&mut buffer) {
                        Ok(0) => false,
                        Ok(length) => stream.write_all(&buffer[..length]).is_ok(),
                        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
                    }
                });
                std::thread::sleep(POLL / 5);
            }
        }),
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !udp.load(Ordering::Acquire) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        }),
    ]
}

/// The node: pods `a` and `b`, and an outside, all connected by plain routes.
pub(crate) struct Node {
    pub(crate) node: Host,
    pub(crate) a: Host,
    pub(crate) b: Host,
    pub(crate) outside: Host,
    pub(crate) engine: Box<dyn PolicyEngine>,
}

pub(crate) const A: &str = "cni00000000000a";
pub(crate) const B: &str = "cni00000000000b";

/// A pod's end of a veth and the node's, with routes and neighbours, as an attachment makes them.
fn attach(node: &NetNs, interface: &str, addresses: [&str; 2]) -> NetNs {
    let pod = NetNs::new().unwrap();
    let [v4, v6] = addresses;
    pod.run(|| {
        run("ip link set lo up");
        run(&format!("ip link add eth0 type veth peer name {interface}"));
    })
    .unwrap();
    let path = "/proc/thread-self/ns/net";
    node.run(|| {
        let here = std::fs::File::open(path).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&here);
        let target = format!("/proc/{}/fd/{fd}", std::process::id());
        pod.run(|| run(&format!("ip link set {interface} netns {target}"))).unwrap();
        run(&format!("ip link set {interface} address 02:00:00:00:00:fe up"));
        run(&format!("ip address add fe80::1/64 dev {interface} nodad"));
        run(&format!("ip route add {v4}/32 dev {interface}"));
        run(&format!("ip -6 route add {v6}/128 dev {interface}"));
    })
    .unwrap();
    pod.run(|| {
        run("ip link set eth0 up");
        run(&format!("ip address add {v4}/32 dev eth0"));
        run(&format!("ip address add {v6}/128 dev eth0 nodad"));
        run("ip route add 169.254.1.1 dev eth0 scope link");
        run("ip route add default via 169.254.1.1");
        run("ip neigh add 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:fe nud permanent");
        // The gateway of IPv6 is found by neighbour discovery.
        run("ip -6 route add default via fe80::1 dev eth0");
    })
    .unwrap();
    pod
}

impl Node {
    pub(crate) fn new() -> Self {
        let (node, outside) = (NetNs::new().unwrap(), NetNs::new().unwrap());
        node.run(|| {
            run("ip link set lo up");
            run("ip link add eth0 type veth peer name far");
            for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/{setting}"), "1").unwrap();
            }
            run("ip address add 192.0.2.1/24 dev eth0");
            run("ip address add 2001:db8::1/64 dev eth0 nodad");
        })
        .unwrap();
        outside
            .run(|| {
                let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
                let fd = std::os::fd::AsRawFd::as_raw_fd(&here);
                let target = format!("/proc/{}/fd/{fd}", std::process::id());
                node.run(|| {
                    run(&format!("ip link set far netns {target}"));
                    run("ip link set eth0 up");
                })
                .unwrap();
                run("ip link set lo up");
                run("ip link set far up");
                run("ip address add 192.0.2.9/24 dev far");
                run("ip address add 2001:db8::9/64 dev far nodad");
                run("ip route add 10.9.0.0/16 via 192.0.2.1");
                run("ip -6 route add fd00::/16 via 2001:db8::1");
            })
            .unwrap();
        let a = Host::serve(attach(&node, A, ["10.9.0.1", "fd00::1"]), ["10.9.0.1", "fd00::1"]);
        let b = Host::serve(attach(&node, B, ["10.9.0.2", "fd00::2"]), ["10.9.0.2", "fd00::2"]);
        let engine = node.run(|| policy_nftables::open(&Config::default()).unwrap()).unwrap();
        let outside = Host::serve(outside, ["192.0.2.9", "2001:db8::9"]);
        Self { node: Host::serve(node, ["192.0.2.1", "2001:db8::1"]), a, b, outside, engine }
    }

    /// A node whose pods have programs without tiers.
    pub(crate) fn open_to_all() -> Self {
        let mut node = Self::new();
        let (a, b) = (node.endpoint_a(), node.endpoint_b());
        node.commit(vec![PolicyItem::Endpoint(a), PolicyItem::Endpoint(b)]);
        node
    }

    pub(crate) fn endpoint_a(&self) -> EndpointProgram {
        endpoint("a", A, &self.a.addresses)
    }

    pub(crate) fn endpoint_b(&self) -> EndpointProgram {
        endpoint("b", B, &self.b.addresses)
    }

    /// Another process takes over.
    pub(crate) fn restart(&mut self) {
        self.engine = self.node.netns.run(|| policy_nftables::open(&Config::default()).unwrap()).unwrap();
    }

    pub(crate) fn commit(&mut self, items: Vec<PolicyItem>) -> CommitReport {
        self.change(items.into_iter().map(Change::Put).collect())
    }

    pub(crate) fn change(&mut self, changes: Vec<Change<PolicyItem>>) -> CommitReport {
        for change in changes {
            self.engine.stage(change).unwrap();
        }
        self.engine.stage(Change::InSync).unwrap();
        let report = block_on(self.engine.commit());
        assert!(report.failed.is_empty() && report.deferred.is_empty() && report.blocked.is_empty(), "{report:#?}");
        report
    }

    pub(crate) fn nft(&self, script: &str) -> String {
        self.node.netns.run(|| crate::bed::nft(script).unwrap()).unwrap()
    }

    /// Packets that the rules with this comment counted, all together.
    pub(crate) fn counted(&self, comment: &str) -> u64 {
        let listed = self.nft("list table inet cnidarian");
        let of = |line: &str| {
            let (_, rest) = line.split_once("counter packets ")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        };
        let comment = format!("comment \"{comment}\"");
        listed.lines().filter(|line| line.contains(&comment)).filter_map(of).sum()
    }
}
