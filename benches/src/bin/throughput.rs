//! Throughput and latency between pods of two nodes and of one, beside the same made by hand with `ip`. Never asserts.
//!
//! ```text
//! cargo build --release -p cnidarian-agent
//! cargo build --profile shim -p cnidarian-cni --target x86_64-unknown-linux-musl
//! cargo run --release -p benches --bin throughput        # as root, with Debian's iperf3 and iproute2
//! throughput 11 "vxlan by hand" "ebpf vxlan"             # so many rounds, of those whose names have one of these in them
//! ```
//! Everything runs on one machine, so a datagram is on its way to the other pod's socket while `send` has not returned: the
//! sending thread's own time for many of them is what the way costs, however busy the machine is. Round trips have the waking of both
//! ends in them.
#![forbid(unsafe_code)]

use benches::programs;
use benches::stats::{Table, quantile};
use net_linux::netns::NetNs;
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use testlab::lab::{Fabric, Lab};
use testlab::probe::{PORT, Patience, Protocol, Responder, probe_all};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
const SECONDS: &str = "3";
/// Round trips of one round.
const TRIPS: usize = 1000;
/// Datagrams of one burst, and bursts of one round.
const DATAGRAMS: u32 = 1000;
const BURSTS: usize = 20;
/// Where datagrams go that nobody answers.
const SINK: u16 = 7778;

/// One pod and whom it talks to: a pod of another node and one of its own, however they came about.
struct Cluster {
    name: &'static str,
    from: NetNs,
    far: Peer,
    near: Peer,
    /// What keeps it alive.
    _owner: Box<dyn std::any::Any>,
}

struct Peer {
    pod: NetNs,
    address: IpAddr,
    tcp: Vec<f64>,
    /// Round trips of one connection over TCP, all of them.
    asked: Vec<Duration>,
    /// Round trips of sockets that are new.
    new: Vec<Duration>,
    /// Round trips of one socket.
    latency: Vec<Duration>,
    /// One way, of one socket.
    datagram: Vec<Duration>,
}

impl Peer {
    fn new(pod: NetNs, address: IpAddr) -> Peer {
        Peer {
            pod,
            address,
            tcp: Vec::new(),
            asked: Vec::new(),
            new: Vec::new(),
            latency: Vec::new(),
            datagram: Vec::new(),
        }
    }
}

/// What is measured: by hand, or (backend, its section, policy).
type Way = Option<(&'static str, &'static str, &'static str)>;

const WAYS: &[(&str, Way)] = &[
    ("VXLAN by hand", None),
    (MASQUERADING, None),
    (ROUTES, None),
    ("cnidarian vxlan", Some(("vxlan", "{mode: vxlan}", "nftables"))),
    ("cnidarian vxlan, trackOuterPackets", Some(("vxlan", "{mode: vxlan, trackOuterPackets: true}", "nftables"))),
    ("cnidarian ebpf vxlan", Some(("ebpf", "{mode: vxlan}", "ebpf"))),
    ("cnidarian ebpf vxlan, fastPath", Some(("ebpf", "{mode: vxlan, fastPath: true}", "ebpf"))),
    ("cnidarian host-gw", Some(("vxlan", "{mode: host-gw}", "nftables"))),
    ("cnidarian ebpf native", Some(("ebpf", "{mode: native}", "ebpf"))),
    ("cnidarian ebpf native, fastPath", Some(("ebpf", "{mode: native, fastPath: true}", "ebpf"))),
    ("cnidarian udp", Some(("vxlan", "{mode: udp}", "nftables"))),
];

/// The one that does the same work as ours.
const MASQUERADING: &str = "VXLAN by hand, masquerading";

/// Without a tunnel.
const ROUTES: &str = "routes by hand";

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let asked: Vec<String> = arguments.collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|part| name.contains(part.as_str()));
    let ways = WAYS.iter().filter(|(name, _)| is_asked(name));
    let made = ways.map(|(name, way)| match way {
        None => by_hand(name),
        Some((backend, config, policy)) => lab(name, backend, config, policy),
    });
    let mut clusters = made.collect::<Result<Vec<_>, _>>()?;
    if clusters.is_empty() {
        return Err(format!("none of the names has one of {asked:?} in it").into());
    }
    for round in 0..rounds {
        for cluster in &mut clusters {
            eprintln!("round {} of {rounds}: {}", round + 1, cluster.name);
            measure(&cluster.from, &mut cluster.far)?;
            measure(&cluster.from, &mut cluster.near)?;
        }
    }
    println!(
        "one TCP stream of {SECONDS} s, medians of {rounds} rounds; IPv4, 2 nodes, one segment; ratios in brackets"
    );
    println!("between nodes\n{}", table(&clusters, |cluster| &cluster.far));
    println!("inside a node\n{}", table(&clusters, |cluster| &cluster.near));
    Ok(())
}

