//! `cnidarian bgp`: what the speaker of a node knows and says. Never a speaker of its own: it asks the agent.

use crate::client::{self, AskError};
use crate::{Ask, agent, show};
use clap::Subcommand;
use cni_core::rpc::Call;
use serde_json::Value;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Bgp {
    /// Peers, the state of their sessions, and why they are down.
    Peers(Ask),
    /// The best path of each prefix.
    Routes(Ask),
    /// What a peer is told.
    Advertised {
        /// The peer's name.
        peer: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// What a peer has told, before any policy.
    Received {
        /// The peer's name.
        peer: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// All paths of a prefix: which won, and why the others lost.
    Explain {
        /// The prefix.
        prefix: String,
        /// Why this peer is told of the prefix, or not.
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// What another configuration would do to sessions and announcements: that part of `plan --config`.
    Plan {
        /// The agent's configuration as it would be, YAML.
        config: PathBuf,
        #[command(flatten)]
        ask: Ask,
    },
}

/// Asks the agent and shows the answer.
pub(crate) fn main(command: Bgp) -> Result<bool, AskError> {
    let (question, arguments, ask) = match command {
        Bgp::Peers(ask) => ("bgp peers", Vec::new(), ask),
        Bgp::Routes(ask) => ("bgp routes", Vec::new(), ask),
        Bgp::Advertised { peer, ask } => ("bgp advertised", vec![peer], ask),
        Bgp::Received { peer, ask } => ("bgp received", vec![peer], ask),
        Bgp::Explain { prefix, to, ask } => {
            let arguments = std::iter::once(prefix).chain(to);
            ("bgp explain", arguments.collect(), ask)
        }
        Bgp::Plan { config, ask } => {
            let plan = client::ask(&ask.socket, agent::plan_for(&config)?)?;
            return show::plan(of_speaker(plan), ask.json);
        }
    };
    let value = client::ask(&ask.socket, Call::Inspect { question: question.to_owned(), arguments })?;
    show::answer(value, ask.json)
}

/// The steps of a plan that are about the speaker.
fn of_speaker(mut plan: Value) -> Value {
    if let Some(steps) = plan["steps"].as_array_mut() {
        steps.retain(|step| step["object"].as_str().is_some_and(|object| object.starts_with("bgp ")));
    }
    plan
}
