//! Our speaker in a process of its own: its memory can be read, and it can be killed. Never with more to say than a test asks.
//!
//! The process is this same test binary, told by a variable to run [`serve`] instead of tests; it answers lines of standard
//! input with lines of JSON.

use crate::ours::{Ours, bfd, config, neighbour};
use bgp_speaker::config::MaxPrefixes;
use bgp_speaker::speaker::Beginning;
use bgp_speaker::types::Family;
use net_linux::netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const VARIABLE: &str = "BGP_INTEROP_APART";
/// The system of a speaker apart.
pub(crate) const ASN: u32 = 65_001;

/// A peer of a speaker apart, called by its address.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) limit: Option<u32>,
    pub(crate) bfd: bool,
}

impl Peer {
    /// With nothing special.
    pub(crate) const fn new(address: IpAddr, asn: u32) -> Self {
        Self { address, asn, limit: None, bfd: false }
    }
}

/// What a speaker apart is told to be.
pub(crate) struct Plan<'a> {
    pub(crate) peers: &'a [Peer],
    /// Prefixes of its own.
    pub(crate) own: &'a [&'a str],
    pub(crate) next_hop_v6: Option<IpAddr>,
    /// It has been killed a moment ago, and the kernel has kept its routes.
    pub(crate) restarted: bool,
}

/// A speaker in another process.
pub(crate) struct Apart {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Apart {
    pub(crate) fn start(namespace: &NetNs, plan: &Plan<'_>) -> Self {
        let peer =
            |peer: &Peer| json!({ "address": peer.address, "asn": peer.asn, "limit": peer.limit, "bfd": peer.bfd });
        let plan = json!({
            "peers": plan.peers.iter().map(peer).collect::<Vec<_>>(),
            "own": plan.own,
            "next_hop_v6": plan.next_hop_v6,
            "restarted": plan.restarted,
        });
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "apart::serve", "--nocapture"]).env(VARIABLE, plan.to_string());
        let mut child = namespace.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).unwrap();
        let pipes = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, pipes: RefCell::new(pipes) }
    }

    fn ask(&self, line: &str) -> Value {
        let (to, from) = &mut *self.pipes.borrow_mut();
        writeln!(to, "{line}").unwrap();
        let mut answer = String::new();
        // The test harness of the other process has something to say first.
        while !answer.starts_with('{') {
            answer.clear();
            assert_ne!(from.read_line(&mut answer).unwrap(), 0, "the speaker apart has ended");
        }
        serde_json::from_str(&answer).unwrap()
    }

    /// What it knows of a peer.
    pub(crate) fn peer(&self, address: IpAddr) -> Value {
        self.ask(&format!("peer {address}"))
    }

    pub(crate) fn is_up(&self, address: IpAddr) -> bool {
        self.peer(address)["state"] == "Established"
    }

    /// Whether the kernel has been told everything.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.ask("in-sync")["in-sync"] == true
    }

    /// Stops it where it is, for good.
    pub(crate) fn freeze(&self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGSTOP).unwrap();
    }

    /// Kill -9.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// What became of the paths of a prefix, the best first.
    pub(crate) fn explain(&self, prefix: &str) -> Vec<String> {
        let states = self.ask(&format!("explain {prefix}"))["paths"].take();
        states.as_array().into_iter().flatten().filter_map(|state| state.as_str().map(str::to_owned)).collect()
    }

    /// Whether the kernel would have a route.
    pub(crate) fn has(&self, prefix: &str) -> bool {
        self.ask(&format!("has {prefix}"))["has"] == true
    }

    /// All it did, for the report of a test that failed.
    pub(crate) fn log(&self) -> String {
        self.ask("log")["log"].as_str().unwrap_or_default().to_owned()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Open files.
    pub(crate) fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other process. Ends when its standard input does.
#[test]
fn serve() {
    let Ok(plan) = std::env::var(VARIABLE) else { return };
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let mut config = config(ASN, "10.255.0.1", []);
    for peer in plan["peers"].as_array().unwrap() {
        let address = peer["address"].as_str().unwrap();
        let mut known = neighbour(address.parse().unwrap(), u32::try_from(peer["asn"].as_u64().unwrap()).unwrap());
        if let Some(limit) = peer["limit"].as_u64() {
            let limit = u32::try_from(limit).unwrap();
            let most = MaxPrefixes { limit, warn_percent: 75, restart_after: None };
            known.max_prefixes = [(Family::Ipv4, most)].into();
        }
        if peer["bfd"] == true {
            known.bfd = Some(bfd());
        }
        config.peers.insert(address.into(), known);
    }
    config.next_hop_v6 = plan["next_hop_v6"].as_str().and_then(|address| address.parse().ok());
    let own: Vec<&str> = plan["own"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let beginning = if plan["restarted"] == true { Beginning::Restarted(Family::ALL.into()) } else { Beginning::Fresh };
    let ours = Ours::begin(&NetNs::current().unwrap(), config, &beginning, &own);
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (verb, about) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match verb {
            "peer" => {
                let peer = ours.peer(about);
                json!({
                    "state": format!("{:?}", peer.state),
                    "last": peer.last.map(|why| why.to_string()),
                    "received": peer.received,
                    "queued": peer.queued_bytes,
                    "held": peer.held,
                    "bfd": peer.bfd,
                    "sessions": peer.counters.sessions,
                })
            }
            "explain" => json!({ "paths": ours.explain(about) }),
            "log" => json!({ "log": ours.state() }),
            "in-sync" => json!({ "in-sync": ours.is_in_sync() }),
            "has" => json!({ "has": ours.has(about) }),
            _ => panic!("{line}"),
        };
        println!("\n{answer}");
    }
}
