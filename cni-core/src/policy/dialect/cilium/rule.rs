//! One rule: who and what traffic. Never part of one: anything wrong in it closes it.

use super::{peer, traffic};
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Action, Direction, Effect, Peer, Rule, Traffic};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// What rules have that let something in; the last only those that allow.
const INGRESS: [&str; 10] = [
    "fromEndpoints",
    "fromRequires",
    "fromCIDR",
    "fromCIDRSet",
    "fromEntities",
    "fromGroups",
    "fromNodes",
    "toPorts",
    "icmps",
    "authentication",
];

/// What rules have that let something out; the last two only those that allow.
const EGRESS: [&str; 12] = [
    "toEndpoints",
    "toRequires",
    "toCIDR",
    "toCIDRSet",
    "toEntities",
    "toServices",
    "toGroups",
    "toNodes",
    "toPorts",
    "icmps",
    "toFQDNs",
    "authentication",
];

fn keys(direction: Direction, action: Action) -> &'static [&'static str] {
    match (direction, action) {
        (Direction::Ingress, Action::Allow) => &INGRESS,
        (Direction::Ingress, _) => &INGRESS[..9],
        (Direction::Egress, Action::Allow) => &EGRESS,
        (Direction::Egress, _) => &EGRESS[..10],
    }
}

/// Reads a rule, as one for each condition on an application protocol and one for the rest. What cannot be read allows
/// nothing; if it denies, it denies everybody.
pub(super) fn read(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    direction: Direction,
    action: Action,
    value: &Value,
    path: &str,
) -> Vec<Rule> {
    match conditions(reader, namespace, direction, action, value, path) {
        Some(rules) => rules,
        None if action == Action::Allow => Vec::new(),
        None => vec![Rule::new(path, Action::Deny)],
    }
}

fn conditions(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    direction: Direction,
    action: Action,
    value: &Value,
    path: &str,
) -> Option<Vec<Rule>> {
    let mark = reader.mark();
    let map = reader.mapping(CLOSED, value, path)?;
    reader.only(CLOSED, map, path, keys(direction, action));
    let peer = peer::read(reader, namespace, direction, map, path);
    let ports = traffic::ports(reader, action, map, path);
    let messages = traffic::messages(reader, map, path);
    if ports.is_some() && messages.is_some() {
        reader.problem(CLOSED, format!("{path}.icmps"), "stands beside toPorts; make it a rule of its own");
    }
    authentication(reader, map, path);
    if !reader.sound_since(mark) {
        return None;
    }
    if peer.is_none() && ports.is_none() && messages.is_none() {
        // It only says that there is a rule.
        return Some(Vec::new());
    }
    let peer = peer.unwrap_or(Peer::Anything);
    let (source, destination) = match direction {
        Direction::Ingress => (peer, Peer::Anything),
        Direction::Egress => (Peer::Anything, peer),
    };
    let rule = |path: &str, traffic, layer7| Rule {
        source: source.clone(),
        destination: destination.clone(),
        traffic,
        layer7,
        ..Rule::new(path, action)
    };
    let mut plain: Vec<Traffic> = messages.unwrap_or_default();
    let mut rules = Vec::new();
    match ports {
        None if plain.is_empty() => plain.push(Traffic::any()),
        None => {}
        Some(ports) => {
            for port in ports {
                match port.layer7 {
                    None => plain.extend(port.traffic),
                    Some(layer7) => rules.push(rule(&port.path, port.traffic, Some(layer7))),
                }
            }
        }
    }
    if !plain.is_empty() {
        rules.insert(0, rule(path, plain, None));
    }
    Some(rules)
}

/// Nobody proves here who they are, so a rule that asks for it allows nothing.
fn authentication(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) {
    let path = format!("{path}.authentication");
    let Some(map) = present(map, "authentication").and_then(|value| reader.item(CLOSED, value, &path, &["mode"]))
    else {
        return;
    };
    let at = format!("{path}.mode");
    let words = [("disabled", false), ("required", true), ("test-always-fail", true)];
    let wanted = match present(map, "mode") {
        None => reader.missing(CLOSED, &path, "mode", "disabled or required"),
        Some(value) => reader.word(CLOSED, value, &at, &words),
    };
    if wanted == Some(true) {
        reader.problem(CLOSED, at, "mutual authentication is not there, so the rule allows nothing; write disabled");
    }
}
