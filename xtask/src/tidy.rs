//! Rules that the compiler does not know. Never changes a file.

use crate::error::{Error, Result};
use crate::licences;
use crate::metadata::{self, list};
use crate::run::{cargo, output, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of more lines is more than one room.
const MOST_LINES: usize = 600;

/// Which of our crates each crate may use, besides itself. Backends never use each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("cni-core", &[]),
    ("net-linux", &["cni-core"]),
    ("policy-nftables", &["cni-core", "net-linux"]),
    ("bgp-speaker", &[]),
    ("backend-vxlan", &["cni-core", "net-linux"]),
    ("backend-bgp", &["cni-core", "net-linux", "bgp-speaker"]),
    ("backend-ipvs", &["cni-core", "net-linux"]),
    ("backend-ebpf-abi", &[]),
    ("backend-ebpf", &["cni-core", "net-linux", "backend-ebpf-abi"]),
    (
        "cnidarian",
        &["cni-core", "net-linux", "policy-nftables", "backend-vxlan", "backend-bgp", "backend-ipvs", "backend-ebpf"],
    ),
    ("cnidarian-agent", &["cni-core", "cnidarian", "testlab"]),
    ("cnidarian-cni", &["cni-core"]),
    ("testlab", &["cni-core", "net-linux"]),
    ("sdk-examples", &["bgp-speaker", "cni-core", "net-linux", "cnidarian"]),
    (
        "benches",
        &[
            "cni-core",
            "bgp-speaker",
            "net-linux",
            "policy-nftables",
            "backend-vxlan",
            "backend-ipvs",
            "backend-ebpf",
            "cnidarian",
            "testlab",
        ],
    ),
    ("fuzz-entry", &["cni-core", "net-linux", "bgp-speaker", "backend-vxlan", "cnidarian", "testlab"]),
    ("xtask", &[]),
];

/// What `cni-core` without features, and so a user's plugin, must not drag in.
const NOT_IN_CORE: &[&str] = &["tokio", "rtnetlink", "aya", "kube", "redb", "nix"];

/// `cargo xtask tidy`.
pub(crate) fn check() -> Result<()> {
    let mut broken = Vec::new();
    arrows(&mut broken)?;
    core_is_light(&mut broken)?;
    licences::check(&mut broken)?;
    for file in tracked(&["*.rs"])? {
        source(&file, &mut broken)?;
    }
    for file in tracked(&["*.rs", "*.md", "*.toml", "*.yaml", "*.sh", ".ci/*"])? {
        paths(&file, &mut broken)?;
    }
    for rule in &broken {
        eprintln!("tidy: {rule}");
    }
    if broken.is_empty() { Ok(()) } else { Err(Error::Untidy { count: broken.len() }) }
}

fn arrows(broken: &mut Vec<String>) -> Result<()> {
    let metadata = metadata::read(&["--no-deps"])?;
    for package in list(&metadata, "packages") {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name) else {
            broken.push(format!("{name} has no line in the table of arrows (xtask/src/tidy.rs)"));
            continue;
        };
        for dependency in list(package, "dependencies") {
            let to = dependency["name"].as_str().unwrap_or_default();
            let ours = ARROWS.iter().any(|(known, _)| *known == to);
            // A test may look at anything below it.
            let in_tests_only = dependency["kind"].as_str() == Some("dev");
            if ours && to != name && !in_tests_only && !allowed.contains(&to) {
                broken.push(format!("{name} must not use {to}: arrows point from backends to the core"));
            }
        }
    }
    Ok(())
}

fn core_is_light(broken: &mut Vec<String>) -> Result<()> {
    let args = ["tree", "-p", "cni-core", "--no-default-features", "--edges", "normal", "--prefix", "none"];
    let tree = output(&mut cargo(&args))?;
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        if NOT_IN_CORE.contains(&name) {
            broken.push(format!("cni-core without features drags in {name}"));
        }
    }
    Ok(())
}

/// Files in git that match.
fn tracked(patterns: &[&str]) -> Result<Vec<PathBuf>> {
    let list = output(Command::new("git").args(["ls-files", "--"]).args(patterns).current_dir(root()))?;
    Ok(list.lines().map(|line| root().join(line)).filter(|file| file.is_file()).collect())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|source| Error::File { path: file.to_path_buf(), source })
}

fn source(file: &Path, broken: &mut Vec<String>) -> Result<()> {
    let text = read(file)?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display().to_string();
    let lines = text.lines().count();
    if lines > MOST_LINES {
        broken.push(format!("{shown}: {lines} lines; split it by meaning (at most {MOST_LINES})"));
    }
    if !text.starts_with("//!") {
        broken.push(format!("{shown}: the first line must say what the file is and what it never does"));
    }
    for (number, line) in text.lines().enumerate() {
        let code = line.trim_start();
        if code.starts_with("#[ignore") {
            broken.push(format!("{shown}:{}: a test that does not run", number + 1));
        }
        let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
        if code.starts_with("//") && marks.iter().any(|mark| code.contains(mark)) {
            broken.push(format!("{shown}:{}: unfinished on purpose", number + 1));
        }
    }
    Ok(())
}

/// Paths of one machine have no place in the project.
fn paths(file: &Path, broken: &mut Vec<String>) -> Result<()> {
    let text = read(file)?;
    let shown = file.strip_prefix(root()).unwrap_or(file).display().to_string();
    let personal = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
    for (number, line) in text.lines().enumerate() {
        if personal.iter().any(|path| line.contains(path)) {
            broken.push(format!("{shown}:{}: a path of one machine", number + 1));
        }
    }
    Ok(())
}
