//! What the engine costs by itself: stage, plan and commit of one change among many objects, and bytes per object. The
//! driver writes nowhere, so the kernel's share is not in here.
//!
//! `cargo run --release -p benches --bin engine`

use async_trait::async_trait;
use cni_core::backend::{Capabilities, Change, Driver, Engine, Op, Rank, Reconciler, Result};
use cni_core::model::{MacAddr, NetworkItem, NodeContext, NodeName, Peer, PeerPrefix};
use comfy_table::Table;
use futures_util::FutureExt;
use ipnet::{IpNet, Ipv4Net};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Objects per peer: one neighbour, one FDB entry, four routes.
const OBJECTS_PER_PEER: u32 = 6;
const SAMPLES: u32 = 2_000;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Neighbour(Ipv4Addr),
    Forwarding(MacAddr),
    Route(IpNet),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour(address) => write!(f, "neighbour {address}"),
            Self::Forwarding(mac) => write!(f, "forwarding entry {mac}"),
            Self::Route(prefix) => write!(f, "route {prefix}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Object {
    Neighbour(MacAddr),
    Forwarding(Ipv4Addr),
    Route { gateway: Ipv4Addr, mtu_bytes: u32 },
}

/// Translates peers, and answers every write with success.
struct Nowhere(Capabilities);

#[async_trait]
impl Driver for Nowhere {
    type Item = NetworkItem;
    type Key = Key;
    type Object = Object;

    fn capabilities(&self) -> &Capabilities {
        &self.0
    }
    fn adopt(&mut self, _: &NodeContext) -> Result<()> {
        Ok(())
    }
    fn configure(&mut self, _: &serde_json::Value) -> Result<()> {
        Ok(())
    }
    fn base(&self) -> Result<Vec<(Key, Object)>> {
        Ok(Vec::new())
    }
    fn compile(&self, item: &NetworkItem) -> Result<Vec<(Key, Object)>> {
        let NetworkItem::Peer(peer) = item else { return Ok(Vec::new()) };
        let Some(gateway) = peer.v4 else { return Ok(Vec::new()) };
        let mac = MacAddr::from_name(peer.node.as_str());
        let mut objects = vec![
            (Key::Neighbour(gateway), Object::Neighbour(mac)),
            (Key::Forwarding(mac), Object::Forwarding(gateway)),
        ];
        let route = Object::Route { gateway, mtu_bytes: 1450 };
        objects.extend(peer.prefixes.iter().map(|prefix| (Key::Route(prefix.prefix), route.clone())));
        Ok(objects)
    }
    fn rank(&self, key: &Key) -> Rank {
        Rank::level(u8::from(matches!(key, Key::Route(_))))
    }
    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        Ok(Vec::new())
    }
    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
}

/// A peer, in its first or second version: another address.
fn peer(number: u32, version: u32) -> NetworkItem {
    let prefixes = (0..OBJECTS_PER_PEER - 2).map(|block| {
        let address = Ipv4Addr::from(0x0a00_0000 + ((number * 4 + block) << 6));
        PeerPrefix { prefix: Ipv4Net::new_assert(address, 26).into(), encapsulation: None }
    });
    NetworkItem::Peer(Peer {
        node: NodeName::new(&format!("node-{number}")).expect("a name of the right form"),
        v4: Some(Ipv4Addr::from(0xac10_0000 + number + (version << 18))),
        v6: None,
        prefixes: prefixes.collect(),
        labels: Default::default(),
        attributes: [("vtep-mac".into(), "02:00:00:00:00:01".into())].into(),
    })
}

fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

fn timed<R>(times: &mut Vec<Duration>, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    times.push(start.elapsed());
    result
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    format!("{:.1} / {:.1} µs", at(50), at(99))
}

/// One row, in a process of its own: memory that another size left behind would count as ours.
fn measure(objects: u32) -> Vec<String> {
    let peers = objects.div_ceil(OBJECTS_PER_PEER);
    let before = resident_bytes();
    let mut engine = Reconciler::new(Nowhere(Capabilities::default())).expect("there are no base objects");
    let start = Instant::now();
    for number in 0..peers {
        engine.stage(Change::Put(peer(number, 0))).expect("the peer compiles");
    }
    engine.stage(Change::InSync).expect("memory only");
    let loaded = start.elapsed();
    let start = Instant::now();
    let first = engine.commit().now_or_never().expect("the driver never waits").written;
    let committed = start.elapsed();
    let bytes = (resident_bytes() - before) / f64::from(peers * OBJECTS_PER_PEER);

    let (mut stage, mut plan, mut commit) = (Vec::new(), Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let number = sample.wrapping_mul(7_919) % peers;
        for version in [1, 0] {
            let change = Change::Put(peer(number, version));
            timed(&mut stage, || engine.stage(change)).expect("the peer compiles");
            let steps = timed(&mut plan, || engine.plan()).steps.len();
            let report = timed(&mut commit, || engine.commit().now_or_never()).expect("the driver never waits");
            assert_eq!((steps, report.written), (7, 7), "all six objects change, and the old neighbour goes");
        }
    }
    vec![
        first.to_string(),
        format!("{:.0} ms", loaded.as_secs_f64() * 1e3),
        format!("{:.0} ms", committed.as_secs_f64() * 1e3),
        spread(stage),
        spread(plan),
        spread(commit),
        format!("{bytes:.0}"),
    ]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(objects) = std::env::args().nth(1) {
        println!("{}", measure(objects.parse()?).join("\t"));
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header([
        "objects",
        "stage all",
        "commit all",
        "stage one item (p50 / p99)",
        "plan",
        "commit",
        "bytes per object, items included",
    ]);
    for objects in ["10000", "30000", "100000"] {
        let output = std::process::Command::new(std::env::current_exe()?).arg(objects).output()?;
        table.add_row(String::from_utf8(output.stdout)?.trim().split('\t'));
    }
    println!("One item is {OBJECTS_PER_PEER} objects; the driver writes nowhere.\n{table}");
    Ok(())
}
