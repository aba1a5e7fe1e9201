//! One rule of Calico. Never part of one: anything wrong in it closes it.

use super::entity::{self, End};
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Action, Effect, Family, HttpRule, Icmp, Layer7, Peer, Protocol, Rule, Traffic};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

const KEYS: [&str; 10] =
    ["action", "ipVersion", "protocol", "notProtocol", "icmp", "notICMP", "source", "destination", "http", "metadata"];

/// Reads a rule. What cannot be read allows nothing; if it denies or passes, it denies everybody.
pub(super) fn read(reader: &mut Reader<'_>, namespace: Option<&Arc<str>>, value: &Value, path: &str) -> Option<Rule> {
    let actions = [("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass), ("Log", Action::Log)];
    let Some(map) = reader.mapping(CLOSED, value, path) else { return Some(Rule::new(path, Action::Deny)) };
    let action = match present(map, "action") {
        None => reader.missing(CLOSED, path, "action", "Allow, Deny, Pass or Log"),
        Some(value) => reader.word(CLOSED, value, &format!("{path}.action"), &actions),
    };
    match (action, conditions(reader, namespace, map, path)) {
        (Some(action), Some(rule)) => Some(Rule { action, ..rule }),
        (Some(Action::Allow | Action::Log), None) => None,
        // It may be one that denies, and to whom is not known.
        (Some(Action::Deny | Action::Pass), None) | (None, _) => Some(Rule::new(path, Action::Deny)),
    }
}

fn conditions(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    map: &Map<String, Value>,
    path: &str,
) -> Option<Rule> {
    let mark = reader.mark();
    reader.only(CLOSED, map, path, &KEYS);
    let at = |key: &str| format!("{path}.{key}");
    let family = present(map, "ipVersion").and_then(|value| family(reader, value, &at("ipVersion")));
    let protocol = present(map, "protocol").and_then(|value| protocol(reader, value, &at("protocol")));
    let not_protocol = present(map, "notProtocol").and_then(|value| self::protocol(reader, value, &at("notProtocol")));
    let mut end = |key: &str| match present(map, key) {
        None => Some(End::default()),
        Some(value) => entity::read(reader, namespace, key == "destination", value, &at(key)),
    };
    let (source, destination) = (end("source"), end("destination"));
    let icmp_message = present(map, "icmp").and_then(|value| icmp(reader, value, &at("icmp")));
    let not_icmp = present(map, "notICMP").and_then(|value| icmp(reader, value, &at("notICMP")));
    let layer7 = present(map, "http").and_then(|value| http(reader, value, &at("http")));
    let (mut source, mut destination) = (source?, destination?);
    let has_ports = [&source, &destination].iter().any(|end| end.ports.is_some() || end.not_ports.is_some());
    if has_ports && !protocol.is_some_and(Protocol::has_ports) {
        reader.problem(CLOSED, at("protocol"), "ports need a protocol that has some; write TCP, UDP or SCTP");
    }
    if (icmp_message.is_some() || not_icmp.is_some()) && !matches!(protocol, Some(Protocol::ICMP | Protocol::ICMPV6)) {
        reader.problem(CLOSED, at("protocol"), "icmp and notICMP need the protocol; write ICMP or ICMPv6");
    }
    if layer7.is_some() && protocol.is_some_and(|protocol| protocol != Protocol::TCP) {
        reader.problem(CLOSED, at("protocol"), "http needs the protocol TCP");
    }
    if !reader.sound_since(mark) {
        return None;
    }
    let traffic = Traffic {
        family,
        protocol,
        not_protocol,
        source_ports: source.ports.take(),
        not_source_ports: source.not_ports.take(),
        destination_ports: destination.ports.take(),
        not_destination_ports: destination.not_ports.take(),
        icmp: icmp_message,
        not_icmp,
    };
    let (source, destination): (Peer, Peer) = (source.peer(), destination.peer());
    Some(Rule { source, destination, traffic: vec![traffic], layer7, ..Rule::new(path, Action::Deny) })
}

fn family(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Family> {
    match reader.number(CLOSED, value, path, 4..=6_u8)? {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        _ => {
            reader.problem(CLOSED, path, "is 5; write 4 or 6");
            None
        }
    }
}

/// A name, or a number from 1 to 255, also in quotes.
fn protocol(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Protocol> {
    if value.is_number() {
        return reader.number(CLOSED, value, path, 1..=u8::MAX).map(Protocol);
    }
    match reader.text(CLOSED, value, path)?.parse() {
        Ok(protocol) => Some(protocol),
        Err(error) => {
            reader.problem(CLOSED, path, error);
            None
        }
    }
}

fn icmp(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Icmp> {
    let map = reader.item(CLOSED, value, path, &["type", "code"])?;
    let mut number = |key: &str, most: u8| {
        present(map, key).map(|value| reader.number(CLOSED, value, &format!("{path}.{key}"), 0..=most))
    };
    // 255 is reserved. RFC 4443, section 2.1.
    let (kind, code) = (number("type", 254), number("code", u8::MAX));
    match (kind, code) {
        (None, None) => None,
        (None, Some(_)) => {
            reader.problem(CLOSED, format!("{path}.code"), "stands without a type; write type too");
            None
        }
        (Some(kind), None) => Some(Icmp { kind: kind?, code: None }),
        (Some(kind), Some(code)) => Some(Icmp { kind: kind?, code: Some(code?) }),
    }
}

/// `http`: any of the methods, and any of the paths.
fn http(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Layer7> {
    let map = reader.item(CLOSED, value, path, &["methods", "paths"])?;
    let listed = reader.list(CLOSED, map, path, "methods")?;
    let methods: Vec<Option<Arc<str>>> = reader.each(listed, &format!("{path}.methods"), |reader, value, path| {
        Some(Some(escaped(reader.text(CLOSED, value, path)?).into()))
    });
    let listed = reader.list(CLOSED, map, path, "paths")?;
    let paths: Vec<Option<Arc<str>>> = reader.each(listed, &format!("{path}.paths"), |reader, value, path| {
        let (key, value, path) = reader.one_of(CLOSED, value, path, &["exact", "prefix"])?;
        let text = escaped(reader.text(CLOSED, value, &path)?);
        Some(Some(if key == "prefix" { format!("{text}.*").into() } else { text.into() }))
    });
    let or_any = |list: Vec<Option<Arc<str>>>| if list.is_empty() { vec![None] } else { list };
    let (methods, paths) = (or_any(methods), or_any(paths));
    let rule = |method: &Option<Arc<str>>, path: &Option<Arc<str>>| HttpRule {
        method: method.clone(),
        path: path.clone(),
        ..HttpRule::default()
    };
    Some(Layer7::Http(methods.iter().flat_map(|method| paths.iter().map(move |path| rule(method, path))).collect()))
}

/// A text as a regular expression that matches it alone.
fn escaped(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}
