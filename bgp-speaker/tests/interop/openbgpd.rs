//! OpenBGPD, the portable one. Never the system's own: configuration, socket and process are the test's.

use crate::bed::{Link, SOON, ask, folder, wait_for};
use crate::process::Process;
use crate::told::{Announce, Daemon, HOLD_SECONDS, Neighbour, Seen, Told};
use ipnet::IpNet;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

pub(crate) struct Openbgpd {
    link: Link,
    folder: TempDir,
    process: Process,
}

impl Openbgpd {
    pub(crate) fn start(link: &Link, told: &Told) -> Self {
        let folder = folder();
        write(&folder, told);
        let process = run(link, &folder);
        let openbgpd = Self { link: link.clone(), folder, process };
        openbgpd.wait();
        openbgpd
    }

    fn wait(&self) {
        wait_for("openbgpd answers", SOON, || self.process.log(), || self.json("show summary").is_object());
    }

    fn ask(&self, line: &str) -> String {
        let socket = self.folder.path().join("ctl");
        let args: Vec<&str> = ["-s", socket.to_str().unwrap()].into_iter().chain(line.split(' ')).collect();
        ask(&self.link.theirs, "/usr/sbin/bgpctl", &args)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(&format!("-j {line}"))).unwrap_or_default()
    }

    fn neighbour(&self, neighbour: IpAddr) -> Value {
        self.json(&format!("show neighbor {neighbour}"))["neighbors"][0].take()
    }
}

fn write(folder: &TempDir, told: &Told) {
    let conf = folder.path().join("conf");
    fs::write(&conf, configuration(told, &folder.path().join("ctl"))).unwrap();
    // It refuses a file that others may read.
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o600)).unwrap();
}

fn run(link: &Link, folder: &TempDir) -> Process {
    let conf = folder.path().join("conf");
    // It wants to change its root to this folder, which the host has only where systemd started it once.
    let folders = "mount -t tmpfs tmpfs /run && mkdir /run/openbgpd && exec \"$@\"";
    let before = ["/usr/bin/unshare", "-m", "/bin/sh", "-c", folders, "sh"];
    let args = ["-d", "-v", "-f", conf.to_str().unwrap()];
    Process::start(&link.theirs, ("openbgpd", "/usr/sbin/bgpd"), &before, &args, &folder.path().join("log"))
}

fn configuration(told: &Told, socket: &Path) -> String {
    let mut text = format!(
        "AS {}\nrouter-id {}\nsocket \"{}\"\nfib-update no\nlisten on 0.0.0.0\nlisten on ::\nconnect-retry 1\n",
        told.asn,
        told.id,
        socket.display()
    );
    for route in &told.announce {
        own(&mut text, route);
    }
    for neighbour in &told.neighbours {
        session(&mut text, neighbour);
    }
    text + "allow from any\nallow to any\n"
}

fn own(text: &mut String, route: &Announce) {
    let mut set = String::new();
    for (asn, value) in route.communities {
        let _ = write!(set, " community {asn}:{value}");
    }
    for (global, one, two) in route.large {
        let _ = write!(set, " large-community {global}:{one}:{two}");
    }
    for (asn, value) in route.targets {
        let _ = write!(set, " ext-community rt {asn}:{value}");
    }
    let set = if set.is_empty() { set } else { format!(" set {{{set} }}") };
    let _ = writeln!(text, "network {}{set}", route.prefix);
}

fn session(text: &mut String, neighbour: &Neighbour) {
    let _ = writeln!(text, "neighbor {} {{", neighbour.address);
    let mut line = |when: bool, line: &str| {
        if when {
            let _ = writeln!(text, "  {line}");
        }
    };
    line(true, &format!("remote-as {}", neighbour.asn));
    line(true, &format!("local-address {}", neighbour.local));
    line(true, &format!("holdtime {HOLD_SECONDS}"));
    line(neighbour.ipv4, "announce IPv4 unicast");
    line(!neighbour.ipv4, "announce IPv4 none");
    line(neighbour.ipv6, "announce IPv6 unicast");
    line(!neighbour.ipv6, "announce IPv6 none");
    line(true, "announce refresh yes");
    line(neighbour.restart_seconds.is_none(), "announce restart no");
    line(neighbour.add_path, "announce add-path recv yes");
    line(neighbour.add_path, "announce add-path send all");
    line(neighbour.passive, "passive");
    line(neighbour.client, "route-reflector");
    line(neighbour.ttl_security, "ttl-security yes");
    if let Some(role) = neighbour.role {
        line(true, &format!("announce policy {role}"));
    }
    if let Some(password) = neighbour.password {
        line(true, &format!("tcp md5sig password \"{password}\""));
    }
    if let Some(limit) = neighbour.limit {
        line(true, &format!("max-prefix {limit}"));
    }
    text.push_str("}\n");
}

fn read(path: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen = Seen {
        prefix: text(&path["prefix"]).parse().ok(),
        next_hop: text(&path["exit_nexthop"]).parse().ok(),
        as_path: text(&path["aspath"]).split_whitespace().filter_map(|asn| asn.parse().ok()).collect(),
        ..Seen::default()
    };
    for kind in ["communities", "large_communities", "extended_communities"] {
        for community in path[kind].as_array().into_iter().flatten() {
            seen.communities.insert(text(community).replace("rt ", "rt:"));
        }
    }
    for attribute in path["attributes"].as_array().into_iter().flatten() {
        if attribute["type"] == "Originator Id" {
            seen.originator = text(&attribute["originator"]).parse().ok();
        }
    }
    seen
}

impl Daemon for Openbgpd {
    fn is_up(&self, neighbour: IpAddr) -> bool {
        self.neighbour(neighbour)["state"] == "Established"
    }

    fn routes(&self, prefix: &IpNet) -> Vec<Seen> {
        let table = self.json(&format!("show rib detail {prefix}"));
        let foreign =
            |path: &&Value| path["neighbor"]["remote_addr"].as_str() != Some("LOCAL") && path["announced"] != true;
        table["rib"].as_array().into_iter().flatten().filter(foreign).map(read).collect()
    }

    fn shut(&self, neighbour: IpAddr, text: &str) {
        let socket = self.folder.path().join("ctl");
        let words = ["-s", socket.to_str().unwrap(), "neighbor", &neighbour.to_string(), "down", text];
        ask(&self.link.theirs, "/usr/sbin/bgpctl", &words);
    }

    fn last_words(&self, neighbour: IpAddr) -> String {
        self.ask(&format!("show neighbor {neighbour}")) + &self.process.log()
    }

    fn refresh(&self, neighbour: IpAddr) {
        self.ask(&format!("neighbor {neighbour} refresh"));
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn freeze(&self) {
        self.process.freeze();
    }

    fn restart(&mut self, told: &Told) {
        write(&self.folder, told);
        self.process = run(&self.link, &self.folder);
        self.wait();
    }

    fn state(&self) -> String {
        ["-j show neighbor", "-j show rib detail"].map(|line| self.ask(line)).join("\n") + &self.process.log()
    }
}
