//! `cnidarian policy`: what policies mean, before they are applied: that needs no cluster, no agent and no root. And how
//! often they were met, which the agent knows.

mod cases;
mod check;
mod counters;
mod diff;
mod error;
mod explain;
mod load;
mod matrix;
mod party;
mod reach;
pub(crate) mod text;

pub(crate) use error::PolicyError;

use crate::Ask;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Network policies: check, explain, compare, test.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Read manifests, and say what is wrong in which line. Fails when something is.
    Check {
        /// Files and directories of manifests, YAML or JSON.
        #[arg(required = true)]
        manifests: Vec<PathBuf>,
        #[command(flatten)]
        print: Print,
    },
    /// Say whether a connection may be made, and which policy and rule decide at both ends. Fails when it may not.
    Explain {
        #[command(flatten)]
        files: Files,
        /// Who begins it: NAMESPACE/POD, node/NAME, or an address.
        #[arg(long)]
        from: String,
        /// To whom: NAMESPACE/POD:PORT/PROTOCOL, with TCP for no protocol, a name for a port, or ICMP alone:
        /// shop/web:80, shop/web:http, 192.0.2.7:53/UDP, [2001:db8::7]:443, shop/web/ICMP.
        #[arg(long)]
        to: String,
        #[command(flatten)]
        print: Print,
    },
    /// Show who may reach whom.
    Matrix {
        #[command(flatten)]
        files: Files,
        /// Only this traffic, as in 80, 53/UDP or ICMP; may be given again. Without: everything that policies tell apart.
        #[arg(long)]
        port: Vec<String>,
        /// Only pods of this namespace; may be given again.
        #[arg(long, short)]
        namespace: Vec<String>,
        #[command(flatten)]
        print: Print,
    },
    /// Show which connections change from one set of manifests to another. Fails when some do.
    Diff {
        /// Files and directories as they were; commas between several.
        #[arg(value_delimiter = ',', num_args = 1, required = true)]
        old: Vec<PathBuf>,
        /// Files and directories as they shall be.
        #[arg(value_delimiter = ',', num_args = 1, required = true)]
        new: Vec<PathBuf>,
        #[command(flatten)]
        print: Print,
    },
    /// Run cases: objects, and connections that are expected to be allowed or denied. Fails when one is wrong.
    ///
    /// A case is {"id", "objects": [...], "queries": [{"from", "to", "proto", "port", "expect": true|false}]} in YAML, JSON
    /// or a line of JSON. Files that end in .gz are unpacked; - reads from standard input.
    Test {
        /// Files and directories of cases.
        #[arg(required = true)]
        cases: Vec<PathBuf>,
        #[command(flatten)]
        print: Print,
    },
    /// Show how often rules were met on this node, from the agent: packets that open a connection, by tier, policy and rule.
    Counters {
        #[command(flatten)]
        ask: Ask,
        /// Also rules that nothing met yet.
        #[arg(long)]
        all: bool,
    },
}

/// Where the objects are.
#[derive(Debug, Args)]
pub(crate) struct Files {
    /// A file or directory of manifests; may be given again.
    #[arg(long = "file", short, required = true)]
    file: Vec<PathBuf>,
}

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct Print {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs a command, and answers whether all is well.
pub(crate) fn main(command: Policy) -> Result<bool, PolicyError> {
    match command {
        Policy::Check { manifests, print } => check::run(&manifests, print.json),
        Policy::Explain { files, from, to, print } => explain::run(&files.file, &from, &to, print.json),
        Policy::Matrix { files, port, namespace, print } => matrix::run(&files.file, &port, &namespace, print.json),
        Policy::Diff { old, new, print } => diff::run(&old, &new, print.json),
        Policy::Test { cases, print } => cases::run(&cases, print.json),
        Policy::Counters { ask, all } => Ok(counters::run(&ask, all)?),
    }
}
