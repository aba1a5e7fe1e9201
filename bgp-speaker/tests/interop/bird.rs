//! BIRD 2. Never the system's own: configuration, socket and process are the test's.

use crate::bed::{Link, ask, folder, wait_for};
use crate::process::Process;
use crate::told::{Announce, Daemon, HOLD_SECONDS, Neighbour, Seen, Told};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/bird";

pub(crate) struct Bird {
    link: Link,
    folder: TempDir,
    neighbours: Vec<IpAddr>,
    process: Process,
}

impl Bird {
    pub(crate) fn start(link: &Link, told: &Told) -> Self {
        let folder = folder();
        write(&folder, told);
        let neighbours = told.neighbours.iter().map(|neighbour| neighbour.address).collect();
        let process = run(link, &folder, &[]);
        let bird = Self { link: link.clone(), folder, neighbours, process };
        bird.wait();
        bird
    }

    fn wait(&self) {
        wait_for("BIRD answers", crate::bed::SOON, || self.process.log(), || self.ask("show status").contains("BIRD"));
    }

    fn ask(&self, line: &str) -> String {
        let socket = self.folder.path().join("ctl");
        ask(&self.link.theirs, "/usr/sbin/birdc", &["-s", socket.to_str().unwrap(), line])
    }

    fn protocol(&self, neighbour: IpAddr) -> String {
        let at = self.neighbours.iter().position(|known| *known == neighbour).unwrap();
        format!("peer{at}")
    }
}

fn write(folder: &TempDir, told: &Told) {
    fs::write(folder.path().join("conf"), configuration(told)).unwrap();
}

fn run(link: &Link, folder: &TempDir, more: &[&str]) -> Process {
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let (conf, ctl) = (path("conf"), path("ctl"));
    let args = [&["-f", "-c", &conf, "-s", &ctl], more].concat();
    Process::start(&link.theirs, ("bird2", PROGRAM), &[], &args, &folder.path().join("log"))
}

fn configuration(told: &Told) -> String {
    let mut text = format!(
        "log stderr all;\nrouter id {};\ndebug protocols {{ states, events }};\ngraceful restart wait 30;\n\
         protocol device {{ scan time 1; }}\nprotocol direct {{ ipv4; ipv6; }}\n\
         protocol kernel {{ learn; ipv4 {{ import all; export none; }}; }}\n",
        told.id
    );
    for version in [4, 6] {
        let _ = writeln!(text, "protocol static own{version} {{ ipv{version};");
        for route in told.announce.iter().filter(|route| route.prefix.addr().is_ipv4() == (version == 4)) {
            own(&mut text, route);
        }
        text.push_str("}\n");
    }
    if told.neighbours.iter().any(|neighbour| neighbour.bfd) {
        text.push_str(
            "protocol bfd { interface \"*\" { min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }; }\n",
        );
    }
    if told.neighbours.iter().any(|neighbour| neighbour.unnumbered) {
        text.push_str("protocol radv { interface \"net0\" { min ra interval 3; max ra interval 4; }; }\n");
    }
    for (at, neighbour) in told.neighbours.iter().enumerate() {
        session(&mut text, at, told.asn, neighbour);
    }
    text
}

fn own(text: &mut String, route: &Announce) {
    let _ = writeln!(text, "  route {} blackhole {{", route.prefix);
    for (asn, value) in route.communities {
        let _ = writeln!(text, "    bgp_community.add(({asn},{value}));");
    }
    for (asn, value) in route.targets {
        let _ = writeln!(text, "    bgp_ext_community.add((rt,{asn},{value}));");
    }
    for (global, one, two) in route.large {
        let _ = writeln!(text, "    bgp_large_community.add(({global},{one},{two}));");
    }
    text.push_str("  };\n");
}

