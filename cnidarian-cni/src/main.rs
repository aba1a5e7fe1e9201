//! The executable that container runtimes call for every pod. Never does the work: it checks the request, asks the
//! agent, and prints the answer. No async runtime, few dependencies: exec to answer is the cost.
//!
//! | verb | while the agent is away |
//! |---|---|
//! | ADD, CHECK | code 11, "try again later" |
//! | DEL | a durable tombstone for the agent to act on; succeeds |
//! | STATUS | code 50 |
//! | GC | code 11 |

#![forbid(unsafe_code)]

mod agent;
mod conf;
mod plugin;
mod result;
mod tombstone;

use std::process::ExitCode;

fn main() -> ExitCode {
    cni_core::plugin::main(&plugin::Cnidarian)
}
