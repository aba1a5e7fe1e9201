//! Policy on nftables: a node's full program, one set element, and what a packet pays for policies elsewhere. Never asserts.
//!
//! ```text
//! cargo run --release -p benches --bin policy_nft        # as root, with Debian's nftables and iproute2
//! ```
#![forbid(unsafe_code)]

use benches::stats::{Table, millis, quantile};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyEngine, PolicyItem, PolicyKey,
    ProgramRule, Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use net_linux::netns::NetNs;
use policy_nftables::config::Config;
use policy_nftables::driver::observe;
use policy_nftables::verdict::{FirstPacket, Ruleset};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const ENDPOINTS: u32 = 110;
const POLICIES: u32 = 1_000;
const MEMBERS: u32 = 20;
const LOADS: usize = 5;
const ONES: usize = 500;
const PROGRAM_ONES: usize = 15;
const PACKETS: u32 = 20_000;
const ROUNDS: usize = 41;

fn main() -> Result<(), AnyError> {
    program_and_elements()?;
    packets()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers").block_on(future)
}

fn pod(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a40_0000 + number).into()
}

fn chain_id(number: u32) -> ChainId {
    let kind = Kind::new("networking.k8s.io/v1", "NetworkPolicy");
    let object = ObjectKey::namespaced(kind, "bench", &format!("policy-{number}"));
    ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress }
}

fn set(number: u32) -> Set {
    Set { id: SetId(format!("{number:08x}").into()), kind: SetKind::Addresses(Family::V4) }
}

/// Policies `0..policies`, each with a set of its own and two ports, spread over endpoints other than the first.
fn items(policies: u32) -> Vec<PolicyItem> {
    let mut items = Vec::new();
    for number in 0..policies {
        items.push(PolicyItem::Set(set(number)));
        let members = (0..MEMBERS).map(|member| Member::Address(pod(1_000 + (number * 7 + member) % 5_000)));
        items.extend(members.map(|member| PolicyItem::Member(set(number), member)));
        let rules = [80, 443].map(|port| ProgramRule {
            path: format!("spec.ingress[{port}]").into(),
            action: Action::Allow,
            clauses: vec![Clause {
                sets: vec![SetMatch { side: Side::Source, set: set(number), negated: false }],
                protocol: Some(Protocol::TCP),
                destination_ports: Some(vec![PortRange::one(port)]),
                ..Clause::default()
            }],
            unenforceable: None,
        });
        items.push(PolicyItem::Chain(Chain { id: chain_id(number), stage: Stage::Tracked, rules: rules.into() }));
    }
    for number in 1..ENDPOINTS {
        let chains: Vec<ChainId> = (number - 1..policies).step_by(ENDPOINTS as usize - 1).map(chain_id).collect();
        let tiers = vec![TierProgram { tier: "default".into(), chains, end: TierEnd::Deny }];
        let ingress = DirectionProgram { enforced: tiers, staged: None };
        items.push(endpoint(number, &format!("cni{number:012x}"), pod(number), ingress));
    }
    items
}

fn endpoint(number: u32, interface: &str, address: IpAddr, ingress: DirectionProgram) -> PolicyItem {
    PolicyItem::Endpoint(EndpointProgram {
        endpoint: EndpointId::of(&format!("c{number}"), "eth0").expect("a container's id and an interface"),
        host_interface: InterfaceName::new(interface).expect("at most fifteen letters and digits"),
        addresses: vec![address],
        ingress,
        egress: DirectionProgram::default(),
    })
}

fn open() -> Result<Box<dyn PolicyEngine>, AnyError> {
    Ok(policy_nftables::open(&Config::default())?)
}

fn commit(engine: &mut Box<dyn PolicyEngine>, changes: Vec<Change<PolicyItem>>) -> Result<usize, AnyError> {
    for change in changes {
        engine.stage(change)?;
    }
    let report = run(engine.commit());
    match report.failed.first() {
        None => Ok(report.written),
        Some(failure) => Err(format!("{}: {}", failure.object, failure.error).into()),
    }
}

fn all(items: &[PolicyItem]) -> Vec<Change<PolicyItem>> {
    items.iter().cloned().map(Change::Put).chain([Change::InSync]).collect()
}

