//! `cnidarian uninstall`: the end of a node's pod network, for people. Never asks an agent: none may run.

use crate::agent;
use clap::Args;
use cnidarian::config::StateConfig;
use std::path::PathBuf;
use std::process::ExitCode;

/// Which node, and what goes with it.
#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    /// The configuration file of the node's agent, YAML.
    #[arg(long, default_value = "/etc/cnidarian/agent.yaml")]
    config: PathBuf,
    /// Detach pods that are still there.
    #[arg(long)]
    pods: bool,
    /// Remove leases, records and other files of the agent in its state directory.
    #[arg(long)]
    state: bool,
}

pub(crate) fn main(asked: &Uninstall) -> ExitCode {
    let registry = cnidarian::built_in();
    let node = match agent::load(&asked.config, &registry) {
        Ok(config) => config.node,
        Err(error) => {
            eprintln!("cnidarian: {error}");
            return ExitCode::from(2);
        }
    };
    let StateConfig::Directory(state_dir) = node.state else {
        eprintln!("cnidarian: {}: stateDir: an agent has one", asked.config.display());
        return ExitCode::from(2);
    };
    let wanted = cnidarian::Uninstall { state_dir, pods: asked.pods, state: asked.state };
    match cnidarian::uninstall(&registry, &wanted) {
        Ok(done) => {
            done.removed.iter().for_each(|what| println!("removed {what}"));
            done.problems.iter().for_each(|problem| eprintln!("cnidarian: not removed: {problem}"));
            if !done.problems.is_empty() {
                return ExitCode::FAILURE;
            }
            println!(
                "node {} has no pod network of ours any more; other nodes know it until its Node is deleted",
                node.name
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("cnidarian: {error}");
            ExitCode::FAILURE
        }
    }
}
