//! Services on IPVS from empty, beside `ipvsadm --restore` of the same state; a read-back without changes beside `ipvsadm --save`;
//! one endpoint. Never asserts a time.
//!
//! ```text
//! cargo build --release -p benches --bin ipvs
//! cargo xtask vm run --kernel 6.12 --file /usr/sbin/ipvsadm -- target/release/ipvs    # or as root, with Debian's ipvsadm
//! ```
#![forbid(unsafe_code)]

use backend_ipvs::config::Config;
use benches::services::{ENDPOINTS, item};
use benches::stats::{Table, millis, quantile};
use cni_core::backend::{Change, ServiceProxy};
use cni_core::model::ServiceItem;
use net_linux::ipvs::{Destination, Ipvs, Service, ServiceId};
use net_linux::link::{LinkChange, LinkId};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Services, and how often each way is tried; the median counts.
const SIZES: [(u32, usize); 2] = [(1_000, 3), (10_000, 1)];
/// Changes of one endpoint.
const ONES: usize = 100;

fn main() -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut loads = Table::new(&[
        "services x 10 endpoints",
        "engine ms",
        "of that, compile and stage ms",
        "IPVS alone ms",
        "ipvsadm ms",
        "ipvsadm / IPVS alone",
        "ipvsadm / engine",
    ]);
    let mut later = Table::new(&[
        "services x 10 endpoints",
        "read-back without changes ms",
        "of IPVS alone ms",
        "`ipvsadm --save -n` ms",
        "ipvsadm / IPVS alone",
        "a destination µs",
        "endpoint goes p50 / p99 µs",
        "comes p50 / p99 µs",
        "writes",
    ]);
    for (services, rounds) in SIZES {
        let items: Vec<ServiceItem> = (0..services).map(|number| item(number, ENDPOINTS)).collect();
        let script = script(&items);
        let (mut staged, mut whole, mut alone, mut theirs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            // One after the other, so that what else the machine does meets all of them.
            theirs.push(fresh(|| timed(|| restore(&script)))??);
            alone.push(fresh(|| only_ipvs(&items))??);
            let (stage, all) = fresh(|| runtime.block_on(from_empty(&items)).map(|(_, stage, all)| (stage, all)))??;
            staged.push(stage);
            whole.push(all);
        }
        let half = |times: &[Duration]| quantile(times, 0.5);
        let ratio = |ours: &[Duration]| format!("{:.2}", half(&theirs).as_secs_f64() / half(ours).as_secs_f64());
        loads.row(&[
            services.to_string(),
            millis(half(&whole)),
            millis(half(&staged)),
            millis(half(&alone)),
            millis(half(&theirs)),
            ratio(&alone),
            ratio(&whole),
        ]);
        later.row(&fresh(|| runtime.block_on(changes(&items, rounds)))??);
        // So far: the second size takes minutes under emulation.
        println!("{loads}\n{later}");
    }
    Ok(())
}

/// In a namespace of its own, with an address: without any the kernel takes every destination for a broadcast address.
fn fresh<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, AnyError> {
    let inside = || -> Result<T, AnyError> {
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("lo"));
        Socket::route()?.run_all(&mut batch)?;
        Ipvs::open_loading()?;
        Ok(work())
    };
    NetNs::new()?.run(inside)?
}

fn timed(work: impl FnOnce() -> Result<(), AnyError>) -> Result<Duration, AnyError> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

/// The engine's first commit: its own time for compiling and staging, and all of it.
async fn from_empty(items: &[ServiceItem]) -> Result<(Box<dyn ServiceProxy>, Duration, Duration), AnyError> {
    let mut engine = backend_ipvs::open(&Config::default())?;
    let items = items.to_vec();
    let begun = Instant::now();
    for item in items {
        engine.stage(Change::Put(item))?;
    }
    engine.stage(Change::InSync)?;
    let staged = begun.elapsed();
    let report = engine.commit().await;
    let all = begun.elapsed();
    if report.is_complete() { Ok((engine, staged, all)) } else { Err(format!("{report:?}").into()) }
}

