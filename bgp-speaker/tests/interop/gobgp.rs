//! GoBGP. Never the system's own: configuration, port and process are the test's.

use crate::bed::{Link, SOON, ask, folder, wait_for};
use crate::process::Process;
use crate::told::{Announce, Daemon, HOLD_SECONDS, Neighbour, Seen, Told, family};
use ipnet::IpNet;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use tempfile::TempDir;

/// Its own namespace, so the port is the same for all.
const API: &str = "127.0.0.1:50051";

pub(crate) struct Gobgp {
    link: Link,
    folder: TempDir,
    process: Process,
}

impl Gobgp {
    pub(crate) fn start(link: &Link, told: &Told) -> Self {
        let folder = folder();
        let process = begin(link, &folder, told, &[]);
        Self { link: link.clone(), folder, process }
    }

    fn ask(&self, line: &str) -> String {
        say(&self.link, line)
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ask(&format!("{line} -j"))).unwrap_or_default()
    }
}

fn say(link: &Link, line: &str) -> String {
    ask(&link.theirs, "/usr/bin/gobgp", &line.split(' ').collect::<Vec<_>>())
}

/// Its own routes are not part of the configuration. It must have them before it can say that it has said all.
fn begin(link: &Link, folder: &TempDir, told: &Told, more: &[&str]) -> Process {
    fs::write(folder.path().join("conf"), configuration(told)).unwrap();
    let neighbours: Vec<IpAddr> = told.neighbours.iter().map(|neighbour| neighbour.address).collect();
    link.hide(&neighbours, true);
    let process = run(link, folder, more);
    wait_for("gobgpd answers", SOON, || process.log(), || say(link, "global").contains("AS:"));
    for route in &told.announce {
        say(link, &own(route));
    }
    link.hide(&neighbours, false);
    process
}

fn run(link: &Link, folder: &TempDir, more: &[&str]) -> Process {
    let conf = folder.path().join("conf");
    let args = ["-f", conf.to_str().unwrap(), "--api-hosts", API, "-p", "--pprof-disable"];
    let args = [&args[..], more].concat();
    Process::start(&link.theirs, ("gobgpd", "/usr/bin/gobgpd"), &[], &args, &folder.path().join("log"))
}

fn configuration(told: &Told) -> String {
    let mut text = format!("[global.config]\nas = {}\nrouter-id = \"{}\"\n", told.asn, told.id);
    for neighbour in &told.neighbours {
        session(&mut text, neighbour, &told.id.to_string());
    }
    text
}

fn session(text: &mut String, neighbour: &Neighbour, id: &str) {
    let mut part = |name: &str, lines: &[String]| {
        let _ = writeln!(text, "{name}\n{}", lines.join("\n"));
    };
    part("[[neighbors]]", &[]);
    let mut config =
        vec![format!("neighbor-address = \"{}\"", neighbour.address), format!("peer-as = {}", neighbour.asn)];
    config.extend(neighbour.password.map(|password| format!("auth-password = \"{password}\"")));
    part("[neighbors.config]", &config);
    part(
        "[neighbors.timers.config]",
        &[format!(
            "hold-time = {HOLD_SECONDS}\nkeepalive-interval = {}\nconnect-retry = 1\nidle-hold-time-after-reset = 1",
            HOLD_SECONDS / 3
        )],
    );
    part(
        "[neighbors.transport.config]",
        &[format!("local-address = \"{}\"\npassive-mode = {}", neighbour.local, neighbour.passive)],
    );
    if neighbour.ttl_security {
        part("[neighbors.ttl-security.config]", &["enabled = true\nttl-min = 255".to_owned()]);
    }
    if neighbour.client {
        part(
            "[neighbors.route-reflector.config]",
            &[format!("route-reflector-client = true\nroute-reflector-cluster-id = \"{id}\"")],
        );
    }
    if let Some(seconds) = neighbour.restart_seconds {
        part(
            "[neighbors.graceful-restart.config]",
            &[format!("enabled = true\nrestart-time = {seconds}\ndeferral-time = 5\nnotification-enabled = true")],
        );
    }
    for (name, offered) in [("ipv4-unicast", neighbour.ipv4), ("ipv6-unicast", neighbour.ipv6)] {
        if !offered {
            continue;
        }
        part("[[neighbors.afi-safis]]", &[]);
        part("[neighbors.afi-safis.config]", &[format!("afi-safi-name = \"{name}\"")]);
        if neighbour.restart_seconds.is_some() {
            part("[neighbors.afi-safis.mp-graceful-restart.config]", &["enabled = true".to_owned()]);
        }
        if neighbour.add_path {
            part("[neighbors.afi-safis.add-paths.config]", &["receive = true\nsend-max = 8".to_owned()]);
        }
        if let Some(limit) = neighbour.limit {
            part("[neighbors.afi-safis.prefix-limit.config]", &[format!("max-prefixes = {limit}")]);
        }
    }
}

