//! `cnidarian lab`: the command line of the lab. Never builds a network itself: that is `testlab`.

mod exec;
mod keep;
mod run;
mod verify;

use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use testlab::registry::{Registry, State};

/// A multi-node pod network in network namespaces of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum Lab {
    /// Build a network, probe every pair of pods, and tear it down.
    Run(RunArgs),
    /// Make cases of policy real and see whether packets do what the cases expect.
    Verify(VerifyArgs),
    /// Run a command in a node or pod of a kept lab.
    Exec(ExecArgs),
    /// List kept labs.
    Ls,
    /// Tear a kept lab down.
    Down {
        /// The lab; not needed when there is only one.
        lab: Option<String>,
    },
    /// Run a program that ends when standard input closes.
    #[command(hide = true)]
    Tether {
        /// The program.
        program: String,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Arguments of `lab run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A scenario file; without one: three nodes, six pods, VXLAN.
    scenario: Option<PathBuf>,
    /// Another backend than the scenario's.
    #[arg(long)]
    backend: Option<String>,
    /// Another number of nodes.
    #[arg(long)]
    nodes: Option<usize>,
    /// Another number of pods, spread over the nodes in turn.
    #[arg(long)]
    pods: Option<usize>,
    /// Leave it running, to be entered with `lab exec` and ended with `lab down`.
    #[arg(long)]
    keep: bool,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
    /// This process is the one that keeps the lab.
    #[arg(long, hide = true)]
    holder: bool,
}

/// Arguments of `lab verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Files or directories of cases, as for `policy test`; `-` for standard input.
    #[arg(required = true)]
    cases: Vec<PathBuf>,
    /// Another backend than vxlan.
    #[arg(long)]
    backend: Option<String>,
    /// Another lab than the built-in one, as a scenario file: its pods are left out.
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Another policy engine than the agent's default.
    #[arg(long, value_name = "ENGINE")]
    policy: Option<String>,
    /// Ask so many queries, chosen from all cases in the same way each time.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Another number of nodes than 2.
    #[arg(long)]
    nodes: Option<usize>,
    /// Print what came of it as JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `lab exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The lab; not needed when there is only one.
    #[arg(long)]
    lab: Option<String>,
    /// A node, a pod, or `outside`.
    target: String,
    /// The command, a shell when there is none.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs a lab command. To be called before any thread is started: it may enter namespaces.
pub(crate) fn main(lab: Lab) -> ExitCode {
    let result = match lab {
        Lab::Run(args) if args.keep && !args.holder => keep::start(&args),
        Lab::Run(args) => run::run(&args),
        Lab::Verify(args) => verify::verify(&args),
        Lab::Exec(args) => exec::exec(&args),
        Lab::Ls => list(),
        Lab::Down { lab } => keep::down(lab.as_deref()),
        Lab::Tether { program, args } => testlab::tether::serve(&program, &args).map_err(AnyError::from),
    };
    result.unwrap_or_else(|error| {
        eprintln!("cnidarian lab: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}

/// At the top of a program an error is only printed.
type AnyError = Box<dyn std::error::Error>;

fn list() -> Result<ExitCode, AnyError> {
    let labs = Registry::open()?.list()?;
    if labs.is_empty() {
        println!("no lab runs; start one with `cnidarian lab run --keep`");
    }
    for (_, entry) in labs {
        let state = match entry.state {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Unexpected => "ready, but not all was as expected",
        };
        let names: Vec<&str> = entry.namespaces.keys().map(String::as_str).collect();
        println!("{}  {}  {state}  {}", entry.name, entry.backend, names.join(" "));
    }
    Ok(ExitCode::SUCCESS)
}