fn session(text: &mut String, at: usize, asn: u32, neighbour: &Neighbour) {
    let Neighbour { address, local, asn: remote, .. } = neighbour;
    let _ = writeln!(
        text,
        "protocol bgp peer{at} {{\n  local {local} as {asn};\n  neighbor {address} as {remote};\n  direct;\n  \
         enable extended messages;\n  connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  hold time {HOLD_SECONDS};"
    );
    let mut line = |when: bool, line: &str| {
        if when {
            let _ = writeln!(text, "  {line}");
        }
    };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    line(link_local, "interface \"net0\";");
    line(neighbour.passive, "passive;");
    line(neighbour.client, "rr client;");
    line(neighbour.bfd, "bfd;");
    line(neighbour.ttl_security, "ttl security on;");
    if let Some(role) = neighbour.role {
        line(true, &format!("local role {role};"));
    }
    if let Some(password) = neighbour.password {
        line(true, &format!("password \"{password}\";"));
    }
    match neighbour.restart_seconds {
        Some(seconds) => line(true, &format!("graceful restart on; graceful restart time {seconds};")),
        None => line(true, "graceful restart off;"),
    }
    for (version, offered) in [(4, neighbour.ipv4), (6, neighbour.ipv6)] {
        let extended = if version == 4 && neighbour.extended_next_hop { "extended next hop;" } else { "" };
        let paths = if neighbour.add_path { "add paths;" } else { "" };
        // What a reflector passes on has the next hop of another link.
        let hop = if neighbour.asn == asn { "gateway recursive;" } else { "" };
        let limit = neighbour.limit.map(|limit| format!("import limit {limit} action disable;")).unwrap_or_default();
        line(
            offered,
            &format!(
                "ipv{version} {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; \
                 {extended} {paths} {limit} {hop} }};"
            ),
        );
    }
    text.push_str("}\n");
}

/// Reads `show route all`: a line for each path, then indented lines of its attributes.
fn read(text: &str) -> Vec<Seen> {
    let mut routes: Vec<Seen> = Vec::new();
    let (mut prefix, mut is_learnt) = (None, false);
    for line in text.lines() {
        let is_path = line.contains(" [");
        if is_path {
            is_learnt = line.contains(" [peer");
        }
        if is_path && is_learnt {
            let first = line.split_whitespace().next().unwrap_or_default();
            if !line.starts_with(' ') {
                prefix = first.parse().ok();
            }
            routes.push(Seen { prefix, ..Seen::default() });
        } else if !line.starts_with([' ', '\t']) {
            prefix = line.split_whitespace().next().and_then(|first| first.parse().ok());
        }
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        let Some(route) = routes.last_mut().filter(|_| is_learnt) else { continue };
        let groups = || {
            let inside = value.split('(').skip(1).filter_map(|part| part.split(')').next());
            inside.map(|group| group.replace(", ", ":").replace(',', ":"))
        };
        match name {
            "BGP.as_path" => route.as_path = value.split_whitespace().filter_map(|asn| asn.parse().ok()).collect(),
            // A link-local one stands behind the global one, and behind `::` where there is none.
            "BGP.next_hop" => {
                let hop = value.split_whitespace().find(|hop| *hop != "::");
                route.next_hop = hop.and_then(|hop| hop.parse().ok());
            }
            "BGP.originator_id" => route.originator = value.parse().ok(),
            "BGP.community" | "BGP.ext_community" | "BGP.large_community" => route.communities.extend(groups()),
            _ => {}
        }
    }
    routes
}

impl Daemon for Bird {
    fn is_up(&self, neighbour: IpAddr) -> bool {
        self.ask(&format!("show protocols {}", self.protocol(neighbour))).contains("Established")
    }

    fn routes(&self, prefix: &IpNet) -> Vec<Seen> {
        read(&self.ask(&format!("show route {prefix} all")))
    }

    fn shut(&self, neighbour: IpAddr, text: &str) {
        self.ask(&format!("disable {} \"{text}\"", self.protocol(neighbour)));
    }

    fn last_words(&self, neighbour: IpAddr) -> String {
        self.ask(&format!("show protocols all {}", self.protocol(neighbour))) + &self.process.log()
    }

    fn refresh(&self, neighbour: IpAddr) {
        self.ask(&format!("reload in {}", self.protocol(neighbour)));
    }

    fn kill(&mut self) {
        self.process.kill();
    }

    fn freeze(&self) {
        self.process.freeze();
    }

    fn restart(&mut self, told: &Told) {
        write(&self.folder, told);
        self.process = run(&self.link, &self.folder, &["-R"]);
        self.wait();
    }

    fn state(&self) -> String {
        self.ask("show protocols all") + &self.ask("show route all") + &self.process.log()
    }
}
