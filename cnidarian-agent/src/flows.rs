//! `cnidarian flows`: who talks to whom on a node, what was decided, and by which rule. Never decides which of it happened:
//! the agent hears it from its engine.

mod line;

use crate::client::{AskError, Patient};
use crate::show::table;
use crate::{Ask, Output};
use clap::Args;
use cni_core::flow::{EndFilter, Filter, Flow, Page, Place, Query, Reason, Summary, Verdict};
use cni_core::policy::model::{Direction, Protocol};
use cni_core::rpc::{Call, FlowsCall};
use comfy_table::CellAlignment;
use serde_json::json;
use std::io::{self, Write};
use std::sync::Arc;

/// How long the agent may wait for the next record, in milliseconds.
const WAIT_MS: u32 = 2000;

/// Which flows, and how. Conditions of one kind are alternatives, those of different kinds must all hold.
#[derive(Debug, Args)]
pub(crate) struct Flows {
    /// Go on until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Begin with so many that happened before.
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    last: usize,
    /// Only from POD, NAMESPACE/POD, NAMESPACE/*, node/NAME, an address or a prefix; may be given again.
    #[arg(long, value_name = "END")]
    from: Vec<EndFilter>,
    /// Only to such an end; may be given again.
    #[arg(long, value_name = "END")]
    to: Vec<EndFilter>,
    /// Only with a pod of this namespace at one end; may be given again.
    #[arg(long, short)]
    namespace: Vec<Arc<str>>,
    /// Only allowed, denied, would-allow, would-deny (staged policies) or logged; may be given again.
    #[arg(long, value_parser = verdict)]
    verdict: Vec<Verdict>,
    /// Only dropped for this reason, as in rule or end-of-tier; may be given again.
    #[arg(long, value_parser = reason)]
    reason: Vec<Reason>,
    /// Only decided at this end: egress at the source, ingress at the destination.
    #[arg(long, value_parser = end_that_decided)]
    direction: Vec<Direction>,
    /// Only this protocol, as in TCP, UDP, ICMP or a number; may be given again.
    #[arg(long)]
    protocol: Vec<Protocol>,
    /// Only with this port at one end; may be given again.
    #[arg(long)]
    port: Vec<u16>,
    /// Add up all that the agent still has, by who talks to whom.
    #[arg(long, conflicts_with_all = ["follow", "last"])]
    summary: bool,
    /// How to print; --json is the same as json.
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    #[command(flatten)]
    ask: Ask,
}

/// The value that is written so.
fn word<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Result<T, String> {
    let found = all.iter().copied().find(|value| name(*value).eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|value| name(*value)).collect();
        format!("write one of: {}", known.join(", "))
    })
}

fn verdict(text: &str) -> Result<Verdict, String> {
    word(&Verdict::ALL, Verdict::as_str, text)
}

fn reason(text: &str) -> Result<Reason, String> {
    word(&Reason::ALL, Reason::as_str, text)
}

fn end_that_decided(text: &str) -> Result<Direction, String> {
    let name = |direction| if direction == Direction::Ingress { "ingress" } else { "egress" };
    word(&[Direction::Ingress, Direction::Egress], name, text)
}

impl Flows {
    fn filter(&self) -> Filter {
        Filter {
            from: self.from.clone(),
            to: self.to.clone(),
            namespaces: self.namespace.clone(),
            verdicts: self.verdict.clone(),
            reasons: self.reason.clone(),
            directions: self.direction.clone(),
            protocols: self.protocol.iter().map(|protocol| protocol.0).collect(),
            ports: self.port.clone(),
        }
    }

    fn page(agent: &mut Patient<'_>, query: Query, wait_ms: u32) -> Result<Page, AskError> {
        let value = agent.ask(&Call::Flows(FlowsCall { query, wait_ms }))?;
        Ok(serde_json::from_value(value)?)
    }

    fn as_json(&self) -> bool {
        self.ask.json || self.output == Output::Json
    }

    /// An error is that nobody reads what is printed any more.
    fn print(&self, page: &Page, out: &mut impl Write) -> io::Result<()> {
        if page.lost > 0 {
            match self.as_json() {
                true => writeln!(out, "{}", json!({"lost": page.lost}))?,
                false => writeln!(out, "-- {} lost here: more came than were read or kept", page.lost)?,
            }
        }
        for flow in &page.flows {
            match self.as_json() {
                true => writeln!(out, "{}", serde_json::to_string(&**flow)?)?,
                false => writeln!(out, "{}", line::of(flow))?,
            }
        }
        out.flush()
    }
}

/// Asks the agent and shows the answer.
pub(crate) fn main(flows: &Flows) -> Result<bool, AskError> {
    if flows.summary {
        return summary(flows);
    }
    let filter = flows.filter();
    let mut agent = Patient::new(&flows.ask.socket);
    let mut page = Flows::page(&mut agent, Query { filter: filter.clone(), from: None, most: flows.last }, 0)?;
    if flows.last == 0 {
        page.flows.clear();
        page.lost = 0;
    }
    let mut out = io::stdout().lock();
    if !flows.as_json() && writeln!(out, "{}", line::HEAD).is_err() {
        return Ok(true);
    }
    loop {
        // Whoever read it has enough.
        if flows.print(&page, &mut out).is_err() {
            return Ok(true);
        }
        if !flows.follow {
            return Ok(true);
        }
        let ring = page.next.ring;
        let query = Query { filter: filter.clone(), from: Some(page.next), most: usize::MAX };
        page = Flows::page(&mut agent, query, WAIT_MS)?;
        if page.next.ring != ring {
            eprintln!("cnidarian: the agent was started anew; what was decided in between is not known");
        }
    }
}

fn summary(flows: &Flows) -> Result<bool, AskError> {
    let query = Query { filter: flows.filter(), from: Some(Place::default()), most: usize::MAX };
    let page = Flows::page(&mut Patient::new(&flows.ask.socket), query, 0)?;
    let mut summary = Summary::default();
    page.flows.iter().for_each(|flow: &Arc<Flow>| summary.add(flow));
    if flows.as_json() {
        let pairs: Result<Vec<_>, _> = summary
            .by_volume()
            .into_iter()
            .map(|(pair, volume)| {
                let mut both = serde_json::to_value(pair)?;
                if let (Some(both), serde_json::Value::Object(volume)) =
                    (both.as_object_mut(), serde_json::to_value(volume)?)
                {
                    both.extend(volume);
                }
                Ok::<_, serde_json::Error>(both)
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&json!({"pairs": pairs?, "lost": page.lost}))?);
        return Ok(true);
    }
    let mut rows = table(&["FROM", "TO", "TRAFFIC", "DIRECTION", "VERDICT", "BY", "FLOWS", "PACKETS", "BYTES", "LAST"]);
    for (pair, volume) in summary.by_volume() {
        rows.add_row([
            pair.from.to_string(),
            pair.to.to_string(),
            line::traffic(pair.protocol, pair.port),
            line::direction(pair.direction),
            pair.verdict.to_string(),
            line::by(&pair.by) + &pair.sampled.map(line::chosen).unwrap_or_default(),
            volume.flows.to_string(),
            volume.packets.to_string(),
            volume.bytes.to_string(),
            line::time(volume.last_unix_us),
        ]);
    }
    for column in rows.column_iter_mut().skip(6).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{rows}");
    if page.lost > 0 {
        println!("\nand {} more of which nothing is known any more", page.lost);
    }
    Ok(true)
}