/// The same services and destinations through the encoder, without addresses, rules and sets.
fn only_ipvs(items: &[ServiceItem]) -> Result<Duration, AnyError> {
    let mut ipvs = Ipvs::open()?;
    timed(|| {
        let mut batch = ipvs.batch();
        for item in items {
            let id = ServiceId::address(item.key.protocol.0, SocketAddr::new(item.key.address, item.key.port));
            batch.create(&Service { ours: true, ..Service::new(id, item.scheduler.to_string()) });
            for backend in item.backends.iter() {
                let place = SocketAddr::new(backend.address, backend.port);
                batch.create_destination(&id, &Destination::new(place));
            }
        }
        ipvs.run(batch).into_iter().try_for_each(|answer| Ok(answer?))
    })
}

/// Reads back what nobody changed, then lets an endpoint of one service go and come.
async fn changes(items: &[ServiceItem], rounds: usize) -> Result<[String; 9], AnyError> {
    let (mut engine, ..) = from_empty(items).await?;
    let (mut read, mut alone, mut saved) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begun = Instant::now();
        let drift = engine.resync().await?;
        read.push(begun.elapsed());
        assert!(drift.is_none(), "{drift:?}");
        alone.push(timed(|| read_ipvs(items.len()))?);
        saved.push(timed(|| save(items.len()))?);
    }
    let (mut goes, mut comes, mut writes) = (Vec::new(), Vec::new(), 0);
    for round in 0..ONES {
        let number = u32::try_from(round * items.len() / ONES)?;
        for (count, times) in [(ENDPOINTS - 1, &mut goes), (ENDPOINTS, &mut comes)] {
            let one = item(number, count);
            let begun = Instant::now();
            engine.stage(Change::Put(one))?;
            let report = engine.commit().await;
            times.push(begun.elapsed());
            assert!(report.is_complete(), "{report:?}");
            writes = writes.max(report.written);
        }
    }
    let micros = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6);
    let both = |times: &[Duration]| format!("{} / {}", micros(quantile(times, 0.5)), micros(quantile(times, 0.99)));
    let (half, alone, saved) = (quantile(&read, 0.5), quantile(&alone, 0.5), quantile(&saved, 0.5));
    let destinations = u32::try_from(items.len())? * ENDPOINTS;
    Ok([
        items.len().to_string(),
        millis(half),
        millis(alone),
        millis(saved),
        format!("{:.2}", saved.as_secs_f64() / alone.as_secs_f64()),
        format!("{:.1}", half.as_secs_f64() * 1e6 / f64::from(destinations)),
        both(&goes),
        both(&comes),
        writes.to_string(),
    ])
}

fn restore(script: &str) -> Result<(), AnyError> {
    let mut program = Command::new("/usr/sbin/ipvsadm").arg("--restore").stdin(Stdio::piped()).spawn()?;
    program.stdin.take().ok_or("no pipe")?.write_all(script.as_bytes())?;
    let status = program.wait()?;
    if status.success() { Ok(()) } else { Err(format!("ipvsadm: {status}").into()) }
}

/// All services and destinations through the decoder, without addresses, rules and sets, and compared with nothing.
fn read_ipvs(services: usize) -> Result<(), AnyError> {
    let mut ipvs = Ipvs::open()?;
    let mut destinations = 0;
    let found = ipvs.services()?;
    for (service, _) in &found {
        destinations += ipvs.destinations(&service.id)?.len();
    }
    assert_eq!((found.len(), destinations), (services, services * ENDPOINTS as usize));
    Ok(())
}

/// All services and destinations by `ipvsadm`, into a pipe.
fn save(services: usize) -> Result<(), AnyError> {
    let output = Command::new("/usr/sbin/ipvsadm").args(["--save", "-n"]).output()?;
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(lines, services * (1 + ENDPOINTS as usize));
    if output.status.success() { Ok(()) } else { Err(format!("ipvsadm: {}", output.status).into()) }
}

/// As `ipvsadm --save --numeric` writes it.
fn script(items: &[ServiceItem]) -> String {
    let mut script = String::new();
    for item in items {
        let place = SocketAddr::new(item.key.address, item.key.port);
        let _ = writeln!(script, "-A -t {place} -s {}", item.scheduler);
        for backend in item.backends.iter() {
            let _ = writeln!(script, "-a -t {place} -r {}:{} -m -w 1", backend.address, backend.port);
        }
    }
    script
}
