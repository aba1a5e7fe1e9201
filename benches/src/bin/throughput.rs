//! Throughput and latency between pods of two nodes, beside the same VXLAN made by hand with `ip`. Never asserts.
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

/// Two pods on two nodes, however they came about.
struct Pair {
    name: &'static str,
    from: NetNs,
    to: NetNs,
    address: IpAddr,
    /// What keeps it alive.
    _owner: Box<dyn std::any::Any>,
    tcp: Vec<f64>,
    latency: Vec<Duration>,
}

fn main() -> Result<(), AnyError> {
    let mut pairs = vec![
        by_hand("VXLAN by hand", false)?,
        by_hand("VXLAN by hand, masquerading", true)?,
        lab("cnidarian vxlan", "{mode: vxlan}")?,
        lab("cnidarian vxlan, trackOuterPackets", "{mode: vxlan, trackOuterPackets: true}")?,
        lab("cnidarian host-gw", "{mode: host-gw}")?,
        lab("cnidarian udp", "{mode: udp}")?,
    ];
    for round in 0..ROUNDS {
        for pair in &mut pairs {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, pair.name);
            pair.tcp.push(iperf(pair)?);
            pair.latency.push(latency(pair)?);
        }
    }
    let mut table = Table::new(&["", "TCP Gbit/s", "to by hand", "UDP round trip p50 µs", "to by hand"]);
    // The one that does the same work.
    let (tcp, round_trip) = (best(&pairs[1].tcp), quantile(&pairs[1].latency, 0.5));
    for pair in &pairs {
        let (own_tcp, own_trip) = (best(&pair.tcp), quantile(&pair.latency, 0.5));
        table.row(&[
            pair.name.to_owned(),
            format!("{own_tcp:.2}"),
            format!("{:.2}", own_tcp / tcp),
            format!("{:.1}", own_trip.as_secs_f64() * 1e6),
            format!("{:.2}", own_trip.as_secs_f64() / round_trip.as_secs_f64()),
        ]);
    }
    println!(
        "ratios are to the masquerading one; one TCP stream of {SECONDS} s, the median of {ROUNDS} rounds; IPv4, 2 nodes, one segment"
    );
    println!("{table}");
    Ok(())
}

fn best(rates: &[f64]) -> f64 {
    let mut rates = rates.to_vec();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn scenario(config: &str) -> Result<Scenario, AnyError> {
    let text = format!(
        "name: throughput\nnodes: [{{name: node-1}}, {{name: node-2}}]\nbackend: vxlan\nbackendConfig: {config}\n\
         pods: [{{name: a, node: node-1}}, {{name: b, node: node-2}}]\n"
    );
    Ok(Scenario::parse(&text)?)
}

fn lab(name: &'static str, config: &str) -> Result<Pair, AnyError> {
    let cancel = AtomicBool::new(false);
    let lab = Lab::start(scenario(config)?, &programs::release(), &Registry::open()?, false, &cancel)?;
    // Also waits until both know each other.
    lab.probe(&cancel)?;
    let (from, to) = (lab.pods[0].namespace.clone(), lab.pods[1].namespace.clone());
    let address = lab.pods[1].addresses[0];
    Ok(Pair { name, from, to, address, _owner: Box::new(lab), tcp: Vec::new(), latency: Vec::new() })
}

/// What an administrator would type: veth, addresses, routes, one VXLAN device, static entries.
fn by_hand(name: &'static str, masquerade: bool) -> Result<Pair, AnyError> {
    let scenario = scenario("{}")?;
    let fabric = Fabric::build(&scenario)?;
    let pods = [NetNs::new()?, NetNs::new()?];
    for (here, pod) in pods.iter().enumerate() {
        let there = 1 - here;
        let ((own, _), (peer, _)) = (scenario.node_addresses(here), scenario.node_addresses(there));
        let node = &fabric.nodes[here];
        std::fs::create_dir_all("/run/netns")?;
        let pinned = format!("/run/netns/throughput-{}-{here}", std::process::id());
        pod.pin(&pinned)?;
        let netns = pinned.trim_start_matches("/run/netns/");
        let commands = [
            format!("link add pod type veth peer name eth0 netns {netns}"),
            "link set pod up".to_owned(),
            format!("route add 10.50.{here}.2/32 dev pod"),
            format!("link add vx0 type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning"),
            format!("link set vx0 address 02:00:00:00:00:0{here} up"),
            format!("address add 10.50.{here}.0/32 dev vx0"),
            format!("neigh add 10.50.{there}.0 lladdr 02:00:00:00:00:0{there} dev vx0 nud permanent"),
            format!("route add 10.50.{there}.0/24 via 10.50.{there}.0 dev vx0 onlink"),
        ];
        let inside = [
            "link set lo up".to_owned(),
            "link set eth0 mtu 1450 up".to_owned(),
            format!("address add 10.50.{here}.2/32 dev eth0"),
            "route add 169.254.1.1 dev eth0".to_owned(),
            "route add default via 169.254.1.1 dev eth0".to_owned(),
        ];
        let result = (|| {
            commands.iter().try_for_each(|words| run(node, "ip", words))?;
            inside.iter().try_for_each(|words| run(pod, "ip", words))?;
            run(node, "bridge", &format!("fdb add 02:00:00:00:00:0{there} dev vx0 dst {peer} self permanent"))?;
            run(node, "sysctl", "-qw net.ipv4.ip_forward=1 net.ipv4.conf.pod.proxy_arp=1")
        })();
        NetNs::unpin(&pinned)?;
        result?;
        if masquerade {
            // What a cluster needs besides: it brings connection tracking with it.
            run(node, "nft", "add table ip nat")?;
            run(node, "nft", "add chain ip nat post { type nat hook postrouting priority srcnat; }")?;
            run(node, "nft", "add rule ip nat post ip saddr 10.50.0.0/16 ip daddr != 10.50.0.0/16 masquerade")?;
        }
    }
    let [from, to] = pods;
    let address = "10.50.1.2".parse()?;
    Ok(Pair { name, from, to, address, _owner: Box::new(fabric), tcp: Vec::new(), latency: Vec::new() })
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
fn iperf(pair: &Pair) -> Result<f64, AnyError> {
    let mut server = Command::new("iperf3");
    let _server = Server(pair.to.spawn(server.args(["-s", "-1", "-p", "5201"]).stdout(Stdio::null()))?);
    let address = pair.address.to_string();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut client = Command::new("iperf3");
        client.args(["-c", &address, "-p", "5201", "-t", SECONDS, "-J"]).stdout(Stdio::piped());
        let output = pair.from.spawn(&mut client)?.wait_with_output()?;
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
fn latency(pair: &Pair) -> Result<Duration, AnyError> {
    let _responder = Responder::start(&pair.to)?;
    let patience = Patience { timeout: Duration::from_secs(1), samples: 1000 };
    let mut answers = probe_all(&pair.from, &[(Protocol::Udp, pair.address)], patience)?;
    Ok(answers.remove(0)?)
}
