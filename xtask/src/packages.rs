//! Debian packages that the chores need. Never installs what is there, and says what each is for.

use crate::error::{Error, Result};
use crate::run::run;
use std::path::{Path, PathBuf};
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

/// What a VM is made of, besides its kernel and the emulator.
pub(crate) const VM: &[Need] = &[
    need("/usr/bin/cc", "gcc libc6-dev", "links Rust programs"),
    need("strip", "binutils", "makes the programs that go into a VM smaller"),
    need("busybox", "busybox-static", "the small programs in a VM"),
    need("dash", "dash", "the shell in a VM"),
    need("modprobe", "kmod", "indexes and loads a kernel's modules"),
    need("lz4", "lz4", "unpacks kernels"),
    need("xz", "xz-utils", "unpacks kernels and modules"),
    need("zstd", "zstd", "unpacks kernels and modules"),
    need("ip", "iproute2", "reads back what our netlink code writes"),
    need("nft", "nftables", "reads back what our nftables encoder writes"),
    need("ethtool", "ethtool", "reads back which offloads our code switched"),
    need("ping", "iputils-ping", "an independent probe between pods"),
    daemon("/usr/sbin/bird", "bird2", "a router outside, and a second opinion on our BGP"),
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

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(PathBuf::from(program)).filter(|path| path.exists());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

/// Debian's package manager, as who may install. Fails for whoever may not, with what is missing.
pub(crate) fn apt(programs: &[&str], packages: &[&str], quiet: bool) -> Result<impl Fn(&[&str]) -> Command> {
    let mut words: Vec<String> = Vec::new();
    if !is_root() {
        if find("sudo").is_none() {
            return Err(Error::NotRoot { programs: programs.join(", "), packages: packages.join(" ") });
        }
        words.push("sudo".to_owned());
    }
    if quiet {
        words.extend(quietly());
    }
    words.extend(APT.map(str::to_owned));
    Ok(move |args: &[&str]| {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args);
        command
    })
}

/// Installs what is missing.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| find(need.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine, to be installed from Debian:");
    for need in &missing {
        eprintln!("  {:28} {}", need.package, need.purpose);
    }
    let programs: Vec<&str> = missing.iter().map(|need| need.program).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.package.split(' ')).collect();
    let apt = apt(&programs, &packages, missing.iter().any(|need| need.daemon))?;
    run(&mut apt(&["update"]))?;
    run(apt(&["install", "-y", "--no-install-recommends"]).args(&packages).stdout(std::io::stderr()))
}

/// Whether we are root: the effective user id stands in our own status.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}
