//! ExaBGP, which keeps no routes: what it hears is written down as JSON, and read here. Never the system's own.

use crate::bed::{Link, SOON, folder, wait_for};
use crate::process::Process;
use crate::told::{Announce, Daemon, HOLD_SECONDS, Neighbour, Seen, Told};
use ipnet::IpNet;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

pub(crate) struct Exabgp {
    link: Link,
    folder: TempDir,
    add_path: bool,
    process: Process,
}

impl Exabgp {
    pub(crate) fn start(link: &Link, told: &Told) -> Self {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("commands"), "").unwrap();
        let watch = path("watch");
        // Commands go in as lines of one file, what is heard comes out as lines of another.
        let script =
            format!("#!/bin/sh\ntail -n +1 -f {0}/commands &\nexec cat >> {0}/heard\n", folder.path().display());
        fs::write(&watch, script).unwrap();
        fs::set_permissions(&watch, fs::Permissions::from_mode(0o755)).unwrap();
        write(&folder, told);
        let process = run(link, &folder);
        let exabgp = Self { link: link.clone(), folder, add_path: told.neighbours[0].add_path, process };
        exabgp.wait();
        exabgp
    }

    fn wait(&self) {
        wait_for("exabgp runs", SOON, || self.process.log(), || self.folder.path().join("heard").exists());
    }

    fn heard(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("heard")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn say(&self, line: &str) {
        let mut commands = File::options().append(true).open(self.folder.path().join("commands")).unwrap();
        writeln!(commands, "{line}").unwrap();
    }
}

fn write(folder: &TempDir, told: &Told) {
    let watch = folder.path().join("watch");
    fs::write(folder.path().join("conf"), configuration(told, watch.to_str().unwrap())).unwrap();
}

fn run(link: &Link, folder: &TempDir) -> Process {
    let conf = folder.path().join("conf");
    let settings = [
        "/usr/bin/env",
        "exabgp.daemon.user=root",
        "exabgp.daemon.daemonize=false",
        "exabgp.daemon.drop=false",
        "exabgp.log.destination=stdout",
        "exabgp.api.cli=false",
        "exabgp.api.ack=false",
        "exabgp.tcp.bind=0.0.0.0 ::",
        "exabgp.reactor.speed=0.1",
    ];
    Process::start(
        &link.theirs,
        ("exabgp", "/usr/sbin/exabgp"),
        &settings,
        &[conf.to_str().unwrap()],
        &folder.path().join("log"),
    )
}

fn configuration(told: &Told, watch: &str) -> String {
    let mut text = format!("process watch {{\n  run {watch};\n  encoder json;\n}}\n");
    for neighbour in &told.neighbours {
        session(&mut text, told, neighbour);
    }
    text
}

fn session(text: &mut String, told: &Told, neighbour: &Neighbour) {
    let _ = writeln!(
        text,
        "neighbor {} {{\n  router-id {};\n  local-address {};\n  local-as {};\n  peer-as {};\n  hold-time {HOLD_SECONDS};",
        neighbour.address, told.id, neighbour.local, told.asn, neighbour.asn
    );
    let mut line = |when: bool, line: &str| {
        if when {
            let _ = writeln!(text, "  {line}");
        }
    };
    line(neighbour.passive, "passive true;");
    line(neighbour.ttl_security, "outgoing-ttl 255; incoming-ttl 255;");
    if let Some(password) = neighbour.password {
        line(true, &format!("md5-password \"{password}\"; md5-base64 false;"));
    }
    line(true, "family {");
    line(neighbour.ipv4, "  ipv4 unicast;");
    line(neighbour.ipv6, "  ipv6 unicast;");
    line(true, "}");
    let restart = neighbour.restart_seconds.map(|seconds| format!("graceful-restart {seconds};")).unwrap_or_default();
    let paths = if neighbour.add_path { "add-path send/receive;" } else { "" };
    let extended = if neighbour.extended_next_hop { "nexthop;" } else { "" };
    line(true, &format!("capability {{ asn4 enable; route-refresh enable; {restart} {paths} {extended} }}"));
    if neighbour.extended_next_hop {
        line(true, "nexthop { ipv4 unicast ipv6; }");
    }
    line(
        true,
        "api {\n    processes [ watch ];\n    neighbor-changes;\n    receive { parsed; update; notification; refresh; }\n  }",
    );
    line(true, "static {");
    let offered = |route: &&Announce| if route.prefix.addr().is_ipv4() { neighbour.ipv4 } else { neighbour.ipv6 };
    for route in told.announce.iter().filter(offered) {
        line(true, &own(route, neighbour));
    }
    line(true, "}");
    text.push_str("}\n");
}

