//! ADD and DEL as a container runtime sees them, beside the reference plugins and beside the kernel's own cost.
//! Never asserts: it prints a table.
//!
//! ```text
//! cargo build --release -p cnidarian-agent
//! cargo build --profile shim -p cnidarian-cni --target x86_64-unknown-linux-musl
//! cargo run --release -p benches --bin attach        # as root, with Debian's containernetworking-plugins
//! ```
#![forbid(unsafe_code)]

mod contender;
mod floor;

use benches::stats::{Table, millis, quantile};
use contender::{Contender, Reference};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PODS: usize = 100;
const ROUNDS: usize = 3;
const WORKERS: usize = 8;
/// A drained node: all pods are deleted at once.
const DELETERS: usize = PODS;

/// Ours, IPv4 and IPv6, by the lines of a scenario.
const OURS: [(&str, &str); 4] = [
    ("cnidarian vxlan, policy: nftables", "backend: vxlan"),
    ("cnidarian ebpf, policy: none", "backend: ebpf\nbackendConfig: {mode: native}\npolicy: none"),
    ("cnidarian ebpf, policy: ebpf", "backend: ebpf\nbackendConfig: {mode: native}\npolicy: ebpf"),
    (
        "cnidarian ebpf, policy: ebpf, fastPath",
        "backend: ebpf\nbackendConfig: {mode: native, fastPath: true}\npolicy: ebpf",
    ),
];

/// What one contender did.
#[derive(Default)]
struct Times {
    add: Vec<Duration>,
    del: Vec<Duration>,
    add_parallel: Vec<Duration>,
    del_parallel: Vec<Duration>,
    add_rate: f64,
    del_rate: f64,
    /// How many of the calls at once failed, or did not end in time.
    failed: usize,
}

fn main() -> Result<(), AnyError> {
    let programs = benches::programs::release();
    let mut contenders: Vec<Box<dyn Contender>> =
        vec![Box::new(floor::Floor), Box::new(Reference::ptp()?), Box::new(Reference::bridge()?)];
    for (name, lines) in OURS {
        contenders.push(Box::new(contender::Cnidarian::start(name, lines, &programs)?));
    }
    let mut times: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    // In turns, so that a noisy minute hits everybody.
    for round in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            eprintln!("round {} of {ROUNDS}: {}", round + 1, contender.name());
            one_after_the_other(&**contender, times)?;
            side_by_side(&**contender, times)?;
        }
    }
    print(&contenders, &times);
    Ok(())
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn one_after_the_other(contender: &dyn Contender, times: &mut Times) -> Result<(), AnyError> {
    let mut pods = Vec::new();
    for _ in 0..PODS {
        let pod = contender.pod()?;
        let start = Instant::now();
        contender.add(&pod)?;
        times.add.push(start.elapsed());
        pods.push(pod);
    }
    for pod in &pods {
        let start = Instant::now();
        contender.del(pod)?;
        times.del.push(start.elapsed());
    }
    Ok(())
}

fn side_by_side(contender: &dyn Contender, times: &mut Times) -> Result<(), AnyError> {
    let pods = (0..PODS).map(|_| contender.pod()).collect::<Result<Vec<_>, _>>()?;
    let added = in_parallel(WORKERS, &pods, |pod| contender.add(pod));
    times.add_parallel.extend(added.each);
    times.add_rate = times.add_rate.max(added.rate);
    // All at once, as when a node is drained.
    let deleted = in_parallel(DELETERS, &pods, |pod| contender.del(pod));
    times.del_parallel.extend(deleted.each);
    times.del_rate = times.del_rate.max(deleted.rate);
    times.failed += added.failed + deleted.failed;
    Ok(())
}

/// What was done by several at once.
struct AtOnce {
    /// The time of each that succeeded.
    each: Vec<Duration>,
    /// How many succeeded a second.
    rate: f64,
    failed: usize,
}

/// Every call has a time limit of its own, so this ends even when a plugin does not survive so many at once.
fn in_parallel(
    workers: usize,
    pods: &[contender::PodUnderTest],
    work: impl Fn(&contender::PodUnderTest) -> Result<(), AnyError> + Sync,
) -> AtOnce {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(pod) = pods.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let result = work(pod);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), result));
                }
            });
        }
    });
    let took = start.elapsed();
    let (mut each, mut failed) = (Vec::new(), 0);
    for (time, result) in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        match result {
            Ok(()) => each.push(time),
            Err(error) => {
                eprintln!("  {error}");
                failed += 1;
            }
        }
    }
    AtOnce { rate: each.len() as f64 / took.as_secs_f64(), each, failed }
}

fn print(contenders: &[Box<dyn Contender>], times: &[Times]) {
    let mut table = Table::new(&[
        "",
        "ADD p50",
        "p90",
        "DEL p50",
        "p90",
        "8 at once: ADD p50",
        "ADD/s",
        "100 at once: DEL p50",
        "DEL/s",
        "failed",
        "ADD to floor",
    ]);
    let floor = quantile(&times[0].add, 0.5);
    for (contender, times) in contenders.iter().zip(times) {
        table.row(&[
            contender.name().to_owned(),
            millis(quantile(&times.add, 0.5)),
            millis(quantile(&times.add, 0.9)),
            millis(quantile(&times.del, 0.5)),
            millis(quantile(&times.del, 0.9)),
            millis(quantile(&times.add_parallel, 0.5)),
            format!("{:.0}", times.add_rate),
            millis(quantile(&times.del_parallel, 0.5)),
            format!("{:.0}", times.del_rate),
            times.failed.to_string(),
            format!("{:.2}", quantile(&times.add, 0.5).as_secs_f64() / floor.as_secs_f64()),
        ]);
    }
    println!("times in ms; {PODS} pods, {ROUNDS} rounds, medians over all rounds, best rate");
    println!("{table}");
}
