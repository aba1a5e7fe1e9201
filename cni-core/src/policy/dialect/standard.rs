//! What the APIs of Kubernetes itself have in common: labels and port names as its API server takes them, pods by
//! namespace, protocols and ports. Never the meaning of a rule.

use super::Reader;
use super::fields::present;
use crate::policy::model::{Attribute, Effect, PortRange, Ports, Protocol, Selector, Traffic};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The protocols that policies of Kubernetes may name.
const PROTOCOLS: [(&str, Protocol); 3] = [("TCP", Protocol::TCP), ("UDP", Protocol::UDP), ("SCTP", Protocol::SCTP)];

/// A port of a rule.
#[derive(Debug, Clone)]
pub(super) enum Port {
    /// By number.
    Range(PortRange),
    /// By the name that the destination's pod gives it.
    Name(Arc<str>),
}

/// Ports of any of these, one condition for each protocol. No protocol: of any; no port: all of the protocol.
pub(super) fn traffic_of(entries: Vec<(Option<Protocol>, Option<Port>)>) -> Vec<Traffic> {
    let mut by_protocol: BTreeMap<Option<Protocol>, Option<Ports>> = BTreeMap::new();
    for (protocol, port) in entries {
        let ports = by_protocol.entry(protocol).or_insert_with(|| Some(Ports::default()));
        match (port, ports.as_mut()) {
            (None, _) => *ports = None,
            (Some(Port::Range(range)), Some(ports)) => ports.ranges.push(range),
            (Some(Port::Name(name)), Some(ports)) => _ = ports.names.insert(name),
            (Some(_), None) => {}
        }
    }
    let traffic = |(protocol, destination_ports)| Traffic { protocol, destination_ports, ..Traffic::any() };
    by_protocol.into_iter().map(traffic).collect()
}

