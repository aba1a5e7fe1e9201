//! Throughput and latency between pods of two nodes and of one, beside the same made by hand with `ip`. Never asserts.
//!
//! ```text
//! cargo build --release -p cnidarian-agent
//! cargo build --profile shim -p cnidarian-cni --target x86_64-unknown-linux-musl
//! cargo run --release -p benches --bin throughput        # as root, with Debian's iperf3 and iproute2
//! ```
#![forbid(unsafe_code)]

use benches::programs;
use benches::stats::{Table, quantile};
use net_linux::netns::NetNs;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use testlab::lab::{Fabric, Lab};
use testlab::probe::{Patience, Protocol, Responder, probe_all};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 3;
const SECONDS: &str = "3";

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
    latency: Vec<Duration>,
}

impl Peer {
    fn new(pod: NetNs, address: IpAddr) -> Peer {
        Peer { pod, address, tcp: Vec::new(), latency: Vec::new() }
    }
}

fn main() -> Result<(), AnyError> {
    let mut clusters = vec![
        by_hand("VXLAN by hand", false)?,
        by_hand("VXLAN by hand, masquerading", true)?,
        lab("cnidarian vxlan", "vxlan", "{mode: vxlan}", "nftables")?,
        lab("cnidarian vxlan, trackOuterPackets", "vxlan", "{mode: vxlan, trackOuterPackets: true}", "nftables")?,
        lab("cnidarian ebpf vxlan", "ebpf", "{mode: vxlan}", "ebpf")?,
        lab("cnidarian ebpf vxlan, fastPath", "ebpf", "{mode: vxlan, fastPath: true}", "ebpf")?,
        lab("cnidarian host-gw", "vxlan", "{mode: host-gw}", "nftables")?,
        lab("cnidarian ebpf native", "ebpf", "{mode: native}", "ebpf")?,
        lab("cnidarian ebpf native, fastPath", "ebpf", "{mode: native, fastPath: true}", "ebpf")?,
        lab("cnidarian udp", "vxlan", "{mode: udp}", "nftables")?,
    ];
    for round in 0..ROUNDS {
        for cluster in &mut clusters {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, cluster.name);
            measure(&cluster.from, &mut cluster.far)?;
            measure(&cluster.from, &mut cluster.near)?;
        }
    }
    println!(
        "ratios are to the masquerading one; one TCP stream of {SECONDS} s, the median of {ROUNDS} rounds; IPv4, 2 nodes, one segment"
    );
    println!("between nodes\n{}", table(&clusters, |cluster| &cluster.far));
    println!("inside a node\n{}", table(&clusters, |cluster| &cluster.near));
    Ok(())
}

fn table(clusters: &[Cluster], peer: impl Fn(&Cluster) -> &Peer) -> Table {
    let mut table = Table::new(&["", "TCP Gbit/s", "to by hand", "UDP round trip p50 µs", "to by hand"]);
    // The one that does the same work.
    let base = peer(&clusters[1]);
    let (tcp, round_trip) = (best(&base.tcp), quantile(&base.latency, 0.5));
    for cluster in clusters {
        let own = peer(cluster);
        let (own_tcp, own_trip) = (best(&own.tcp), quantile(&own.latency, 0.5));
        table.row(&[
            cluster.name.to_owned(),
            format!("{own_tcp:.2}"),
            format!("{:.2}", own_tcp / tcp),
            format!("{:.1}", own_trip.as_secs_f64() * 1e6),
            format!("{:.2}", own_trip.as_secs_f64() / round_trip.as_secs_f64()),
        ]);
    }
    table
}

fn measure(from: &NetNs, peer: &mut Peer) -> Result<(), AnyError> {
    peer.tcp.push(iperf(from, peer)?);
    peer.latency.push(latency(from, peer)?);
    Ok(())
}

fn best(rates: &[f64]) -> f64 {
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

/// What an administrator would type: veth, addresses, routes, one VXLAN device, static entries.
fn by_hand(name: &'static str, masquerade: bool) -> Result<Cluster, AnyError> {
    let scenario = scenario("vxlan", "{}", "none")?;
    let fabric = Fabric::build(&scenario)?;
    let [from, far, near] = [NetNs::new()?, NetNs::new()?, NetNs::new()?];
    for (here, node) in fabric.nodes.iter().enumerate() {
        let there = 1 - here;
        let ((own, _), (peer, _)) = (scenario.node_addresses(here), scenario.node_addresses(there));
        let tunnel = [
            format!("link add vx0 type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning"),
            format!("link set vx0 address 02:00:00:00:00:0{here} up"),
            format!("address add 10.50.{here}.0/32 dev vx0"),
            format!("neigh add 10.50.{there}.0 lladdr 02:00:00:00:00:0{there} dev vx0 nud permanent"),
            format!("route add 10.50.{there}.0/24 via 10.50.{there}.0 dev vx0 onlink"),
        ];
        tunnel.iter().try_for_each(|words| run(node, "ip", words))?;
        run(node, "bridge", &format!("fdb add 02:00:00:00:00:0{there} dev vx0 dst {peer} self permanent"))?;
        run(node, "sysctl", "-qw net.ipv4.ip_forward=1")?;
        if masquerade {
            // What a cluster needs besides: it brings connection tracking with it.
            run(node, "nft", "add table ip nat")?;
            run(node, "nft", "add chain ip nat post { type nat hook postrouting priority srcnat; }")?;
            run(node, "nft", "add rule ip nat post ip saddr 10.50.0.0/16 ip daddr != 10.50.0.0/16 masquerade")?;
        }
    }
    plug(&fabric.nodes[0], &from, "10.50.0.2")?;
    plug(&fabric.nodes[0], &near, "10.50.0.3")?;
    plug(&fabric.nodes[1], &far, "10.50.1.2")?;
    let (far, near) = (Peer::new(far, "10.50.1.2".parse()?), Peer::new(near, "10.50.0.3".parse()?));
    Ok(Cluster { name, from, far, near, _owner: Box::new(fabric) })
}

/// A pod with this address at a node.
fn plug(node: &NetNs, pod: &NetNs, address: &str) -> Result<(), AnyError> {
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
        "link set eth0 mtu 1450 up",
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

/// The median of a thousand UDP round trips.
fn latency(from: &NetNs, peer: &Peer) -> Result<Duration, AnyError> {
    let _responder = Responder::start(&peer.pod)?;
    let patience = Patience { timeout: Duration::from_secs(1), samples: 1000 };
    let mut answers = probe_all(from, &[(Protocol::Udp, peer.address)], patience)?;
    Ok(answers.remove(0)?)
}
