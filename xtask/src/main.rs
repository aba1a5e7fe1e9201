//! Chores of the project, run as `cargo xtask <chore>`. Never needed by what we ship.
#![forbid(unsafe_code)]

mod bpf;
mod chores;
mod error;
mod features;
mod licences;
mod metadata;
mod packages;
mod run;
mod tidy;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Chores of the project.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Start a multi-node pod network in network namespaces, probe every pair of pods, tear it down.
    Lab {
        /// Passed on to `cnidarian lab run`: `--backend NAME`, `--nodes N`, `--pods N`, `--keep`, a scenario file ...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Run every check and every test of the workspace, and the lab in each mode.
    Test {
        /// Passed on to `cargo test`; the checks and the lab are left out then.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The programs that run in the kernel: `backend-ebpf/objects`.
    Bpf {
        #[command(subcommand)]
        chore: BpfChore,
    },
    /// Check that each crate compiles without features and with each of its features alone.
    Features,
    /// Check the rules that the compiler does not know: arrows between crates, licences, file length, first lines.
    Tidy,
}

#[derive(Subcommand)]
enum BpfChore {
    /// Install the compiler and the linker for eBPF where they are not there, and build the object anew.
    Build,
    /// Build the object, and compare it byte for byte with the committed one.
    Check,
    /// Load the committed programs, and print and limit what the kernel's verifier has to do for them. Needs root.
    Stats,
}

fn main() -> ExitCode {
    let result = match Cli::parse().chore {
        Chore::Lab { args } => chores::lab(&args),
        Chore::Test { args } => chores::test(&args),
        Chore::Bpf { chore: BpfChore::Build } => bpf::build(),
        Chore::Bpf { chore: BpfChore::Check } => bpf::check(),
        Chore::Bpf { chore: BpfChore::Stats } => bpf::stats(),
        Chore::Features => features::check(),
        Chore::Tidy => tidy::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
