//! TCP connections and small messages through a service beside those to its endpoint: eBPF at sockets, nftables for clients outside,
//! IPVS where the kernel has it. All in turns, so that what else the machine does meets all of them. Never asserts a time.
//!
//! ```text
//! cargo build --release -p benches --bin connections
//! target/release/connections                                                # as root
//! cargo xtask vm run --kernel 6.12 -- target/release/connections            # with IPVS
//!
//! pod (10.244.0.2) ── cnia ─┐
//!                           ├─ node ── cnib ── endpoint (10.244.1.2:8080)
//! outside (192.0.2.2) ─ eth0┘
//! ```
#![forbid(unsafe_code)]

use backend_ebpf::service::EbpfServices;
use benches::place::apart;
use benches::stats::{Table, quantile};
use cni_core::backend::{Change, OpenRequest, ProxyBackend as _, ProxyParts, ServiceProxy};
use cni_core::model::{
    BackendUse, Conditions, EndpointId, FrontendKind, InterfaceName, NodeContext, NodeName, Scheduler, ServiceBackend,
    ServiceClient, ServiceItem, ServiceKey, ServiceName, TrafficScope, Underlay,
};
use cni_core::policy::model::Protocol;
use net_linux::netns::NetNs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};
use testlab::bed::{Cgroup, run};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ENDPOINT: &str = "10.244.1.2:8080";
const CLUSTER_IP: &str = "10.96.0.10:80";
const NODE_PORT: &str = "192.0.2.1:30080";
const OF_IPVS: &str = "10.96.0.11:80";
const ROUNDS: usize = 21;
/// Of each way in each round.
const CONNECTIONS: u32 = 200;
const MESSAGES: u32 = 1_000;
const MESSAGE: [u8; 64] = [7; 64];

/// A way to the endpoint, from a client.
struct Way {
    name: &'static str,
    client: NetNs,
    to: SocketAddr,
    /// What it is compared with: the way of the same client that needs no service.
    direct: usize,
    per_second: Vec<f64>,
    opened: Vec<Duration>,
    answered: Vec<Duration>,
    /// The medians of each round, in seconds: a connection, a message.
    medians: [Vec<f64>; 2],
}

fn main() -> Result<(), AnyError> {
    let cgroup = Cgroup::new().ok_or("needs cgroup v2")?;
    let home = entered(&cgroup.0)?;
    let measured = apart(|| measure(&cgroup.0));
    // An empty cgroup can be removed.
    std::fs::write(home, std::process::id().to_string())?;
    println!("{}", measured?);
    Ok(())
}

/// Moves this process into a cgroup. Answers where it was.
fn entered(cgroup: &Path) -> Result<std::path::PathBuf, AnyError> {
    let own = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("is in no cgroup v2")?;
    let root = cgroup.parent().ok_or("a cgroup has a parent")?;
    std::fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())?;
    Ok(root.join(own).join("cgroup.procs"))
}

fn measure(cgroup: &Path) -> Result<Table, AnyError> {
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let pod = wired("cnia", "10.244.0.1", "10.244.0.2")?;
    let server = wired("cnib", "10.244.1.1", "10.244.1.2")?;
    let outside = wired("eth0", "192.0.2.1", "192.0.2.2")?;
    server.run(|| serve(ENDPOINT))??;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _ebpf = runtime.block_on(with_ebpf(cgroup, &pod))?;
    let way = |name, client: &NetNs, to: &str, direct| -> Result<Way, AnyError> {
        let (per_second, opened, answered, medians) = Default::default();
        Ok(Way { name, client: client.clone(), to: to.parse()?, direct, per_second, opened, answered, medians })
    };
    let mut ways = vec![
        way("pod: direct", &pod, ENDPOINT, 0)?,
        way("pod: ClusterIP, eBPF at the socket", &pod, CLUSTER_IP, 0)?,
        way("outside: direct", &outside, ENDPOINT, 2)?,
        way("outside: NodePort, nftables", &outside, NODE_PORT, 2)?,
    ];
    let ipvs = runtime.block_on(with_ipvs());
    match &ipvs {
        Ok(_) => ways.push(way("outside: ClusterIP, IPVS", &outside, OF_IPVS, 2)?),
        Err(reason) => println!("without IPVS: {reason}"),
    }
    for round in 0..=ROUNDS {
        for way in &mut ways {
            let client = way.client.clone();
            let (opened, answered) = client.run(|| tried(way.to))??;
            // The first round warms up.
            if round > 0 {
                way.per_second.push(f64::from(CONNECTIONS) / opened.iter().sum::<Duration>().as_secs_f64());
                for (medians, times) in way.medians.iter_mut().zip([&opened, &answered]) {
                    medians.push(quantile(times, 0.5).as_secs_f64());
                }
                way.opened.extend(opened);
                way.answered.extend(answered);
            }
        }
    }
    EbpfServices.clear()?;
    Ok(table(&ways))
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn table(ways: &[Way]) -> Table {
    let mut table = Table::new(&[
        "",
        "connections/s",
        "one, p50 / p99 µs",
        "ratio",
        "64 bytes there and back, p50 / p99 µs",
        "ratio",
    ]);
    for way in ways {
        let direct = &ways[way.direct];
        // Of each round by itself, so that a busy moment counts for both.
        let ratio = |which: usize| {
            let rounds = way.medians[which].iter().zip(&direct.medians[which]);
            format!("{:.2}", median(rounds.map(|(own, of)| own / of).collect()))
        };
        let both = |times: &[Duration]| {
            let micros = |share| quantile(times, share).as_secs_f64() * 1e6;
            format!("{:.1} / {:.1}", micros(0.5), micros(0.99))
        };
        table.row(&[
            way.name.to_owned(),
            format!("{:.0}", median(way.per_second.clone())),
            both(&way.opened),
            ratio(0),
            both(&way.answered),
            ratio(1),
        ]);
    }
    table
}

/// A namespace behind an interface of the calling thread's.
fn wired(interface: &str, near: &str, far: &str) -> Result<NetNs, AnyError> {
    let namespace = NetNs::new()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    run(&format!("ip link add {interface} type veth peer name wire netns {path}"));
    run(&format!("ip address add {near}/24 dev {interface}"));
    run(&format!("ip link set {interface} up"));
    namespace.run(|| {
        run("ip link set lo up");
        run(&format!("ip address add {far}/24 dev wire"));
        run("ip link set wire up");
        run(&format!("ip route add default via {near}"));
    })?;
    Ok(namespace)
}

/// Says what it hears, one connection after the other, for as long as the process runs.
fn serve(at: &str) -> Result<(), AnyError> {
    let listener = TcpListener::bind(at)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            let mut message = MESSAGE;
            while stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_ok() {}
        }
    });
    Ok(())
}

