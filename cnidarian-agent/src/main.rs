//! The program `cnidarian`: agent, lab, and what operators ask. Never does a node's work itself: that is the library.

#![forbid(unsafe_code)]

mod agent;
mod bgp;
mod client;
mod flows;
mod lab;
mod policy;
mod services;
mod show;
mod uninstall;

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::AskError;
use cni_core::rpc::{Call, DEFAULT_SOCKET};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// A pluggable multi-backend pod network.
#[derive(Debug, Parser)]
#[command(name = "cnidarian", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run this node's agent in the foreground.
    Agent {
        /// The configuration file, YAML.
        #[arg(long, default_value = "/etc/cnidarian/agent.yaml")]
        config: PathBuf,
        /// Read and check the configuration, and end.
        #[arg(long)]
        check: bool,
    },
    /// Show this node, its peers, pools, pods and problems.
    Status(Ask),
    /// Show and repair address management.
    Ipam {
        #[command(subcommand)]
        command: Ipam,
    },
    /// Show what the next commit would write to the kernel.
    Plan {
        /// Show what this configuration of the agent would write instead, YAML.
        #[arg(long)]
        config: Option<PathBuf>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Let the agent read its configuration again. What needs a new start is refused, with its key.
    Reload(Ask),
    /// Read the kernel back and repair it.
    Resync(Ask),
    /// Show who talks to whom on this node, what was decided, and by which rule.
    Flows(flows::Flows),
    /// What this node's BGP speaker knows and says.
    #[command(subcommand)]
    Bgp(bgp::Bgp),
    /// Show services with their frontends and backends, as this node sees them, and what passes them.
    Services(services::Services),
    /// Multi-node networks in namespaces on this machine.
    #[command(subcommand)]
    Lab(lab::Lab),
    /// What network policies mean, before they are applied.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Take this node's pod network out of the kernel. Refused while an agent runs, or pods are attached.
    Uninstall(uninstall::Uninstall),
    /// Show the version.
    Version,
}

#[derive(Debug, Subcommand)]
enum Ipam {
    /// Show pools and leases.
    Show(Ask),
    /// Show leases without an interface, and endpoints without a lease. Fails when there are any.
    Check(Ask),
    /// Free an address that no interface has.
    Release {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Which agent, and how to print.
#[derive(Debug, Args)]
struct Ask {
    /// The agent's socket.
    #[arg(long, env = "CNIDARIAN_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How to print what goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// Columns.
    Table,
    /// One JSON object in each line.
    Json,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Agent { .. } | Command::Lab(_)) {
        cnidarian::pipe::end_without_reader();
    }
    let done = match cli.command {
        Command::Agent { config, check } => return run_agent(config, check),
        Command::Lab(lab) => return lab::main(lab),
        Command::Policy(command) => {
            return match policy::main(command) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => {
                    eprintln!("cnidarian: {error}");
                    ExitCode::from(2)
                }
            };
        }
        Command::Uninstall(uninstall) => return uninstall::main(&uninstall),
        Command::Version => {
            println!("cnidarian {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Command::Status(ask) => client::ask(&ask.socket, Call::Show).and_then(|value| show::status(value, ask.json)),
        Command::Services(services) => services::main(&services),
        Command::Flows(flows) => flows::main(&flows),
        Command::Bgp(command) => bgp::main(command),
        Command::Plan { config, ask } => {
            let call = config.map_or(Ok(Call::Plan), |config| agent::plan_for(&config));
            call.map_err(AskError::from)
                .and_then(|call| client::ask(&ask.socket, call))
                .and_then(|value| show::plan(value, ask.json))
        }
        Command::Reload(ask) => client::ask(&ask.socket, Call::Reload).map(|_| {
            println!("the configuration is in force");
            true
        }),
        Command::Resync(ask) => client::ask(&ask.socket, Call::Resync).and_then(|value| show::resync(value, ask.json)),
        Command::Ipam { command: Ipam::Show(ask) } => {
            client::ask(&ask.socket, Call::IpamShow).and_then(|value| show::ipam(value, ask.json))
        }
        Command::Ipam { command: Ipam::Check(ask) } => {
            client::ask(&ask.socket, Call::IpamCheck).and_then(|value| show::findings(value, ask.json))
        }
        Command::Ipam { command: Ipam::Release { address, ask } } => {
            client::ask(&ask.socket, Call::IpamRelease { address }).map(|_| {
                println!("{address} is free");
                true
            })
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cnidarian: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_agent(file: PathBuf, check: bool) -> ExitCode {
    cnidarian::heap::keep_little();
    let registry = cnidarian::built_in();
    let config = match agent::load(&file, &registry) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("cnidarian: {error}");
            return ExitCode::FAILURE;
        }
    };
    let filter = match EnvFilter::builder().parse(config.log.as_deref().unwrap_or("info")) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("cnidarian: {}: log: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    if check {
        println!("{}: node {}, backend {}: acceptable", file.display(), config.node.name, config.node.backend);
        return ExitCode::SUCCESS;
    }
    let filter = match std::env::var("RUST_LOG").map(|wins| EnvFilter::builder().parse(wins)) {
        Err(_) => filter,
        Ok(Ok(filter)) => filter,
        Ok(Err(error)) => {
            eprintln!("cnidarian: RUST_LOG: {error}");
            return ExitCode::FAILURE;
        }
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match agent::run(file, config, &registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = %with_causes(&error), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

/// An error and what it came from, unless it says that itself.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