/// Ratios are to the masquerading one, or to the first.
fn table(clusters: &[Cluster], peer: impl Fn(&Cluster) -> &Peer) -> Table {
    let mut table = Table::new(&[
        "",
        "TCP Gbit/s",
        "TCP round trip µs, p50",
        "p99",
        "UDP round trip µs",
        "of a new socket",
        "ns of a datagram one way",
    ]);
    let base = clusters.iter().find(|cluster| cluster.name == MASQUERADING).unwrap_or(&clusters[0]);
    for cluster in clusters {
        let (own, base) = (peer(cluster), peer(base));
        let (tcp, base_tcp) = (median(&own.tcp), median(&base.tcp));
        let at = |of: fn(&Peer) -> &Vec<Duration>, part: f64, unit: f64, digits: usize| {
            let [own, base] = [own, base].map(|peer| quantile(of(peer), part).as_secs_f64());
            format!("{:.digits$} ({:.2})", own * unit, own / base)
        };
        let time = |of, unit, digits| at(of, 0.5, unit, digits);
        table.row(&[
            cluster.name.to_owned(),
            format!("{tcp:.2} ({:.2})", tcp / base_tcp),
            at(|peer| &peer.asked, 0.5, 1e6, 1),
            at(|peer| &peer.asked, 0.99, 1e6, 1),
            time(|peer| &peer.latency, 1e6, 1),
            time(|peer| &peer.new, 1e6, 1),
            time(|peer| &peer.datagram, 1e9 / f64::from(DATAGRAMS), 0),
        ]);
    }
    table
}

fn measure(from: &NetNs, peer: &mut Peer) -> Result<(), AnyError> {
    peer.tcp.push(iperf(from, peer)?);
    let asked = of_one_connection(from, peer)?;
    peer.asked.extend(asked);
    peer.new.push(of_new_sockets(from, peer)?);
    peer.latency.push(of_one_socket(from, peer)?);
    let bursts = one_way(from, peer)?;
    peer.datagram.extend(bursts);
    Ok(())
}