fn own(route: &Announce) -> String {
    let mut line = format!("global rib add {} -a {}", route.prefix, family(&route.prefix));
    let mut set = |what: &str, values: Vec<String>| {
        if !values.is_empty() {
            let _ = write!(line, " {what} {}", values.join(","));
        }
    };
    set("community", route.communities.iter().map(|(asn, value)| format!("{asn}:{value}")).collect());
    set("large-community", route.large.iter().map(|(global, one, two)| format!("{global}:{one}:{two}")).collect());
    set("rt", route.targets.iter().map(|(asn, value)| format!("{asn}:{value}")).collect());
    line
}

/// A path as it stands in the JSON: attributes by their type code.
fn read(prefix: IpNet, path: &Value) -> Seen {
    let mut seen = Seen { prefix: Some(prefix), ..Seen::default() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    for attribute in list(&path["attrs"]) {
        let value = &attribute["value"];
        let text = || value.as_str().unwrap_or_default().to_owned();
        match number(&attribute["type"]) {
            2 => {
                for segment in list(&attribute["as_paths"]) {
                    seen.as_path
                        .extend(list(&segment["asns"]).iter().filter_map(|asn| u32::try_from(asn.as_u64()?).ok()));
                }
            }
            3 => seen.next_hop = attribute["nexthop"].as_str().and_then(|hop| hop.parse().ok()),
            8 => {
                let all = list(&attribute["communities"]);
                seen.communities
                    .extend(all.iter().map(number).map(|value| format!("{}:{}", value >> 16, value & 0xffff)));
            }
            9 => seen.originator = text().parse().ok(),
            14 => seen.next_hop = attribute["nexthop"].as_str().and_then(|hop| hop.parse().ok()),
            16 => {
                for one in list(value).iter().filter(|one| number(&one["type"]) == 0 && number(&one["subtype"]) == 2) {
                    seen.communities.insert(format!("rt:{}", one["value"].as_str().unwrap_or_default()));
                }
            }
            32 => {
                for one in list(value) {
                    let parts = ["ASN", "LocalData1", "LocalData2"].map(|part| number(&one[part]).to_string());
                    seen.communities.insert(parts.join(":"));
                }
            }
            _ => {}
        }
    }
    seen
}

impl Daemon for Gobgp {
    fn is_up(&self, neighbour: IpAddr) -> bool {
        // 6 is "established".
        self.json(&format!("neighbor {neighbour}"))["state"]["session_state"] == 6
    }

    fn routes(&self, prefix: &IpNet) -> Vec<Seen> {
        let table = self.json(&format!("global rib {prefix} -a {}", family(prefix)));
        let foreign =
            |path: &&Value| path["source-id"].as_str().is_some_and(|id| id != "0.0.0.0" && !id.contains("nil"));
        let paths =
            table.as_object().into_iter().flatten().flat_map(|(_, paths)| paths.as_array().into_iter().flatten());
        paths.filter(foreign).map(|path| read(*prefix, path)).collect()
    }

    fn shut(&self, neighbour: IpAddr, text: &str) {
        let words = ["neighbor", &neighbour.to_string(), "shutdown", "--reason", text];
        ask(&self.link.theirs, "/usr/bin/gobgp", &words);
    }

    fn last_words(&self, neighbour: IpAddr) -> String {
        self.ask(&format!("neighbor {neighbour}")) + &self.process.log()
    }

    fn refresh(&self, neighbour: IpAddr) {
        self.ask(&format!("neighbor {neighbour} softresetin"));
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn freeze(&self) {
        self.process.freeze();
    }

    fn restart(&mut self, told: &Told) {
        self.process = begin(&self.link, &self.folder, told, &["-r"]);
    }

    fn state(&self) -> String {
        let lines = ["neighbor -j", "global rib -a ipv4 -j", "global rib -a ipv6 -j"];
        lines.map(|line| self.ask(line)).join("\n") + &self.process.log()
    }
}
