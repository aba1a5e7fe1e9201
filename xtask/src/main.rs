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
mod vm;

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
    /// Run as root on stock Debian kernels, in small virtual machines.
    Vm {
        #[command(subcommand)]
        what: Vm,
    },
}

#[derive(Subcommand)]
enum Vm {
    /// Run the tests and labs that are for stock kernels, all of them in one VM for each kernel.
    Test {
        #[command(flatten)]
        options: vm::Options,
        /// Only what `cargo xtask test` runs: a part of each suite, on 6.1 and 6.12 if no kernel is named.
        #[arg(long, conflicts_with = "filter")]
        sample: bool,
        /// Suites whose name contains this (`lab vxlan`, `net-linux`), or else tests whose name does.
        filter: Option<String>,
    },
    /// Run one program of this machine in a VM: a shell if none is named.
    Run {
        #[command(flatten)]
        options: vm::Options,
        /// A file or folder that the VM has too, under the same name; files among the arguments are there anyway.
        #[arg(long = "file", value_name = "PATH")]
        files: Vec<std::path::PathBuf>,
        /// The program and its arguments.
        #[arg(last = true)]
        command: Vec<String>,
    },
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
        Chore::Vm { what: Vm::Test { options, sample: true, .. } } => vm::sample(&options),
        Chore::Vm { what: Vm::Test { options, filter, .. } } => vm::test(&options, filter.as_deref()),
        Chore::Vm { what: Vm::Run { options, files, command } } => vm::run(&options, &files, &command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            error.status()
        }
    }
}
