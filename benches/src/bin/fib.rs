//! Learned routes into the kernel: 100,000 over 5,000 gateways, a restart that finds them, one node withdrawn, one next hop
//! moved, and bird with the same routes beside it. Never asserts a time: it prints a table.
//!
//! bird has the routes in its own table already and only exports them when the clock starts.
//!
//! ```text
//! cargo run --release -p benches --bin fib        # as root; works in fresh network namespaces; bird only if installed
//! ```
#![forbid(unsafe_code)]

use benches::stats::{Table, millis};
use ipnet::{IpNet, Ipv4Net};
use net_linux::addr::Address;
use net_linux::fib::{Fib, FibOptions, Target};
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::{Route, RouteFilter, Way};
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const NODES: u32 = 5_000;
const BLOCKS: u32 = 20;
const ROUTES: u32 = NODES * BLOCKS;
const ROUNDS: usize = 3;
/// As many as the agent writes before it looks after its sessions again.
const SLICE: usize = 4_096;
/// `rtnetlink.h`: RTPROT_BIRD.
const PROTOCOL_BIRD: u8 = 12;
const DEADLINE: Duration = Duration::from_secs(120);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let mut table = Table::new(&["round, step", "routes", "messages", "ms", "routes/s"]);
    for round in 1..=ROUNDS {
        NetNs::new()?.run(|| ours(round, &mut table))??;
        NetNs::new()?.run(|| bird(round, &mut table))??;
    }
    println!("{ROUTES} routes over {NODES} gateways\n{table}");
    Ok(())
}

fn gateway(node: u32) -> Ipv4Addr {
    Ipv4Addr::from(0xc000_0002 + node)
}

fn block(node: u32, block: u32) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + (node * BLOCKS + block) * 64), 26).into()
}

/// A veth that is up, with the gateways on its link.
fn device(socket: &mut Socket) -> Result<u32, AnyError> {
    let veth = NewLinkKind::Veth(VethPeer { name: "v1", mac: None, namespace: None });
    let index = NewLink { up: true, ..NewLink::new("v0", veth) }.create(socket)?;
    let mut batch = Batch::new();
    for name in ["lo", "v1"] {
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
    }
    Address::new(index, "192.0.0.1/16".parse()?).create(&mut batch);
    socket.run_all(&mut batch)?;
    Ok(index)
}

fn ours(round: usize, table: &mut Table) -> Result<(), AnyError> {
    let mut socket = Socket::route()?;
    let index = device(&mut socket)?;
    let target = |node: u32| Target::way(Way::via(gateway(node).into(), index));
    let all = |fib: &mut Fib| {
        for node in 0..NODES {
            let target = target(node);
            (0..BLOCKS).for_each(|at| fib.set(block(node, at), &target));
        }
    };
    let mut row = |step: &str, routes: u32, messages: usize, took: Duration| {
        let rate = if routes < 1000 { String::new() } else { format!("{:.0}", f64::from(routes) / took.as_secs_f64()) };
        table.row(&[format!("{round}, {step}"), routes.to_string(), messages.to_string(), millis(took), rate]);
    };
    let mut fib = Fib::new(FibOptions::default());
    let start = Instant::now();
    all(&mut fib);
    fib.in_sync();
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: install all", ROUTES, messages, start.elapsed());

    let start = Instant::now();
    let mut fib = Fib::new(FibOptions::default());
    all(&mut fib);
    fib.in_sync();
    fib.observe(&mut socket)?;
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: restart, compare all", ROUTES, messages, start.elapsed());

    let start = Instant::now();
    (0..BLOCKS).for_each(|at| fib.remove(block(7, at)));
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: withdraw one node", BLOCKS, messages, start.elapsed());

    let moved = Target::way(Way::via(gateway(NODES + 1).into(), index));
    let start = Instant::now();
    (0..BLOCKS).for_each(|at| fib.set(block(8, at), &moved));
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: one node's next hop moves", BLOCKS, messages, start.elapsed());

    let many = |last: u32| Target::way(Way::via(gateway(NODES + last).into(), index));
    (0..500).for_each(|node| (0..BLOCKS).for_each(|at| fib.set(block(node, at), &many(2))));
    commit(&mut fib, &mut socket)?;
    let start = Instant::now();
    (0..500).for_each(|node| (0..BLOCKS).for_each(|at| fib.set(block(node, at), &many(3))));
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: a next hop of many moves", 500 * BLOCKS, messages, start.elapsed());

    let start = Instant::now();
    (0..NODES).for_each(|node| (0..BLOCKS).for_each(|at| fib.remove(block(node, at))));
    let messages = commit(&mut fib, &mut socket)?;
    row("ours: withdraw all", ROUTES, messages, start.elapsed());
    Ok(())
}