fn median(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn scenario(backend: &str, config: &str, policy: &str) -> Result<Scenario, AnyError> {
    let text = format!(
        "name: throughput\nnodes: [{{name: node-1}}, {{name: node-2}}]\nbackend: {backend}\nbackendConfig: {config}\n\
         policy: {policy}\n\
         pods: [{{name: a, node: node-1}}, {{name: b, node: node-2}}, {{name: c, node: node-1}}]\n"
    );
    Ok(Scenario::parse(&text)?)
}

fn lab(name: &'static str, backend: &str, config: &str, policy: &str) -> Result<Cluster, AnyError> {
    let cancel = AtomicBool::new(false);
    let lab = Lab::start(scenario(backend, config, policy)?, &programs::release(), &Registry::open()?, false, &cancel)?;
    // Also waits until both know each other.
    lab.probe(&cancel)?;
    let [from, far, near] = &lab.pods[..] else {
        return Err("the scenario has three pods".into());
    };
    let (far, near) =
        (Peer::new(far.namespace.clone(), far.addresses[0]), Peer::new(near.namespace.clone(), near.addresses[0]));
    Ok(Cluster { name, from: from.namespace.clone(), far, near, _owner: Box::new(lab) })
}

/// What an administrator would type: veth, addresses, routes; one VXLAN device and static entries, or the other node as next hop.
fn by_hand(name: &'static str) -> Result<Cluster, AnyError> {
    let mtu = if name == ROUTES { 1500 } else { 1450 };
    let scenario = scenario("vxlan", "{}", "none")?;
    let fabric = Fabric::build(&scenario)?;
    let [from, far, near] = [NetNs::new()?, NetNs::new()?, NetNs::new()?];
    for (here, node) in fabric.nodes.iter().enumerate() {
        let there = 1 - here;
        let ((own, _), (peer, _)) = (scenario.node_addresses(here), scenario.node_addresses(there));
        if name == ROUTES {
            run(node, "ip", &format!("route add 10.50.{there}.0/24 via {peer}"))?;
        } else {
            tunnel(node, (here, own), (there, peer))?;
        }
        run(node, "sysctl", "-qw net.ipv4.ip_forward=1")?;
        if name == MASQUERADING {
            // What a cluster needs besides: it brings connection tracking with it.
            run(node, "nft", "add table ip nat")?;
            run(node, "nft", "add chain ip nat post { type nat hook postrouting priority srcnat; }")?;
            run(node, "nft", "add rule ip nat post ip saddr 10.50.0.0/16 ip daddr != 10.50.0.0/16 masquerade")?;
        }
    }
    plug(&fabric.nodes[0], &from, "10.50.0.2", mtu)?;
    plug(&fabric.nodes[0], &near, "10.50.0.3", mtu)?;
    plug(&fabric.nodes[1], &far, "10.50.1.2", mtu)?;
    let (far, near) = (Peer::new(far, "10.50.1.2".parse()?), Peer::new(near, "10.50.0.3".parse()?));
    Ok(Cluster { name, from, far, near, _owner: Box::new(fabric) })
}

/// A tunnel to the other node.
fn tunnel(node: &NetNs, (here, own): (usize, Ipv4Addr), (there, peer): (usize, Ipv4Addr)) -> Result<(), AnyError> {
    let lines = [
        format!("link add vx0 type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning"),
        format!("link set vx0 address 02:00:00:00:00:0{here} up"),
        format!("address add 10.50.{here}.0/32 dev vx0"),
        format!("neigh add 10.50.{there}.0 lladdr 02:00:00:00:00:0{there} dev vx0 nud permanent"),
        format!("route add 10.50.{there}.0/24 via 10.50.{there}.0 dev vx0 onlink"),
    ];
    lines.iter().try_for_each(|words| run(node, "ip", words))?;
    run(node, "bridge", &format!("fdb add 02:00:00:00:00:0{there} dev vx0 dst {peer} self permanent"))
}

/// A pod with this address at a node.
fn plug(node: &NetNs, pod: &NetNs, address: &str, mtu: u16) -> Result<(), AnyError> {
    std::fs::create_dir_all("/run/netns")?;
    let pinned = format!("/run/netns/throughput-{}-{address}", std::process::id());
    pod.pin(&pinned)?;
    let netns = pinned.trim_start_matches("/run/netns/");
    let link = format!("pod{}", address.rsplit('.').next().unwrap_or_default());
    let result = (|| {
        run(node, "ip", &format!("link add {link} type veth peer name eth0 netns {netns}"))?;
        run(node, "ip", &format!("link set {link} up"))?;
        run(node, "ip", &format!("route add {address}/32 dev {link}"))?;
        run(node, "sysctl", &format!("-qw net.ipv4.conf.{link}.proxy_arp=1"))
    })();
    NetNs::unpin(&pinned)?;
    result?;
    let inside = [
        "link set lo up",
        &format!("link set eth0 mtu {mtu} up"),
        &format!("address add {address}/32 dev eth0"),
        "route add 169.254.1.1 dev eth0",
        "route add default via 169.254.1.1 dev eth0",
    ];
    inside.iter().try_for_each(|words| run(pod, "ip", words))
}

fn run(namespace: &NetNs, program: &str, words: &str) -> Result<(), AnyError> {
    let status = namespace.spawn(Command::new(program).args(words.split(' ')))?.wait()?;
    if status.success() { Ok(()) } else { Err(format!("{program} {words}: {status}").into()) }
}

/// A child that is ended with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gigabits a second of one TCP stream.
fn iperf(from: &NetNs, peer: &Peer) -> Result<f64, AnyError> {
    let mut server = Command::new("iperf3");
    let _server = Server(peer.pod.spawn(server.args(["-s", "-1", "-p", "5201"]).stdout(Stdio::null()))?);
    let address = peer.address.to_string();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Command::new("iperf3");
        client.args(["-c", &address, "-p", "5201", "-t", SECONDS, "-J"]).stdout(Stdio::piped());
        let output = from.spawn(&mut client)?.wait_with_output()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        match answer["end"]["sum_received"]["bits_per_second"].as_f64() {
            Some(rate) => return Ok(rate / 1e9),
            // The server is not listening yet.
            None if Instant::now() < deadline => {}
            None => return Err(format!("iperf3: {}", answer["error"]).into()),
        }
    }
}