fn own(route: &Announce, neighbour: &Neighbour) -> String {
    // On a session over IPv4 "self" is no next hop for IPv6, and the other way round.
    let same = route.prefix.addr().is_ipv4() == neighbour.local.is_ipv4();
    let hop = if same {
        "self"
    } else if route.prefix.addr().is_ipv4() {
        "10.0.1.2"
    } else {
        "fd00:1::2"
    };
    let local = neighbour.local.to_string();
    let hop = if neighbour.extended_next_hop { &local } else { hop };
    let mut line = format!("  route {} next-hop {hop}", route.prefix);
    let mut set = |what: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = write!(line, " {what} [ {} ]", values.join(" "));
        }
    };
    set("community", route.communities.iter().map(|(asn, value)| format!("{asn}:{value}")).collect());
    set("large-community", route.large.iter().map(|(global, one, two)| format!("{global}:{one}:{two}")).collect());
    set("extended-community", route.targets.iter().map(|(asn, value)| format!("target:{asn}:{value}")).collect());
    line + ";"
}

/// What an UPDATE announces with one set of attributes.
fn announced(update: &Value) -> Vec<Seen> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let attributes = &update["attribute"];
    let mut seen = Seen { ..Seen::default() };
    // Written as a list, or as an object of segments.
    let path = &attributes["as-path"];
    let segments = path.as_object().into_iter().flatten().flat_map(|(_, segment)| list(&segment["value"]));
    seen.as_path = list(path).into_iter().chain(segments).filter_map(|asn| u32::try_from(asn.as_u64()?).ok()).collect();
    seen.originator = attributes["originator-id"].as_str().and_then(|id| id.parse().ok());
    for kind in ["community", "large-community"] {
        for community in list(&attributes[kind]) {
            let parts: Vec<String> = list(&community).iter().map(ToString::to_string).collect();
            seen.communities.insert(parts.join(":"));
        }
    }
    for community in list(&attributes["extended-community"]) {
        let text = community["string"].as_str().unwrap_or_default();
        seen.communities.insert(text.replace("target:", "rt:"));
    }
    let mut all = Vec::new();
    for (_, hops) in update["announce"].as_object().into_iter().flatten() {
        for (hop, nlri) in hops.as_object().into_iter().flatten() {
            for prefix in list(nlri) {
                let prefix = prefix["nlri"].as_str().and_then(|prefix| prefix.parse().ok());
                all.push(Seen { prefix, next_hop: hop.parse().ok(), ..seen.clone() });
            }
        }
    }
    all
}

impl Daemon for Exabgp {
    fn is_up(&self, neighbour: IpAddr) -> bool {
        let heard = self.heard();
        let state = heard.iter().rev().find(|event| {
            event["type"] == "state" && event["neighbor"]["address"]["peer"] == neighbour.to_string().as_str()
        });
        state.is_some_and(|event| event["neighbor"]["state"] == "up")
    }

    fn routes(&self, _prefix: &IpNet) -> Vec<Seen> {
        let mut routes: Vec<Seen> = Vec::new();
        for event in self.heard() {
            if event["neighbor"]["state"] == "down" {
                routes.clear();
            }
            let update = &event["neighbor"]["message"]["update"];
            for (_, nlri) in update["withdraw"].as_object().into_iter().flatten() {
                for prefix in nlri.as_array().into_iter().flatten() {
                    let prefix = prefix["nlri"].as_str().and_then(|prefix| prefix.parse().ok());
                    routes.retain(|route| route.prefix != prefix);
                }
            }
            for new in announced(update) {
                // With add-path the next hops may be equal; without, only one announcement counts.
                routes.retain(|route| route.prefix != new.prefix || (self.add_path && route.as_path != new.as_path));
                routes.push(new);
            }
        }
        routes
    }

    fn shut(&self, neighbour: IpAddr, _text: &str) {
        self.say(&format!("neighbor {neighbour} teardown 2"));
    }

    fn last_words(&self, _neighbour: IpAddr) -> String {
        self.heard().iter().map(|event| format!("{event}\n")).collect::<String>() + &self.process.log()
    }

    fn refresh(&self, neighbour: IpAddr) {
        for family in ["ipv4", "ipv6"] {
            self.say(&format!("neighbor {neighbour} announce route-refresh {family} unicast"));
        }
    }

    fn kill(&mut self) {
        self.process.kill();
        // What it knew is gone with it.
        fs::write(self.folder.path().join("heard"), "").unwrap();
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
        self.heard().iter().map(|event| format!("{event}\n")).collect::<String>() + &self.process.log()
    }
}