fn program_and_elements() -> Result<(), AnyError> {
    let items = items(POLICIES);
    let (mut staged, mut one_policy_busy, mut one_connection) = (vec![], vec![], vec![]);
    let (mut ours, mut restart, mut resync, mut theirs, mut one_policy) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut added, mut removed, mut their_one, mut objects) = (vec![], vec![], vec![], 0);
    for round in 0..LOADS {
        let listed = NetNs::new()?.run(|| -> Result<String, AnyError> {
            let mut engine = open()?;
            let start = Instant::now();
            for change in all(&items) {
                engine.stage(change)?;
            }
            staged.push(start.elapsed());
            objects = commit(&mut engine, Vec::new())?;
            ours.push(start.elapsed());
            let listed = nft(&["list", "table", "inet", "cnidarian"], "")?;
            let mut again = open()?;
            let changes = all(&items);
            restart.push(timed(|| commit(&mut again, changes).map(drop))?);
            resync.push(timed(|| Ok(run(again.resync()).map(drop)?))?);
            if round == 0 {
                let member = PolicyItem::Member(set(7), Member::Address(pod(9_999)));
                let key = PolicyKey::Member(set(7).id, Member::Address(pod(9_999)));
                for number in 0..ONES {
                    let changes = vec![Change::Put(member.clone())];
                    added.push(timed(|| commit(&mut again, changes).map(drop))?);
                    let changes = vec![Change::Remove(key.clone())];
                    removed.push(timed(|| commit(&mut again, changes).map(drop))?);
                    if number < PROGRAM_ONES {
                        let script = "element inet cnidarian pol-set-a4-00000007 { 10.64.200.1 }\n";
                        their_one.push(timed(|| nft(&["-f", "-"], &format!("add {script}")).map(drop))?);
                        nft(&["-f", "-"], &format!("delete {script}"))?;
                    }
                }
                for number in 0..200 {
                    if number == 100 {
                        open_connections()?;
                    }
                    let action = if number % 2 == 0 { Action::Deny } else { Action::Allow };
                    let rule = ProgramRule {
                        path: "spec.ingress[0]".into(),
                        action,
                        clauses: vec![Clause::default()],
                        unenforceable: None,
                    };
                    let chain = PolicyItem::Chain(Chain { id: chain_id(5), stage: Stage::Tracked, rules: vec![rule] });
                    let times = if number < 100 { &mut one_policy } else { &mut one_policy_busy };
                    times.push(timed(|| commit(&mut again, vec![Change::Put(chain)]).map(drop))?);
                }
            }
            one_connection.push(worked_out()?);
            Ok(listed)
        })??;
        NetNs::new()?.run(|| -> Result<(), AnyError> {
            theirs.push(timed(|| nft(&["-f", "-"], &listed).map(drop))?);
            Ok(())
        })??;
    }
    println!("{ENDPOINTS} endpoints, {POLICIES} policies with a set of {MEMBERS} addresses each: {objects} objects");
    let mut rows = Table::new(&["", "p50 ms", "p90 ms"]);
    for (name, times) in [
        ("stage and program all", &ours),
        ("of which stage", &staged),
        ("the same as a script for `nft -f`", &theirs),
        ("restart: stage all, read, compare, write nothing", &restart),
        ("resync, nothing changed", &resync),
        ("one policy's rules, no open connections", &one_policy),
        ("one policy's rules, 10,000 open connections", &one_policy_busy),
        ("one connection worked out", &one_connection),
        ("one address more in a set", &added),
        ("one address less", &removed),
        ("one address more, `nft -f`", &their_one),
    ] {
        let micros = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
        let shown = if quantile(times, 0.5) > Duration::from_millis(10) { millis } else { micros };
        rows.row(&[name.to_owned(), shown(quantile(times, 0.5)), shown(quantile(times, 0.9))]);
    }
    println!("{rows}");
    Ok(())
}

/// Connections between ports of the endpoint that policy 5 is about.
fn open_connections() -> Result<(), AnyError> {
    let address = pod(5 % (ENDPOINTS - 1) + 1);
    ip("link set lo up")?;
    ip(&format!("address add {address}/32 dev lo"))?;
    let socket = UdpSocket::bind((address, 0))?;
    for port in 1..=10_000 {
        socket.send_to(b"x", (address, port))?;
    }
    Ok(())
}

/// How long it takes to work out what the rules say of one connection to an endpoint with nine policies.
fn worked_out() -> Result<Duration, AnyError> {
    let ruleset: Ruleset = observe(&mut net_linux::nft::Nft::open()?)?.into_iter().collect();
    let packet = FirstPacket { source: pod(60_000), destination: pod(6), protocol: 6, ports: Some((40_000, 22)) };
    let start = Instant::now();
    for _ in 0..10_000 {
        std::hint::black_box(ruleset.allows(&packet, "eth0", &format!("cni{:012x}", 6), |_| false));
    }
    Ok(start.elapsed() / 10_000)
}

