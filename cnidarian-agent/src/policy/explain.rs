//! `cnidarian policy explain`. Never sends a packet.

use super::error::PolicyError;
use super::party::target;
use super::{load, text};
use cni_core::policy::evaluate::{Connection, Evaluator, Question, Trace};
use serde_json::json;
use std::path::PathBuf;

pub(super) fn run(files: &[PathBuf], from: &str, to: &str, as_json: bool) -> Result<bool, PolicyError> {
    let loaded = load::manifests(files)?;
    let (destination, port, protocol) = target(to)?;
    let question = Question { from: from.parse()?, to: destination, protocol, port };
    let evaluator = Evaluator::new(&loaded.world);
    let connection = question.connection(&loaded.world)?;
    let outcome = evaluator.explain(&connection)?;
    if as_json {
        let value = json!({
            "from": connection.from.to_string(), "to": connection.to.to_string(), "protocol": connection.protocol.to_string(),
            "port": connection.destination_port, "allowed": outcome.allowed(),
            "egress": text::trace_json(&outcome.egress), "ingress": text::trace_json(&outcome.ingress),
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(outcome.allowed());
    }
    loaded.warn();
    println!("{}: {}", title(&connection), if outcome.allowed() { "ALLOWED" } else { "DENIED" });
    print_end("egress", &connection.from.to_string(), &outcome.egress);
    print_end("ingress", &connection.to.to_string(), &outcome.ingress);
    Ok(outcome.allowed())
}

fn title(connection: &Connection) -> String {
    let port = connection.destination_port.map(|port| format!(" {port}")).unwrap_or_default();
    format!("{} -> {} {}{port}", connection.from, connection.to, connection.protocol)
}

fn print_end(direction: &str, party: &str, trace: &Trace) {
    println!("\n{direction} of {party}: {}", text::verdict(trace.verdict));
    println!("  by         {}", text::decision(&trace.decision));
    let passed_by = trace.steps.iter().filter(|step| step.miss.is_some() || step.path.is_none());
    for step in passed_by {
        println!("  passed by  {}", text::step(step));
    }
    if let Some((would, by)) = &trace.staged {
        println!("  staged     would be {}: {}", text::verdict(*would), text::decision(by));
    }
}
