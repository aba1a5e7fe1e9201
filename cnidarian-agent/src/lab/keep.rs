//! `lab run --keep` and `lab down`: a process in the background holds the lab. Never waits for what does not end.

use super::{AnyError, RunArgs};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use testlab::registry::{Entry, Registry, State};

const STEP: Duration = Duration::from_millis(20);
/// A lab that is asked to end has this long.
const DOWN: Duration = Duration::from_secs(60);

/// Starts the holder and returns when its lab is ready.
pub(super) fn start(args: &RunArgs) -> Result<ExitCode, AnyError> {
    let registry = Registry::open()?;
    let mut holder = Command::new(std::env::current_exe()?);
    holder.args(["lab", "run", "--keep", "--holder"]).args(&args.scenario);
    for (flag, value) in [("--nodes", args.nodes), ("--pods", args.pods)] {
        holder.args(value.iter().flat_map(|value| [flag.to_owned(), value.to_string()]));
    }
    holder.args(args.backend.iter().flat_map(|backend| ["--backend", backend]));
    if args.json {
        holder.arg("--json");
    }
    // A group of its own: Ctrl-C in this terminal later is not meant for it.
    let mut holder = holder.stdin(Stdio::null()).process_group(0).spawn()?;
    loop {
        if let Some(status) = holder.try_wait()? {
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let labs = registry.list()?;
        let ours = labs.iter().map(|(_, entry)| entry).find(|entry| entry.pid == holder.id());
        match ours {
            Some(Entry { state: State::Starting, .. }) | None => std::thread::park_timeout(STEP),
            Some(entry) => return Ok(welcome(entry)),
        }
    }
}

fn welcome(entry: &Entry) -> ExitCode {
    let some: Vec<&str> = entry.namespaces.keys().map(String::as_str).take(3).collect();
    eprintln!("lab {} stays up; there are {} ...", entry.name, some.join(", "));
    eprintln!("  cnidarian lab exec --lab {} {} -- ip route", entry.name, some.first().unwrap_or(&"node-1"));
    eprintln!("  cnidarian lab down {}", entry.name);
    if entry.state == State::Ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Ends a kept lab and waits until nothing of it is left.
pub(super) fn down(name: Option<&str>) -> Result<ExitCode, AnyError> {
    let (directory, entry) = Registry::open()?.find(name)?;
    testlab::registry::ask_to_end(&entry);
    let deadline = Instant::now() + DOWN;
    while entry.is_alive() || directory.exists() {
        if Instant::now() > deadline {
            return Err(format!(
                "lab {} did not end in {} s; its process is {}",
                entry.name,
                DOWN.as_secs(),
                entry.pid
            )
            .into());
        }
        std::thread::park_timeout(STEP);
    }
    println!("lab {} is down", entry.name);
    Ok(ExitCode::SUCCESS)
}
