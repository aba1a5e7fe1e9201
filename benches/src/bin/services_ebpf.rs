//! Services in eBPF: all from empty, one endpoint, a restart, and what it takes of memory. Never a connection: see `connections`.
//!
//! `cargo run --release -p benches --bin services_ebpf`, as root
#![forbid(unsafe_code)]

use backend_ebpf::service::{Config, EbpfServices, Key, Object, SocketDriver};
use benches::place::apart;
use benches::services::{ENDPOINTS, item};
use benches::stats::{Table, millis, quantile};
use cni_core::backend::{Change, Driver as _, Known, Op, OpenRequest, ProxyBackend as _, ProxyParts};
use cni_core::model::{InterfaceName, NodeContext, NodeName, Underlay};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use testlab::bed::Cgroup;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const SIZES: [u32; 2] = [1_000, 10_000];
/// Of each way to load; the median counts.
const ROUNDS: usize = 5;
/// Services of which an endpoint goes and comes back.
const ONES: u32 = 500;

fn main() -> Result<(), AnyError> {
    let cgroup = Cgroup::new().ok_or("needs cgroup v2")?;
    let headings = ["services x 10 endpoints", "entries", "one by one ms", "batches ms", "ratio"];
    let mut maps = Table::new(&headings);
    let mut engine = Table::new(&[
        "services x 10 endpoints",
        "served",
        "compile and stage ms",
        "first commit ms",
        "restart ms",
        "restart writes",
        "endpoint goes p50 / p99 µs",
        "comes p50 / p99 µs",
        "maps bytes/service",
        "process bytes/service",
    ]);
    for services in SIZES {
        maps.row(&writes(services, &cgroup.0)?);
        for outside in [false, true] {
            engine.row(&whole(services, outside, &cgroup.0)?);
        }
    }
    println!("{maps}\n{engine}");
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, AnyError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// The same entries into empty maps, each by a call of its own, and as the engine hands them over.
fn writes(services: u32, cgroup: &Path) -> Result<[String; 5], AnyError> {
    let mut ops = Vec::new();
    for number in 0..services {
        for (key, object) in backend_ebpf::service::compile(&item(number, ENDPOINTS))? {
            ops.push(Op::Put { key, present: Known::Absent, object });
        }
    }
    // By level, as the engine does.
    ops.sort_by_key(|op| (op.key().rank().level, *op.key()));
    let (mut one_by_one, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (at_once, times) in [(1, &mut one_by_one), (ops.len(), &mut batches)] {
            times.push(apart(|| write(&ops, at_once, cgroup))?);
        }
    }
    let [before, after] = [&one_by_one, &batches].map(|times| quantile(times, 0.5));
    let ratio = format!("{:.2}", before.as_secs_f64() / after.as_secs_f64());
    Ok([services.to_string(), ops.len().to_string(), millis(before), millis(after), ratio])
}

fn write(ops: &[Op<Key, Object>], at_once: usize, cgroup: &Path) -> Result<Duration, AnyError> {
    let mut driver = SocketDriver::open(&Config { cgroup: Some(cgroup.to_owned()), ..Config::default() })?;
    let runtime = runtime()?;
    let begun = Instant::now();
    for part in ops.chunks(at_once) {
        runtime.block_on(driver.apply(part)).into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(begun.elapsed())
}

/// As an agent does it, from empty to the end of a restart.
fn whole(services: u32, outside: bool, cgroup: &Path) -> Result<[String; 10], AnyError> {
    apart(|| {
        let (runtime, node) = (runtime()?, node()?);
        let request = || OpenRequest {
            node: node.clone(),
            config: serde_json::json!({ "cgroup": cgroup, "outsideClients": outside }),
            state_dir: std::env::temp_dir(),
            host_stack_for: Vec::new(),
        };
        let mut parts: ProxyParts = runtime.block_on(EbpfServices.open(request()))?;
        let (resident, kernel) = (resident_bytes(), map_bytes());
        let (staged, committed, _) = runtime.block_on(load(&mut parts, services))?;
        let (resident, kernel) = (resident_bytes() - resident, map_bytes() - kernel);
        let (mut goes, mut comes) = (Vec::new(), Vec::new());
        for one in 0..ONES {
            for (endpoints, times) in [(ENDPOINTS - 1, &mut goes), (ENDPOINTS, &mut comes)] {
                let item = item(one * (services / ONES), endpoints);
                let begun = Instant::now();
                parts.proxy.stage(Change::Put(item))?;
                let report = runtime.block_on(parts.proxy.commit());
                times.push(begun.elapsed());
                assert!(report.is_complete(), "{report:?}");
            }
        }
        drop(parts);
        let begun = Instant::now();
        let mut parts: ProxyParts = runtime.block_on(EbpfServices.open(request()))?;
        let (_, _, written) = runtime.block_on(load(&mut parts, services))?;
        let restart = begun.elapsed();
        drop(parts);
        EbpfServices.clear()?;
        let both = |times: &[Duration]| {
            let micros = |share| quantile(times, share).as_secs_f64() * 1e6;
            format!("{:.0} / {:.0}", micros(0.5), micros(0.99))
        };
        let each = |bytes: f64| format!("{:.0}", bytes / f64::from(services));
        Ok([
            services.to_string(),
            if outside { "sockets and clients outside" } else { "sockets" }.to_owned(),
            millis(staged),
            millis(committed),
            millis(restart),
            written.to_string(),
            both(&goes),
            both(&comes),
            each(kernel),
            each(resident),
        ])
    })
}

fn node() -> Result<NodeContext, AnyError> {
    let interface = InterfaceName::new("lo")?;
    let underlay = Underlay { interface, index: 1, mtu_bytes: 1500, v4: Some("192.0.2.1/24".parse()?), v6: None };
    Ok(NodeContext { name: NodeName::new("node-1")?, labels: Default::default(), underlay, masquerade: None })
}

/// Stages all and commits: how long each takes, and what was written.
async fn load(parts: &mut ProxyParts, services: u32) -> Result<(Duration, Duration, usize), AnyError> {
    let begun = Instant::now();
    for number in 0..services {
        parts.proxy.stage(Change::Put(item(number, ENDPOINTS)))?;
    }
    parts.proxy.stage(Change::InSync)?;
    let staged = begun.elapsed();
    let report = parts.proxy.commit().await;
    let committed = begun.elapsed() - staged;
    if report.is_complete() { Ok((staged, committed, report.written)) } else { Err(format!("{report:?}").into()) }
}

/// What this process has of memory.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
    pages.unwrap_or_default() * 4096.0
}

/// What the kernel counts for all maps that this process has open.
fn map_bytes() -> f64 {
    let files = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let of_maps = texts.filter_map(|text| {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        Some((value("map_id:")?, value("memlock:")?))
    });
    of_maps.collect::<BTreeMap<_, _>>().into_values().sum::<u64>() as f64
}
