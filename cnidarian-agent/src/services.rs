//! `cnidarian services`: frontends and backends as the agent sees them, and what passes them, for people. Never changes one.

use crate::client::{AskError, Patient};
use crate::show::table;
use crate::{Ask, Output};
use clap::Args;
use cni_core::backend::Traffic;
use cni_core::rpc::Call;
use cnidarian::{ServiceBackendStatus, ServiceStatus};
use comfy_table::CellAlignment;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the agent is asked ...
const LOOK: Duration = Duration::from_secs(1);
/// ... but asking takes at most one part in so many of the time, however many services there are.
const SHARE: u32 = 5;
/// Moves the cursor home and clears what is below it (ECMA-48, CUP and ED).
const REDRAW: &str = "\x1b[H\x1b[2J";

/// How to show services.
#[derive(Debug, Args)]
pub(crate) struct Services {
    /// Go on until it is interrupted: on a terminal drawn anew, else one line for each frontend that changed.
    #[arg(long, short)]
    watch: bool,
    /// How to print: json is one object in each line, --json one document.
    #[arg(long, short, value_enum, default_value_t = Output::Table, conflicts_with = "json")]
    output: Output,
    #[command(flatten)]
    ask: Ask,
}

/// A frontend that changed, as one line of JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    #[serde(flatten)]
    service: &'a ServiceStatus,
    /// Whether it is not there any more.
    gone: bool,
}

/// Which frontend it is.
fn key(service: &ServiceStatus) -> (&str, &str, &str) {
    (&service.service, &service.frontend, &service.protocol)
}

/// What of `new` differs from `old`, then what of `old` is gone.
fn changes<'s>(old: &'s [ServiceStatus], new: &'s [ServiceStatus]) -> Vec<(&'s ServiceStatus, bool)> {
    let before: BTreeMap<_, _> = old.iter().map(|service| (key(service), service)).collect();
    let now: BTreeMap<_, _> = new.iter().map(|service| (key(service), service)).collect();
    let changed = new.iter().filter(|service| before.get(&key(service)) != Some(service));
    let gone = old.iter().filter(|service| !now.contains_key(&key(service)));
    changed.map(|service| (service, false)).chain(gone.map(|service| (service, true))).collect()
}

/// Asks the agent and shows the answer.
pub(crate) fn main(services: &Services) -> Result<bool, AskError> {
    let mut agent = Patient::new(&services.ask.socket);
    let mut known: Option<Vec<ServiceStatus>> = None;
    let redraw = services.watch && io::stdout().is_terminal();
    let as_lines = services.output == Output::Json || (services.watch && services.ask.json);
    loop {
        let begin = Instant::now();
        let value = agent.ask(&Call::Services)?;
        if services.ask.json && !services.watch {
            println!("{}", serde_json::to_string_pretty(&value)?);
            return Ok(true);
        }
        let now: Vec<ServiceStatus> = serde_json::from_value(value)?;
        let changed = changes(known.as_deref().unwrap_or_default(), &now);
        let mut out = io::stdout().lock();
        let printed = if as_lines {
            changed.iter().try_for_each(|(service, gone)| {
                writeln!(out, "{}", serde_json::to_string(&Line { service, gone: *gone })?)
            })
        } else if redraw || known.is_none() {
            // Also when nothing changed: what was said of an agent that was away stands below else.
            writeln!(out, "{}{}", if redraw { REDRAW } else { "" }, shown(&now))
        } else {
            changed.iter().try_for_each(|(service, gone)| writeln!(out, "{}", line(service, *gone)))
        };
        // Whoever read it has enough.
        if printed.and_then(|()| out.flush()).is_err() || !services.watch {
            return Ok(true);
        }
        drop(changed);
        drop(out);
        known = Some(now);
        std::thread::sleep(LOOK.max(begin.elapsed() * SHARE));
    }
}

/// A backend with what is known of it: `10.1.0.1:8080 weight 1, 3 active, 0 inactive`.
fn backend(backend: &ServiceBackendStatus) -> String {
    let mut text = backend.address.clone();
    if backend.state != "active" {
        text = format!("{text} ({})", backend.state);
    }
    let numbers = [("weight", backend.weight), ("active", backend.active), ("inactive", backend.inactive)];
    let known = numbers.into_iter().filter_map(|(word, number)| {
        let number = number?;
        Some(if word == "weight" { format!("weight {number}") } else { format!("{number} {word}") })
    });
    let known: Vec<String> = known.collect();
    if known.is_empty() { text } else { format!("{text} {}", known.join(", ")) }
}