/// Round trips of a byte over one connection.
fn of_one_connection(from: &NetNs, peer: &Peer) -> Result<Vec<Duration>, AnyError> {
    let listener = peer.pod.run(|| TcpListener::bind((peer.address, SINK)))??;
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        // Until the other end closes.
        while stream.read(&mut byte)? > 0 {
            stream.write_all(&byte)?;
        }
        std::io::Result::Ok(())
    });
    let mut times = Vec::with_capacity(TRIPS);
    {
        let mut stream = from.run(|| TcpStream::connect((peer.address, SINK)))??;
        stream.set_nodelay(true)?;
        for _ in 0..TRIPS {
            let start = Instant::now();
            stream.write_all(b"?")?;
            stream.read_exact(&mut [0])?;
            times.push(start.elapsed());
        }
    }
    answering.join().map_err(|_| "the answering thread panicked")??;
    Ok(times)
}

/// The median of UDP round trips, each of a new socket.
fn of_new_sockets(from: &NetNs, peer: &Peer) -> Result<Duration, AnyError> {
    let _responder = Responder::start(&peer.pod)?;
    let patience = Patience { timeout: Duration::from_secs(1), samples: TRIPS };
    let mut answers = probe_all(from, &[(Protocol::Udp, peer.address)], patience)?;
    Ok(answers.remove(0)?)
}

/// The same of one socket.
fn of_one_socket(from: &NetNs, peer: &Peer) -> Result<Duration, AnyError> {
    let _responder = Responder::start(&peer.pod)?;
    let socket = connected(from, SocketAddr::new(peer.address, PORT))?;
    let mut times = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        let start = Instant::now();
        socket.send(b"?")?;
        socket.recv(&mut [0; 64])?;
        times.push(start.elapsed());
    }
    Ok(quantile(&times, 0.5))
}

/// Many datagrams one way, after an answer was seen. What the receiver has no room for has come all the way too.
fn one_way(from: &NetNs, peer: &Peer) -> Result<Vec<Duration>, AnyError> {
    let target = SocketAddr::new(peer.address, SINK);
    let receiver = peer.pod.run(|| UdpSocket::bind(target))??;
    let sender = connected(from, target)?;
    sender.send(b"?")?;
    let (_, seen_as) = receiver.recv_from(&mut [0; 8])?;
    receiver.send_to(b"!", seen_as)?;
    sender.recv(&mut [0; 8])?;
    let burst = || {
        let start = of_thread();
        (0..DATAGRAMS).try_for_each(|_| sender.send(b"?").map(drop))?;
        Ok(of_thread().saturating_sub(start))
    };
    (0..BURSTS).map(|_| burst()).collect()
}

/// Processor time of this thread, with what the kernel did on its way.
fn of_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn connected(from: &NetNs, to: SocketAddr) -> Result<UdpSocket, AnyError> {
    let socket = from.run(|| UdpSocket::bind(("0.0.0.0", 0)))??;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(to)?;
    Ok(socket)
}
