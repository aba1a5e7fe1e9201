//! Programming 5,000 peers of the `vxlan` backend into the kernel: objects per second, a resync that finds nothing, one
//! change among all, and taking everything away again. Each peer has one IPv4 and one IPv6 prefix.
//!
//! Times are by the clock and on the processor (kernel's work for us included): on a busy machine only the second says
//! much.
//!
//! `cargo run --release -p benches --bin peers [PEERS]`. Needs root; works in a network namespace of its own.

use backend_vxlan::Vxlan;
use benches::stats::{Table, millis};
use cni_core::backend::{Backend, Change, CommitReport, NetworkChange, OpenRequest, Parts};
use cni_core::model::{InterfaceName, NetworkItem, NetworkKey, NodeContext, NodeName, Peer, PeerPrefix, Underlay};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(5_000), |count| count.parse::<u16>())?;
    let mut table = Table::new(&["mode, step", "objects written", "ms", "ms on CPU", "objects/s", "objects/CPU s"]);
    for mode in ["vxlan", "host-gw", "udp"] {
        for Row { step, written, took } in NetNs::new()?.run(|| measure(&json!({ "mode": mode }), count))?? {
            let rate = |time: Duration| match written {
                // One change is over before either clock ticks often enough.
                0..100 => String::new(),
                _ => format!("{:.0}", written as f64 / time.as_secs_f64()),
            };
            let (clock, cpu) = (took.clock, took.cpu);
            let row =
                [format!("{mode}, {step}"), written.to_string(), millis(clock), millis(cpu), rate(clock), rate(cpu)];
            table.row(&row);
        }
    }
    println!("{count} peers with a prefix of each family\n{table}");
    Ok(())
}

/// A step's outcome.
struct Row {
    step: &'static str,
    written: usize,
    took: Took,
}

/// Time by the clock and on the processor.
struct Took {
    clock: Duration,
    cpu: Duration,
}

/// A running measurement of this thread, which does all the work.
struct Stopwatch(Instant, Duration);

impl Stopwatch {
    fn start() -> Outcome<Self> {
        Ok(Self(Instant::now(), on_cpu()?))
    }

    fn stop(&self) -> Outcome<Took> {
        Ok(Took { clock: self.0.elapsed(), cpu: on_cpu()?.saturating_sub(self.1) })
    }
}

/// Nanoseconds on a processor, the first field of `schedstat` (`Documentation/scheduler/sched-stats.rst`).
fn on_cpu() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(Duration::from_nanos(nanos))
}

fn measure(section: &Value, count: u16) -> Outcome<Vec<Row>> {
    for line in [
        "link add eth0 type veth peer name far",
        "link set lo up",
        "link set far up",
        "link set eth0 up",
        "address add 192.0.0.1/16 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status()?;
        assert!(status.success(), "ip {line}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(steps(section, count))
}

async fn steps(section: &Value, count: u16) -> Outcome<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let node = NodeContext {
        labels: Default::default(),
        name: NodeName::new("node-0")?,
        underlay: Underlay {
            interface: InterfaceName::new("eth0")?,
            index: 2,
            mtu_bytes: 1500,
            v4: Some("192.0.0.1/16".parse()?),
            v6: Some("2001:db8::1/64".parse()?),
        },
        masquerade: None,
    };
    let request = || OpenRequest {
        node: node.clone(),
        config: section.clone(),
        state_dir: directory.path().to_owned(),
        host_stack_for: Vec::new(),
    };
    let peers: Vec<Peer> = (1..=count).map(peer).collect::<Outcome<_>>()?;
    let mut parts = Vxlan.open(request()).await?;
    let mut rows = Vec::new();

    // The device first, so that the peers are measured alone.
    commit(&mut parts, vec![Change::InSync]).await?;
    let all = || peers.iter().cloned().map(|peer| Change::Put(NetworkItem::Peer(peer))).collect::<Vec<_>>();
    let (written, took) = commit(&mut parts, all()).await?;
    rows.push(Row { step: "stage and program all", written, took });

    let watch = Stopwatch::start()?;
    let drift = parts.datapath.resync().await?;
    let took = watch.stop()?;
    assert!(drift.is_none(), "a resync of an unchanged kernel found {drift:?}");
    rows.push(Row { step: "resync, nothing changed", written: drift.repair.written, took });

    let moved = Peer { v4: Some(Ipv4Addr::new(192, 0, 255, 1)), ..peers[0].clone() };
    let (written, took) = commit(&mut parts, vec![Change::Put(NetworkItem::Peer(moved))]).await?;
    rows.push(Row { step: "one peer moves", written, took });
    commit(&mut parts, vec![Change::Put(NetworkItem::Peer(peers[0].clone()))]).await?;

    drop(parts);
    let mut parts = Vxlan.open(request()).await?;
    let restarted = all().into_iter().chain([Change::InSync]).collect();
    let (written, took) = commit(&mut parts, restarted).await?;
    rows.push(Row { step: "restart: stage all, read, compare", written, took });

    let gone = peers.iter().map(|peer| Change::Remove(NetworkKey::Peer(peer.node.clone()))).collect();
    let (written, took) = commit(&mut parts, gone).await?;
    rows.push(Row { step: "remove all", written, took });
    Ok(rows)
}

async fn commit(parts: &mut Parts, changes: Vec<NetworkChange>) -> Outcome<(usize, Took)> {
    let watch = Stopwatch::start()?;
    for change in changes {
        parts.datapath.stage(change)?;
    }
    let report: CommitReport = parts.datapath.commit().await;
    let took = watch.stop()?;
    assert!(report.is_complete(), "{:?} {:?}", report.failed.first(), report.blocked.first());
    Ok((report.written, took))
}

fn peer(number: u16) -> Outcome<Peer> {
    let node = NodeName::new(&format!("node-{number}"))?;
    let [high, low] = number.to_be_bytes();
    let mac = backend_vxlan::vtep::mac_of(&node).to_string();
    let prefix =
        |text: String| -> Outcome<PeerPrefix> { Ok(PeerPrefix { prefix: text.parse()?, encapsulation: None }) };
    Ok(Peer {
        v4: Some(Ipv4Addr::new(192, 0, high.wrapping_add(1), low)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number)),
        prefixes: vec![prefix(format!("10.{high}.{low}.0/24"))?, prefix(format!("fd00:0:0:{number:x}::/64"))?],
        labels: Default::default(),
        attributes: [(backend_vxlan::vtep::ATTRIBUTE_MAC.into(), mac.into())].into(),
        node,
    })
}
