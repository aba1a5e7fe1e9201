//! The daemons beside each other: how each is told to be the same router. Never the system's own: configuration, folder,
//! process and namespace are ours.

use crate::Outcome;
use crate::bed::{DAEMON, address};
use crate::message::HOLD_SECONDS;
use crate::meter::Meter;
use net_linux::netns::NetNs;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The daemon's system.
pub(crate) const ASN: u16 = 65_000;

/// A neighbour as the daemon is told of it: all are passive, so that the field decides when it comes.
pub(crate) struct Neighbour {
    pub(crate) number: usize,
    pub(crate) asn: u16,
}

impl Neighbour {
    fn client(&self) -> bool {
        self.asn == ASN
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Ours,
    Bird,
    Frr,
    Gobgp,
}

impl Contender {
    pub(crate) const ALL: [Self; 4] = [Self::Ours, Self::Bird, Self::Frr, Self::Gobgp];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "cnidarian",
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::Gobgp => "gobgp",
        }
    }

    fn configuration(self, neighbours: &[Neighbour]) -> String {
        let mut text = match self {
            Self::Ours => format!("{ASN} {DAEMON}\n"),
            Self::Bird => format!(
                "log stderr {{ warning, error, fatal }};\nrouter id {DAEMON};\nprotocol device {{}}\n\
                 protocol static {{ ipv4 {{}}; route 10.1.0.0/16 via {}; }}\n\
                 template bgp peer {{ local {DAEMON} as {ASN}; passive on; hold time {HOLD_SECONDS};\n\
                 ipv4 {{ import all; export where source = RTS_BGP; }}; }}\n",
                address(0)
            ),
            Self::Frr => format!(
                "router bgp {ASN}\n bgp router-id {DAEMON}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
                 coalesce-time 100\n timers bgp {} {HOLD_SECONDS}\n neighbor clients peer-group\n neighbor clients remote-as {ASN}\n \
                 neighbor clients passive\n",
                HOLD_SECONDS / 3
            ),
            Self::Gobgp => format!("[global.config]\nas = {ASN}\nrouter-id = \"{DAEMON}\"\n"),
        };
        for neighbour in neighbours {
            self.neighbour(&mut text, neighbour);
        }
        if self == Self::Frr && neighbours.iter().any(Neighbour::client) {
            text.push_str(
                " address-family ipv4 unicast\n  neighbor clients route-reflector-client\n exit-address-family\n",
            );
        }
        text
    }

    fn neighbour(self, text: &mut String, neighbour: &Neighbour) {
        let (address, asn, client) = (address(neighbour.number), neighbour.asn, neighbour.client());
        let written = match self {
            Self::Ours => writeln!(text, "{address} {asn}"),
            Self::Bird => {
                let client = if client { "rr client; " } else { "" };
                writeln!(
                    text,
                    "protocol bgp p{} from peer {{ neighbor {address} as {asn}; {client}}}",
                    neighbour.number
                )
            }
            Self::Frr if client => writeln!(text, " neighbor {address} peer-group clients"),
            Self::Frr => writeln!(text, " neighbor {address} remote-as {asn}\n neighbor {address} passive"),
            Self::Gobgp => writeln!(
                text,
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {asn}\n\
                 [neighbors.transport.config]\npassive-mode = true\n\
                 [neighbors.timers.config]\nhold-time = {HOLD_SECONDS}\nkeepalive-interval = {}\n\
                 [neighbors.route-reflector.config]\nroute-reflector-client = {client}\n\
                 route-reflector-cluster-id = \"{DAEMON}\"\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"",
                HOLD_SECONDS / 3
            ),
        };
        // Writing to a string cannot fail.
        let _ = written;
    }
}

/// Starts a daemon, says its process id, and ends it when its own standard input ends: also when we are killed.
const TETHER: &str = r#""$@" </dev/null >&2 & echo $!; read -r _; kill -KILL $!; wait"#;

/// A running daemon, ended with this.
pub(crate) struct Daemon {
    tether: Child,
    pid: u32,
    folder: TempDir,
}

impl Daemon {
    pub(crate) fn start(who: Contender, namespace: &NetNs, neighbours: &[Neighbour]) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("bgp-bench-").tempdir()?;
        // bgpd gives up being root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let path = |name: &str| folder.path().join(name).into_os_string().into_string().map_err(|_| "temporary folder");
        let (conf, pid, ctl) = (path("conf")?, path("pid")?, path("ctl")?);
        fs::write(&conf, who.configuration(neighbours))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", TETHER, "sh"]);
        match who {
            Contender::Ours => command.arg(std::env::current_exe()?.with_file_name("bgp-router")).arg(&conf),
            Contender::Bird => command.args(["/usr/sbin/bird", "-f", "-c", &conf, "-s", &ctl]),
            Contender::Frr => {
                command.args(["/usr/lib/frr/bgpd", "-Z", "-n", "-u", "frr", "-g", "frr", "-P", "0", "-f", &conf]);
                command.args(["-i", &pid, "--log", "stdout", "--vty_socket"]).arg(folder.path())
            }
            Contender::Gobgp => command.args(["/usr/bin/gobgpd", "-f", &conf, "--api-hosts", "127.0.0.1:50051"]),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(path("log")?)?);
        let mut tether = namespace.spawn(&mut command)?;
        let mut line = String::new();
        BufReader::new(tether.stdout.take().ok_or("stdout is piped")?).read_line(&mut line)?;
        Ok(Self { tether, pid: line.trim().parse()?, folder })
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter(self.pid)
    }

    /// The end of what it printed.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.tether.stdin.take());
        let _ = self.tether.wait();
    }
}
