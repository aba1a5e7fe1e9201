//! The lab and the tests, from nothing to a verdict. Never a check of its own: those are in `tidy`.

use crate::error::Result;
use crate::run::{cargo, root, run, target};
use crate::{bpf, packages, tidy, vm};
use std::path::PathBuf;
use std::process::Command;

/// Backends and their modes that the tests run the lab with, by scenario.
const SCENARIOS: &[&str] =
    &["vxlan", "direct-routing", "host-gw", "udp", "bgp", "bgp-cross-subnet", "ebpf", "ebpf-native"];

/// Queries of recorded cases that are asked on the wire: about one of each case.
const ORACLE_SAMPLE: &str = "100";

fn build_programs() -> Result<()> {
    run(&mut cargo(&["build", "--quiet", "-p", "cnidarian-agent", "-p", "cnidarian-cni"]))
}

/// `cargo xtask lab`.
pub(crate) fn lab(args: &[String]) -> Result<()> {
    packages::install(packages::LAB)?;
    eprintln!("Building the agent and the plugin (some minutes the first time) ...");
    build_programs()?;
    run(Command::new(target().join("debug/cnidarian")).args(["lab", "run"]).args(args))
}

/// Cases of policy on real packets: our own, and a sample of a public project's where it is there.
fn verify() -> Result<()> {
    let lab = || {
        let mut command = Command::new(target().join("debug/cnidarian"));
        command.args(["lab", "verify"]);
        command
    };
    run(lab().arg(root().join("testlab/cases")))?;
    run(lab().arg(root().join("testlab/cases")).args(["--policy", "ebpf"]))?;
    let everything = root().join("testlab/scenarios/verify-ebpf.yaml");
    run(lab().arg(root().join("testlab/cases")).args(["--policy", "ebpf", "--scenario"]).arg(everything))?;
    let beside = || root().join("../shared/oracles");
    let oracles = std::env::var_os("CNIDARIAN_ORACLES").map_or_else(beside, PathBuf::from);
    let recorded = oracles.join("policy-npguard.jsonl.gz");
    if !recorded.exists() {
        return Ok(());
    }
    let sample = || {
        let mut command = lab();
        command.arg(&recorded).args(["--sample", ORACLE_SAMPLE]);
        command
    };
    run(&mut sample())?;
    run(sample().args(["--policy", "ebpf"]))
}

/// `cargo xtask test`.
pub(crate) fn test(args: &[String]) -> Result<()> {
    packages::install(packages::TEST)?;
    if !args.is_empty() {
        build_programs()?;
        return run(cargo(&["test", "--workspace", "--all-features"]).args(args));
    }
    tidy::check()?;
    bpf::sources()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    // With the features of the tests, so that every crate is built once.
    run(&mut cargo(&["build", "--quiet", "--workspace", "--all-features", "--all-targets"]))?;
    run(&mut cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]))?;
    for scenario in SCENARIOS {
        let file = root().join(format!("testlab/scenarios/{scenario}.yaml"));
        run(Command::new(target().join("debug/cnidarian")).args(["lab", "run"]).arg(file))?;
    }
    verify()?;
    vm::sample(&vm::Options::default())?;
    // Last, so that a mistake of style does not hide a failing test.
    run(&mut cargo(&["clippy", "--quiet", "--workspace", "--all-features", "--all-targets", "--", "-D", "warnings"]))?;
    eprintln!("Everything passed.");
    Ok(())
}
