//! FRRouting: bgpd and zebra, and bfdd where a test needs it. Never the system's own: sockets and processes are the
//! test's.

use crate::bed::{Link, SOON, folder, wait_for};
use crate::process::Process;
use crate::told::{Announce, Daemon, HOLD_SECONDS, Neighbour, Seen, Told, family};
use ipnet::IpNet;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) struct Frr {
    link: Link,
    folder: TempDir,
    asn: u32,
    names: Vec<(IpAddr, String)>,
    bgpd: Process,
    /// zebra and bfdd.
    others: Vec<Process>,
}

impl Frr {
    pub(crate) fn start(link: &Link, told: &Told) -> Self {
        let folder = folder();
        write(&folder, told);
        // Without zebra, bgpd knows no device: it takes a link-local next hop for an error, and sends no router
        // advertisements.
        let bfd = told.neighbours.iter().any(|neighbour| neighbour.bfd);
        let mut others = Vec::new();
        for daemon in if bfd { &["zebra", "bfdd"][..] } else { &["zebra"] } {
            fs::write(folder.path().join(format!("{daemon}.conf")), "").unwrap();
            let process = run(link, &folder, daemon);
            wait_for(daemon, SOON, || process.log(), || answers(&folder, daemon));
            others.push(process);
        }
        let bgpd = run(link, &folder, "bgpd");
        let names = told.neighbours.iter().map(|neighbour| (neighbour.address, name(neighbour))).collect();
        let frr = Self { link: link.clone(), folder, asn: told.asn, names, bgpd, others };
        frr.wait();
        frr
    }

    fn wait(&self) {
        wait_for("bgpd answers", SOON, || self.bgpd.log(), || answers(&self.folder, "bgpd"));
    }

    fn ask(&self, lines: &[&str]) -> String {
        let socket = self.folder.path().join("bgpd.vty");
        lines
            .iter()
            .fold((connect(&socket), String::new()), |(mut vty, _), line| {
                let answer = vty.as_mut().map(|stream| say(stream, line)).unwrap_or_default();
                (vty, answer)
            })
            .1
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(&["enable", line])).unwrap_or_default()
    }

    fn name(&self, neighbour: IpAddr) -> &str {
        &self.names.iter().find(|(address, _)| *address == neighbour).unwrap().1
    }

    fn neighbour(&self, neighbour: IpAddr) -> Value {
        let name = self.name(neighbour);
        self.json(&format!("show bgp neighbors {name} json"))[name].take()
    }
}

/// FRR's name of a neighbour.
fn name(neighbour: &Neighbour) -> String {
    if neighbour.unnumbered { "net0".to_owned() } else { neighbour.address.to_string() }
}

fn write(folder: &TempDir, told: &Told) {
    fs::write(folder.path().join("bgpd.conf"), configuration(told)).unwrap();
}

fn run(link: &Link, folder: &TempDir, daemon: &str) -> Process {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (conf, pid, zserv) = (path(&format!("{daemon}.conf")), path(&format!("{daemon}.pid")), path("zserv.api"));
    let (vty, bfd) = (path(""), path("bfdd.sock"));
    let mut args = vec!["-u", "frr", "-g", "frr", "-P", "0", "--log", "stdout", "--log-level", "info"];
    args.extend(["--vty_socket", vty.trim_end_matches('/'), "-f", &conf, "-i", &pid, "-z", &zserv]);
    if daemon == "bfdd" {
        args.extend(["--bfdctl", &bfd]);
    }
    let program = format!("/usr/lib/frr/{daemon}");
    Process::start(&link.theirs, ("frr", &program), &[], &args, &folder.path().join(format!("{daemon}.log")))
}

fn connect(socket: &Path) -> Option<UnixStream> {
    let stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(stream)
}

/// One command on a terminal socket: it ends with a zero byte, its answer with three and a result.
fn say(vty: &mut UnixStream, line: &str) -> String {
    let mut answer = Vec::new();
    if vty.write_all(&[line.as_bytes(), &[0]].concat()).is_ok() {
        let mut piece = [0; 65_536];
        while answer.len() < 4 || answer[answer.len() - 4..answer.len() - 1] != [0, 0, 0] {
            match vty.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&piece[..count]),
            }
        }
    }
    answer.truncate(answer.len().saturating_sub(4));
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(folder: &TempDir, daemon: &str) -> bool {
    let socket: PathBuf = folder.path().join(format!("{daemon}.vty"));
    connect(&socket).is_some_and(|mut vty| say(&mut vty, "show version").contains("FRR"))
}

fn configuration(told: &Told) -> String {
    // Before what uses them: what they change later, bgpd takes in five seconds later.
    let mut text = String::new();
    for (at, route) in told.announce.iter().enumerate() {
        own(&mut text, at, route);
    }
    let _ = writeln!(
        text,
        "router bgp {}\n bgp router-id {}\n no bgp ebgp-requires-policy\n \
         no bgp default ipv4-unicast\n no bgp network import-check\n bgp log-neighbor-changes",
        told.asn, told.id
    );
    if let Some(seconds) = told.neighbours.iter().find_map(|neighbour| neighbour.restart_seconds) {
        let _ = writeln!(
            text,
            " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time {seconds}"
        );
    }
    for neighbour in &told.neighbours {
        session(&mut text, neighbour);
    }
    for (version, family) in [(4, "ipv4"), (6, "ipv6")] {
        let _ = writeln!(text, " address-family {family} unicast");
        for (at, route) in told.announce.iter().enumerate() {
            if route.prefix.addr().is_ipv4() == (version == 4) {
                let _ = writeln!(text, "  network {} route-map own{at}", route.prefix);
            }
        }
        for neighbour in &told.neighbours {
            family_of(&mut text, version, neighbour);
        }
        text.push_str(" exit-address-family\n");
    }
    text
}