/// How long connections took, each with one message there and back; and messages on one connection.
fn tried(to: SocketAddr) -> Result<(Vec<Duration>, Vec<Duration>), AnyError> {
    let once = |stream: &mut TcpStream| {
        let mut message = MESSAGE;
        stream.write_all(&message).and_then(|()| stream.read_exact(&mut message))
    };
    let mut opened = Vec::new();
    for _ in 0..CONNECTIONS {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(to)?;
        once(&mut stream)?;
        drop(stream);
        opened.push(begun.elapsed());
    }
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    let mut answered = Vec::new();
    for _ in 0..MESSAGES {
        let begun = Instant::now();
        once(&mut stream)?;
        answered.push(begun.elapsed());
    }
    Ok((opened, answered))
}

/// Services at sockets of the pod, and for clients outside.
async fn with_ebpf(cgroup: &Path, pod: &NetNs) -> Result<ProxyParts, AnyError> {
    let interface = InterfaceName::new("eth0")?;
    let underlay = Underlay { interface, index: 1, mtu_bytes: 1500, v4: Some("192.0.2.1/24".parse()?), v6: None };
    let node = NodeContext { name: NodeName::new("node-1")?, labels: Default::default(), underlay, masquerade: None };
    let config = serde_json::json!({ "cgroup": cgroup });
    let state_dir = std::env::temp_dir();
    let mut parts = EbpfServices.open(OpenRequest { node, config, state_dir, host_stack_for: Vec::new() }).await?;
    for (at, kind) in [(CLUSTER_IP, FrontendKind::ClusterIp), (NODE_PORT, FrontendKind::NodePort)] {
        parts.proxy.stage(Change::Put(item(at, kind)?))?;
    }
    parts.proxy.stage(Change::InSync)?;
    let clients = parts.clients.as_mut().ok_or("it serves sockets")?;
    clients.stage(Change::Put(ServiceClient {
        endpoint: EndpointId::of("pod", "eth0")?,
        netns_cookie: pod.cookie()?,
        netns_inode: pod.id().inode,
        addresses: vec!["10.244.0.2".parse()?],
    }))?;
    clients.stage(Change::InSync)?;
    for report in [clients.commit().await, parts.proxy.commit().await] {
        if !report.is_complete() {
            return Err(format!("{report:?}").into());
        }
    }
    Ok(parts)
}

async fn with_ipvs() -> Result<Box<dyn ServiceProxy>, AnyError> {
    let mut engine = backend_ipvs::open(&backend_ipvs::config::Config::default())?;
    engine.stage(Change::Put(item(OF_IPVS, FrontendKind::ClusterIp)?))?;
    engine.stage(Change::InSync)?;
    let report = engine.commit().await;
    if report.is_complete() { Ok(engine) } else { Err(format!("{report:?}").into()) }
}

/// A service with the endpoint, which sees its clients' addresses.
fn item(at: &str, kind: FrontendKind) -> Result<ServiceItem, AnyError> {
    let (at, endpoint): (SocketAddr, SocketAddr) = (at.parse()?, ENDPOINT.parse()?);
    let backend = ServiceBackend {
        address: endpoint.ip(),
        port: endpoint.port(),
        usage: BackendUse::Active,
        weight: 1,
        conditions: Conditions { ready: true, serving: true, terminating: false },
        local: true,
        node: Some("node-1".into()),
        zone: None,
    };
    Ok(ServiceItem {
        key: ServiceKey { address: at.ip(), port: at.port(), protocol: Protocol::TCP },
        service: ServiceName { namespace: "default".into(), name: "web".into() },
        port_name: "".into(),
        kind,
        scope: TrafficScope::Local,
        scheduler: Scheduler::RoundRobin,
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: [backend].into(),
    })
}
