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
}

const fn need(program: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need { program, package, purpose }
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
    need("bird", "bird2", "a real BGP and BFD peer"),
    need("/usr/lib/frr/bfdd", "frr", "another, which also finds its neighbours by advertisements"),
    need("busybox", "busybox-static", "what those containers hold"),
];

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
    let mut apt = if is_root() {
        Command::new("apt-get")
    } else if present("sudo") {
        let mut sudo = Command::new("sudo");
        sudo.arg("apt-get");
        sudo
    } else {
        let programs: Vec<&str> = missing.iter().map(|need| need.program).collect();
        return Err(Error::NotRoot { programs: programs.join(", "), packages: packages.join(" ") });
    };
    apt.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-o", "DPkg::Lock::Timeout=300"]);
    let mut update = Command::new(apt.get_program());
    update.args(apt.get_args()).arg("update");
    run(&mut update)?;
    run(apt.args(["install", "-y", "--no-install-recommends"]).args(&packages).stdout(std::io::stderr()))
}

/// Whether we are root: the effective user id stands in our own status.
pub(crate) fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}