/// Commits until nothing waits; gives the messages that it took.
fn commit(fib: &mut Fib, socket: &mut Socket) -> Result<usize, AnyError> {
    let mut messages = 0;
    loop {
        let report = fib.commit(socket, SLICE)?;
        if let Some(failure) = report.failed.first() {
            return Err(format!("{}: {}", failure.destination, failure.error).into());
        }
        messages += report.routes + report.objects;
        if report.left == 0 {
            return Ok(messages);
        }
    }
}

/// A process that ends with us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bird(round: usize, table: &mut Table) -> Result<(), AnyError> {
    let mut socket = Socket::route()?;
    device(&mut socket)?;
    let directory = tempfile::tempdir()?;
    let (config, control) = (directory.path().join("bird.conf"), directory.path().join("bird.ctl"));
    let mut text = "router id 192.0.0.1;\nprotocol device { }\nprotocol direct { ipv4; }\n".to_owned();
    text += "protocol kernel k4 { disabled; ipv4 { export where source = RTS_STATIC; }; }\nprotocol static {\nipv4;\n";
    for node in 0..NODES {
        for at in 0..BLOCKS {
            writeln!(text, "route {} via {};", block(node, at), gateway(node))?;
        }
    }
    std::fs::write(&config, text + "}\n")?;
    let mut command = Command::new("bird");
    command.arg("-f").arg("-c").arg(&config).arg("-s").arg(&control).arg("-P").arg(directory.path().join("pid"));
    let child = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            table.row(&[
                format!("{round}, bird: not installed"),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let _running = Running(child);
    // Beside the routes: the prefix of the device.
    let all = format!("{} of", ROUTES + 1);
    until(|| Ok(birdc(&control, &["show", "route", "count"])?.contains(&all)))?;
    let start = Instant::now();
    birdc(&control, &["enable", "k4"])?;
    // To count, the kernel walks its table: a few milliseconds.
    until(|| Ok(prefixes()? >= ROUTES))?;
    let took = start.elapsed();
    let filter = RouteFilter { protocol: Some(PROTOCOL_BIRD), ..RouteFilter::default() };
    let found = Route::dump(&mut socket, &filter)?.len();
    let rate = format!("{:.0}", found as f64 / took.as_secs_f64());
    table.row(&[format!("{round}, bird: install all"), found.to_string(), String::new(), millis(took), rate]);
    Ok(())
}

fn birdc(control: &Path, words: &[&str]) -> Result<String, AnyError> {
    let output = Command::new("birdc").arg("-s").arg(control).args(words).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// IPv4 prefixes in the kernel's greatest table.
fn prefixes() -> Result<u32, AnyError> {
    let text = std::fs::read_to_string("/proc/thread-self/net/fib_triestat")?;
    let counts = text.lines().filter_map(|line| line.trim().strip_prefix("Prefixes:"));
    // The tables `main` and `local` are one, and both say so.
    Ok(counts.filter_map(|count| count.trim().parse::<u32>().ok()).max().unwrap_or(0))
}

fn until(mut holds: impl FnMut() -> Result<bool, AnyError>) -> Result<(), AnyError> {
    let deadline = Instant::now() + DEADLINE;
    while !holds()? {
        if Instant::now() > deadline {
            return Err("bird did not come that far in time".into());
        }
        // Seldom, so that the looking costs bird nothing.
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