/// Two pods of a node without policies of their own.
struct Lab {
    name: String,
    /// Alive as long as their sockets.
    namespaces: [NetNs; 3],
    times: [Vec<Duration>; 2],
    /// Packets before a reply was seen, and after: sender's and receiver's sockets.
    sockets: [(UdpSocket, UdpSocket); 2],
}

fn packets() -> Result<(), AnyError> {
    let mut labs = vec![lab("no engine", None)?];
    for policies in [1, 100, 1_000] {
        labs.push(lab(&format!("{policies} policies elsewhere"), Some(policies))?);
    }
    for _ in 0..ROUNDS {
        for lab in &mut labs {
            for (pair, times) in lab.sockets.iter().zip(&mut lab.times) {
                let (sender, _) = pair;
                times.push(timed(|| {
                    for _ in 0..PACKETS {
                        sender.send(b"x")?;
                    }
                    Ok(())
                })?);
            }
        }
    }
    let mut rows = Table::new(&["", "new: ns/packet", "ratio", "established: ns/packet", "ratio"]);
    let per_packet = |times: &[Duration]| quantile(times, 0.5).as_secs_f64() * 1e9 / f64::from(PACKETS);
    let base = [0, 1].map(|kind| per_packet(&labs[1].times[kind]));
    for lab in &labs {
        let [new, established] = [0, 1].map(|kind| per_packet(&lab.times[kind]));
        let ratio = |one: f64, base: f64| format!("{:.2}", one / base);
        let cells =
            [format!("{new:.0}"), ratio(new, base[0]), format!("{established:.0}"), ratio(established, base[1])];
        rows.row(&[std::slice::from_ref(&lab.name), &cells[..]].concat());
    }
    println!("{rows}");
    labs.into_iter().for_each(|lab| drop(lab.namespaces));
    Ok(())
}

fn lab(name: &str, policies: Option<u32>) -> Result<Lab, AnyError> {
    let (node, first, second) = (NetNs::new()?, NetNs::new()?, NetNs::new()?);
    let pods = [(&first, "cni0000000000fa", "10.64.250.1"), (&second, "cni0000000000fb", "10.64.250.2")];
    for (pod, interface, address) in pods {
        node.run(|| -> Result<(), AnyError> {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            let here = std::fs::File::open("/proc/thread-self/ns/net")?;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&here);
            let target = format!("/proc/{}/fd/{fd}", std::process::id());
            pod.run(|| ip(&format!("link add eth0 type veth peer name {interface} netns {target}")))??;
            ip(&format!("link set {interface} address 02:00:00:00:00:fe up"))?;
            pod.run(|| -> Result<(), AnyError> {
                ip("link set eth0 up")?;
                ip(&format!("address add {address}/32 dev eth0"))?;
                ip("route add 169.254.1.1 dev eth0 scope link")?;
                ip("route add default via 169.254.1.1")?;
                ip("neigh add 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:fe nud permanent")
            })??;
            ip(&format!("address replace 192.0.2.1/32 dev {interface}"))?;
            ip(&format!("route add {address}/32 dev {interface}"))
        })??;
    }
    if let Some(policies) = policies {
        node.run(|| -> Result<(), AnyError> {
            let mut engine = open()?;
            let mut items = items(policies);
            for (number, (_, interface, address)) in pods.iter().enumerate() {
                let number = 1_000 + u32::try_from(number)?;
                items.push(endpoint(number, interface, address.parse()?, DirectionProgram::default()));
            }
            commit(&mut engine, all(&items)).map(drop)
        })??;
    }
    let pair = |port: u16| -> Result<(UdpSocket, UdpSocket), AnyError> {
        let receiver = second.run(|| UdpSocket::bind(("10.64.250.2", port)))??;
        let sender = first.run(|| UdpSocket::bind(("10.64.250.1", port)))??;
        sender.connect(SocketAddr::new("10.64.250.2".parse()?, port))?;
        sender.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok((sender, receiver))
    };
    let sockets = [pair(7001)?, pair(7002)?];
    // A reply makes the second one established.
    let (sender, receiver) = &sockets[1];
    sender.send(b"x")?;
    receiver.send_to(b"x", sender.local_addr()?)?;
    sender.recv(&mut [0; 8])?;
    Ok(Lab { name: name.to_owned(), namespaces: [node, first, second], times: Default::default(), sockets })
}

fn ip(line: &str) -> Result<(), AnyError> {
    let output = Command::new("ip").args(line.split(' ')).output()?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<String, AnyError> {
    let mut child = Command::new("nft").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no standard input")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("nft {arguments:?}").into())
    }
}

fn timed(work: impl FnOnce() -> Result<(), AnyError>) -> Result<Duration, AnyError> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}