fn session(text: &mut String, neighbour: &Neighbour) {
    let name = name(neighbour);
    let remote = if neighbour.unnumbered { "interface remote-as" } else { "remote-as" };
    let _ = writeln!(text, " neighbor {name} {remote} {}", neighbour.asn);
    let mut line = |when: bool, what: &str| {
        if when {
            let _ = writeln!(text, " neighbor {name} {what}");
        }
    };
    line(true, &format!("timers {} {HOLD_SECONDS}", HOLD_SECONDS / 3));
    line(true, "timers connect 1");
    line(true, "advertisement-interval 0");
    line(neighbour.passive, "passive");
    line(neighbour.extended_next_hop, "capability extended-nexthop");
    line(neighbour.ttl_security, "ttl-security hops 1");
    line(neighbour.bfd, "bfd 3 50 50");
    let link_local = matches!(neighbour.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    line(link_local && !neighbour.unnumbered, "interface net0");
    if let Some(role) = neighbour.role {
        line(true, &format!("local-role {role}"));
    }
    if let Some(password) = neighbour.password {
        line(true, &format!("password {password}"));
    }
}

fn family_of(text: &mut String, version: u8, neighbour: &Neighbour) {
    let name = name(neighbour);
    let mut line = |when: bool, what: &str| {
        if when {
            let _ = writeln!(text, "  neighbor {name} {what}");
        }
    };
    if !(if version == 4 { neighbour.ipv4 } else { neighbour.ipv6 }) {
        return;
    }
    line(true, "activate");
    line(neighbour.add_path, "addpath-tx-all-paths");
    line(neighbour.client, "route-reflector-client");
    if let Some(limit) = neighbour.limit {
        line(true, &format!("maximum-prefix {limit}"));
    }
}

fn own(text: &mut String, at: usize, route: &Announce) {
    let _ = writeln!(text, "route-map own{at} permit 10");
    let mut line = |what: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = writeln!(text, " set {what} {}", values.join(" "));
        }
    };
    line("community", route.communities.iter().map(|(asn, value)| format!("{asn}:{value}")).collect());
    line("extcommunity rt", route.targets.iter().map(|(asn, value)| format!("{asn}:{value}")).collect());
    line("large-community", route.large.iter().map(|(global, one, two)| format!("{global}:{one}:{two}")).collect());
    text.push_str("exit\n");
}

fn read(prefix: IpNet, path: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut communities: Vec<String> = Vec::new();
    for kind in ["community", "largeCommunity"] {
        communities.extend(text(&path[kind]["string"]).split_whitespace().map(str::to_owned));
    }
    communities.extend(text(&path["extendedCommunity"]["string"]).split_whitespace().map(str::to_lowercase));
    Seen {
        prefix: Some(prefix),
        next_hop: path["nexthops"]
            .as_array()
            .and_then(|hops| hops.first())
            .and_then(|hop| text(&hop["ip"]).parse().ok()),
        as_path: text(&path["aspath"]["string"]).split_whitespace().filter_map(|asn| asn.parse().ok()).collect(),
        communities: communities.into_iter().collect(),
        originator: text(&path["originatorId"]).parse().ok(),
    }
}

impl Daemon for Frr {
    fn is_up(&self, neighbour: IpAddr) -> bool {
        self.neighbour(neighbour)["bgpState"] == "Established"
    }

    fn routes(&self, prefix: &IpNet) -> Vec<Seen> {
        let entry = self.json(&format!("show bgp {} unicast {prefix} json", family(prefix)));
        let foreign = |path: &&Value| path["sourced"].is_null();
        let paths = entry["paths"].as_array().into_iter().flatten().filter(foreign);
        paths.map(|path| read(*prefix, path)).collect()
    }

    fn shut(&self, neighbour: IpAddr, text: &str) {
        let line = format!("neighbor {} shutdown message {text}", self.name(neighbour));
        self.ask(&["enable", "configure terminal", &format!("router bgp {}", self.asn), &line]);
    }

    fn last_words(&self, neighbour: IpAddr) -> String {
        format!("{:#}\n{}", self.neighbour(neighbour), self.bgpd.log())
    }

    fn refresh(&self, neighbour: IpAddr) {
        for family in ["ipv4", "ipv6"] {
            self.ask(&["enable", &format!("clear bgp {family} unicast {} soft in", self.name(neighbour))]);
        }
    }

    fn kill(&mut self) {
        self.bgpd.kill();
    }

    fn freeze(&self) {
        for process in self.others.iter().chain([&self.bgpd]) {
            process.freeze();
        }
    }

    fn restart(&mut self, told: &Told) {
        write(&self.folder, told);
        self.bgpd = run(&self.link, &self.folder, "bgpd");
        self.wait();
    }

    fn state(&self) -> String {
        let logs: Vec<String> = self.others.iter().chain([&self.bgpd]).map(Process::log).collect();
        let shown: Vec<String> = ["show bgp summary", "show bgp ipv4 unicast", "show bgp ipv6 unicast"]
            .iter()
            .map(|line| self.ask(&["enable", line]))
            .collect();
        shown.join("\n") + &logs.join("\n")
    }
}