fn backends(service: &ServiceStatus, between: &str) -> String {
    let all: Vec<String> = service.backends.iter().map(backend).collect();
    if all.is_empty() { "none: refused".to_owned() } else { all.join(between) }
}

fn port(service: &ServiceStatus) -> &str {
    if service.port_name.is_empty() { "-" } else { &service.port_name }
}

/// `12/s` of connections, and what is new of them.
fn rate(traffic: &Traffic) -> String {
    let bits = traffic.bytes_in_per_second.saturating_add(traffic.bytes_out_per_second);
    format!("{}/s, {} B/s", traffic.connections_per_second, bits)
}

fn line(service: &ServiceStatus, gone: bool) -> String {
    let what = format!(
        "{} {} {} {}/{} {}",
        service.service,
        port(service),
        service.kind,
        service.frontend,
        service.protocol,
        service.scheduler
    );
    if gone {
        return format!("{what} gone");
    }
    let traffic = service.traffic.map(|traffic| format!(" ({} connections, {})", traffic.connections, rate(&traffic)));
    format!("{what}{} -> {}", traffic.unwrap_or_default(), backends(service, ", "))
}

fn shown(services: &[ServiceStatus]) -> String {
    let counts = services.iter().any(|service| service.traffic.is_some());
    let mut head = vec!["SERVICE", "PORT", "KIND", "FRONTEND", "SCHEDULER", "BACKENDS"];
    if counts {
        head.extend(["CONNECTIONS", "RATE"]);
    }
    let mut rows = table(&head);
    for service in services {
        let mut row = vec![
            service.service.clone(),
            port(service).to_owned(),
            service.kind.clone(),
            format!("{}/{}", service.frontend, service.protocol),
            service.scheduler.clone(),
            backends(service, if counts { "\n" } else { ", " }),
        ];
        if counts {
            let known = service.traffic.as_ref();
            row.push(known.map_or("-".to_owned(), |traffic| traffic.connections.to_string()));
            row.push(known.map_or("-".to_owned(), rate));
        }
        rows.add_row(row);
    }
    if let Some(column) = rows.column_mut(6) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    rows.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(frontend: &str, addresses: &[&str]) -> ServiceStatus {
        let backend = |address: &&str| ServiceBackendStatus {
            address: (*address).to_owned(),
            node: None,
            state: "active".to_owned(),
            weight: None,
            active: None,
            inactive: None,
            traffic: None,
        };
        ServiceStatus {
            service: "shop/web".to_owned(),
            port_name: String::new(),
            kind: "ClusterIP".to_owned(),
            frontend: frontend.to_owned(),
            protocol: "TCP".to_owned(),
            scheduler: "rr".to_owned(),
            affinity_seconds: None,
            traffic: None,
            backends: addresses.iter().map(backend).collect(),
        }
    }

    #[test]
    fn only_what_changed_is_told_and_what_is_gone_last() {
        let old =
            [service("10.96.0.1:80", &["10.1.0.1:80"]), service("10.96.0.2:80", &[]), service("10.96.0.3:80", &[])];
        let new = [service("10.96.0.1:80", &["10.1.0.1:80"]), service("10.96.0.2:80", &["10.1.0.1:80"])];
        let told = changes(&old, &new);
        assert_eq!(told, [(&new[1], false), (&old[2], true)]);
        assert_eq!(changes(&new, &new), []);
        assert_eq!(line(&new[1], false), "shop/web - ClusterIP 10.96.0.2:80/TCP rr -> 10.1.0.1:80");
        assert_eq!(line(&old[2], true), "shop/web - ClusterIP 10.96.0.3:80/TCP rr gone");
        assert!(line(&old[2], false).ends_with("-> none: refused"));
    }

    #[test]
    fn what_is_counted_is_shown_and_what_is_not_is_left_out() {
        let mut counted = service("10.96.0.1:80", &["10.1.0.1:80"]);
        assert!(!shown(&[counted.clone()]).contains("CONNECTIONS"));
        counted.traffic = Some(Traffic { connections: 70_001, connections_per_second: 12, ..Traffic::default() });
        (counted.backends[0].weight, counted.backends[0].active) = (Some(1), Some(3));
        counted.backends[0].state = "draining".to_owned();
        let text = shown(&[counted]);
        for word in ["CONNECTIONS", "70001", "12/s", "10.1.0.1:80 (draining) weight 1, 3 active"] {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
        assert!(!text.contains("inactive"), "{text}");
    }
}
