//! Debian packages that the chores need. Never installs what is there, and says what each is for.

use crate::error::{Error, Result};
use crate::run::run;
use std::path::Path;
use std::process::Command;

/// A program we need, the package that has it, and what for.
pub(crate) struct Need {
    program: &'static str,
    package: &'static str,
    purpose: &'static str,
    /// The package would have it running at once, and after each boot: only the tests shall start it.
    daemon: bool,
}

pub(crate) const fn need(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose, daemon: false }
}

const fn daemon(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose, daemon: true }
}

/// What the lab needs besides Rust.
pub(crate) const LAB: &[Need] = &[need("/usr/bin/cc", "gcc libc6-dev", "links Rust programs")];

/// What the tests need besides that: real peers to compare with.
pub(crate) const TEST: &[Need] = &[
    need("/usr/bin/cc", "gcc libc6-dev", "links Rust programs"),
    need("ip", "iproute2", "reads back what our netlink code writes"),
    need("nft", "nftables", "reads back what our nftables encoder writes"),
    need("ethtool", "ethtool", "reads back which offloads our code switched"),
    need("ping", "iputils-ping", "an independent probe between pods"),
    need("/usr/lib/cni/bridge", "containernetworking-plugins", "the reference plugins, run by our runtime"),
    need("podman", "podman conmon", "a real container engine that calls our plugin"),
    need("runc", "runc", "runs the containers of that engine"),
    need("busybox", "busybox-static", "what those containers hold"),
    daemon("/usr/sbin/bird", "bird2", "a BGP peer, and a second opinion on ours"),
    daemon("/usr/lib/frr/bgpd", "frr", "a BGP and BFD peer"),
    daemon("/usr/bin/gobgpd", "gobgpd", "a BGP peer"),
    daemon("/usr/sbin/exabgp", "exabgp", "a BGP peer"),
    daemon("/usr/sbin/bgpd", "openbgpd", "a BGP peer"),
];

const APT: [&str; 5] = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-oDPkg::Lock::Timeout=300"];

/// Programs that packages start, or have started at the next boot, their daemons with.
const STARTERS: &[&str] =
    &["/usr/sbin/invoke-rc.d", "/usr/sbin/update-rc.d", "/usr/bin/deb-systemd-invoke", "/usr/bin/deb-systemd-helper"];

/// Runs the words that follow with nothing in the place of each starter: in a mount namespace, so that nothing is left to
/// be taken back, however this ends.
fn quietly() -> [String; 6] {
    let masks: String = STARTERS
        .iter()
        .map(|starter| format!("if test -e {starter}; then mount --bind /bin/true {starter}; fi && "))
        .collect();
    ["unshare", "--mount", "/bin/sh", "-c", &format!("{masks}exec \"$@\""), "sh"].map(str::to_owned)
}

fn present(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|folder| Path::new(folder).join(program).exists())
}

/// Installs what is missing.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !present(need.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine, to be installed from Debian:");
    for need in &missing {
        eprintln!("  {:28} {}", need.package, need.purpose);
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.package.split(' ')).collect();
    let mut words: Vec<String> = Vec::new();
    if !is_root() {
        if !present("sudo") {
            let programs: Vec<&str> = missing.iter().map(|need| need.program).collect();
            return Err(Error::NotRoot { programs: programs.join(", "), packages: packages.join(" ") });
        }
        words.push("sudo".to_owned());
    }
    if missing.iter().any(|need| need.daemon) {
        words.extend(quietly());
    }
    words.extend(APT.map(str::to_owned));
    let apt = |args: &[&str]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args);
        command
    };
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "-y", "--no-install-recommends"]).args(&packages).stdout(std::io::stderr()))
}

/// Whether we are root: the effective user id stands in our own status.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}
