//! Routers of other makes beside the nodes: BIRD, and FRR's bgpd with zebra. Never the system's own: configuration, sockets
//! and processes are the test's.

use net_linux::netns::NetNs;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testlab::bed::{Daemon, Pod, Underlays, run, try_run};

const PATIENCE: Duration = Duration::from_secs(30);

/// A host with an address that is reached through it, where an echo server answers.
pub(crate) struct Host {
    pub(crate) pod: Pod,
    folder: TempDir,
}

impl Host {
    /// On the segment of its number.
    pub(crate) fn plugged(underlays: &Underlays, number: u8, address: &str) -> Self {
        let netns = NetNs::new().unwrap();
        underlays.plug(number, &netns);
        Self::new(netns, address)
    }

    /// On no segment.
    pub(crate) fn apart(address: &str) -> Self {
        let netns = NetNs::new().unwrap();
        netns.run(|| run("ip link set lo up")).unwrap();
        Self::new(netns, address)
    }

    fn new(netns: NetNs, address: &str) -> Self {
        let settle = || {
            run(&format!("ip address add {address}/32 dev lo"));
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        };
        netns.run(settle).unwrap();
        let folder = tempfile::Builder::new().prefix("cnidarian-router-").tempdir().unwrap();
        // FRR's daemons become a user of their own.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        Self { pod: Pod::serving(netns, vec![address.parse::<IpAddr>().unwrap()]), folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn start(&self, package: &str, program: &str, args: &[&str]) -> Daemon {
        Daemon::start(&self.pod.netns, (package, program), args, &self.folder.path().join("log"))
    }

    /// The kernel's way from here to an address.
    pub(crate) fn way(&self, address: &str) -> String {
        let found = self.pod.netns.run(|| try_run(&format!("ip route get {address}"))).unwrap();
        found.unwrap_or_default()
    }
}

/// BIRD 2.
pub(crate) struct Bird {
    pub(crate) host: Host,
    daemon: Daemon,
}

impl Bird {
    /// Starts it with what it shares with all others, and its own sessions. It announces the address of its host, and puts
    /// what it learns into the kernel.
    pub(crate) fn start(host: Host, sessions: &str) -> Self {
        let address = host.pod.addresses[0];
        let common = format!(
            "log stderr all;\nrouter id {address};\nprotocol device {{ scan time 1; }}\n\
             protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}\n\
             protocol static own {{ ipv4; route {address}/32 blackhole; }}\n\
             template bgp node {{ connect delay time 1; connect retry time 1; error wait time 1, 2; hold time 90; \
             graceful restart off; ipv4 {{ import all; export where source ~ [ RTS_STATIC, RTS_BGP ]; }}; }}\n"
        );
        fs::write(host.path("bird.conf"), common + sessions).unwrap();
        let (conf, ctl) = (host.path("bird.conf"), host.path("bird.ctl"));
        let daemon = host.start("bird2", "/usr/sbin/bird", &["-f", "-c", &conf, "-s", &ctl]);
        let bird = Self { host, daemon };
        bird.wait("show status", |answer| answer.contains("Daemon is up"));
        bird
    }

    pub(crate) fn ask(&self, question: &str) -> String {
        let line = format!("/usr/sbin/birdc -s {} {question}", self.host.path("bird.ctl"));
        self.host.pod.netns.run(|| try_run(&line)).unwrap().unwrap_or_else(|error| error)
    }

    /// Asks until the answer is as wanted, and gives it.
    pub(crate) fn wait(&self, question: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(question);
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{question}: {answer}\n{}", self.daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for a session by the name of its protocol.
    pub(crate) fn wait_established(&self, protocol: &str) {
        self.wait(&format!("show protocols {protocol}"), |answer| answer.contains("Established"));
    }
}

/// FRRouting: zebra and bgpd.
pub(crate) struct Frr {
    pub(crate) host: Host,
    _daemons: Vec<Daemon>,
}

impl Frr {
    /// Starts both; `bgpd` is the configuration of the latter.
    pub(crate) fn start(host: Host, bgpd: &str) -> Self {
        fs::write(host.path("zebra.conf"), "").unwrap();
        fs::write(host.path("bgpd.conf"), bgpd).unwrap();
        let start = |name: &str| {
            let (conf, pid) = (host.path(&format!("{name}.conf")), host.path(&format!("{name}.pid")));
            let (api, vty) = (host.path("zserv.api"), host.path(""));
            let mut args = vec!["-u", "frr", "-g", "frr", "-P", "0", "--log", "stdout", "--vty_socket"];
            args.extend([vty.trim_end_matches('/'), "-f", &conf, "-i", &pid, "-z", &api]);
            let daemon = host.start("frr", &format!("/usr/lib/frr/{name}"), &args);
            let deadline = Instant::now() + PATIENCE;
            while fs::metadata(host.path(&format!("{name}.vty"))).is_err() {
                assert!(Instant::now() < deadline, "{name} does not start: {}", daemon.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            daemon
        };
        let daemons = ["zebra", "bgpd"].map(start).into();
        Self { host, _daemons: daemons }
    }
}