impl Reader<'_> {
    /// Reads pods or nodes by their own labels.
    pub(super) fn own_labels(&mut self, effect: Effect, value: &Value, path: &str) -> Option<Selector> {
        self.label_selector(effect, value, path, |key| Attribute::Label(key.into()))
    }

    /// Reads pods by their namespace's labels.
    pub(super) fn namespace_labels(&mut self, effect: Effect, value: &Value, path: &str) -> Option<Selector> {
        self.label_selector(effect, value, path, |key| Attribute::NamespaceLabel(key.into()))
    }

    /// Reads a label selector and checks keys and values, as the API server does: a key that no label can have selects
    /// nothing where it is wanted, and everything where it is not.
    fn label_selector(
        &mut self,
        effect: Effect,
        value: &Value,
        path: &str,
        attribute: impl Fn(&str) -> Attribute,
    ) -> Option<Selector> {
        let mark = self.mark();
        let selector = self.selector(effect, value, path, attribute)?;
        let labels = value.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            self.label(effect, key, value.as_str(), &format!("{path}.matchLabels"));
        }
        let expressions = value.get("matchExpressions").and_then(Value::as_array);
        for (index, expression) in expressions.into_iter().flatten().enumerate() {
            let key = expression.get("key").and_then(Value::as_str).unwrap_or_default();
            let values = expression.get("values").and_then(Value::as_array).into_iter().flatten();
            let path = format!("{path}.matchExpressions[{index}]");
            self.label(effect, key, values.filter_map(Value::as_str), &path);
        }
        self.sound_since(mark).then_some(selector)
    }

    /// Checks the key of a label, and values that it is compared with.
    pub(super) fn label<'t>(
        &mut self,
        effect: Effect,
        key: &str,
        values: impl IntoIterator<Item = &'t str>,
        path: &str,
    ) {
        if !is_label_key(key) {
            let rule = "write at most 63 letters, digits, '-', '_', '.', perhaps behind a domain and '/'";
            self.problem(effect, path, format!("{key:?} is no label key; {rule}"));
        }
        for value in values.into_iter().filter(|value| !value.is_empty() && !is_label_name(value)) {
            let rule = "write at most 63 letters, digits, '-', '_', '.', with a letter or digit at both ends";
            self.problem(effect, path, format!("{value:?} is no label value; {rule}"));
        }
    }

    /// Reads `namespaceSelector` and `podSelector` that must both hold. One that is missing selects all: readers of these
    /// APIs do so, though the API server wants it. So it is warned of, but for those that are optional.
    pub(super) fn namespaced_pods(
        &mut self,
        effect: Effect,
        value: &Value,
        path: &str,
        optional: &[&str],
    ) -> Option<Selector> {
        let map = self.item(effect, value, path, &["namespaceSelector", "podSelector"])?;
        let namespaces = match present(map, "namespaceSelector") {
            None => self.selects_all(path, "namespaceSelector", "namespaces", optional),
            Some(value) => self.namespace_labels(effect, value, &format!("{path}.namespaceSelector")),
        };
        let pods = match present(map, "podSelector") {
            None => self.selects_all(path, "podSelector", "pods", optional),
            Some(value) => self.own_labels(effect, value, &format!("{path}.podSelector")),
        };
        Some(namespaces?.and(pods?))
    }

    fn selects_all(&mut self, path: &str, key: &str, what: &str, optional: &[&str]) -> Option<Selector> {
        if !optional.contains(&key) {
            let detail = format!("is missing, so all {what} are selected; write {{}} to say so");
            self.problem(Effect::Warning, format!("{path}.{key}"), detail);
        }
        Some(Selector::Everything)
    }

    /// Notes that a field is missing.
    pub(crate) fn missing<T>(&mut self, effect: Effect, path: &str, key: &str, right: &str) -> Option<T> {
        self.problem(effect, format!("{path}.{key}"), format!("is missing; write {right}"));
        None
    }

    /// Reads a protocol that has ports; TCP where none is written.
    pub(crate) fn protocol(&mut self, effect: Effect, map: &Map<String, Value>, path: &str) -> Option<Protocol> {
        match present(map, "protocol") {
            None => Some(Protocol::TCP),
            Some(value) => self.word(effect, value, &format!("{path}.protocol"), &PROTOCOLS),
        }
    }

    /// Reads a name of a port.
    pub(super) fn port_name(&mut self, effect: Effect, text: &str, path: &str) -> Option<Port> {
        if is_port_name(text) {
            return Some(Port::Name(text.into()));
        }
        let hint = match text.parse::<u16>() {
            Ok(number) => format!("write the number {number} without quotes"),
            Err(_) => "write 1 to 15 of a-z, 0-9 and '-', a letter among them, no '-' at an end or twice".to_owned(),
        };
        self.problem(effect, path, format!("{text:?} is no name of a port; {hint}"));
        None
    }

    /// Reads the keys `start` and `end` of a range of ports. `longer`: of at least two.
    pub(super) fn start_and_end(
        &mut self,
        effect: Effect,
        map: &Map<String, Value>,
        path: &str,
        longer: bool,
    ) -> Option<PortRange> {
        let mut port = |key: &str| match present(map, key) {
            None => self.missing(effect, path, key, "a port from 1 to 65535"),
            Some(value) => self.number(effect, value, &format!("{path}.{key}"), 1..=u16::MAX),
        };
        let (first, last) = (port("start"), port("end"));
        let (first, last) = (first?, last?);
        if first < last || (first == last && !longer) {
            return Some(PortRange { first, last });
        }
        let right = if longer { "more than" } else { "at least" };
        self.problem(effect, format!("{path}.end"), format!("is {last}; write {right} {first}, which is the start"));
        None
    }
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => is_label_name(key),
        Some((domain, name)) => is_domain(domain) && is_label_name(name),
    }
}

/// 1 to 63 of letters, digits, `-`, `_`, `.`, with a letter or digit at both ends.
fn is_label_name(text: &str) -> bool {
    let at_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && at_end(bytes.first())
        && at_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A domain in lower case. RFC 1123, section 2.1.
fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        is_label_name(label) && label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A service's name. RFC 6335, section 5.1, in lower case.
fn is_port_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && text.bytes().any(|byte| byte.is_ascii_lowercase())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}
