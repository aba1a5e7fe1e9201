//! One end of a rule of Calico: prefixes, selectors, service accounts, services and ports. Never the protocol.

use super::selector::{Expression, Meaning, Word, parse};
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Attribute, Effect, Kinds, Peer, PortRange, Ports, Selector, WorkloadKind};
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is wrong with an end closes its rule.
const CLOSED: Effect = Effect::RuleClosed;

const KEYS: [&str; 9] = [
    "nets",
    "notNets",
    "selector",
    "notSelector",
    "namespaceSelector",
    "ports",
    "notPorts",
    "serviceAccounts",
    "services",
];

/// One end of a rule.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) peers: Vec<Peer>,
    pub(super) ports: Option<Ports>,
    pub(super) not_ports: Option<Ports>,
}

impl End {
    pub(super) fn peer(&mut self) -> Peer {
        match self.peers.len() {
            0 => Peer::Anything,
            1 => self.peers.swap_remove(0),
            _ => Peer::AllOf(std::mem::take(&mut self.peers)),
        }
    }
}

/// Labels of endpoints and network sets, with the names that Calico gives to what is around them.
pub(super) fn endpoints(expression: &Expression) -> Selector {
    let label = |label: &str| match label {
        "projectcalico.org/namespace" => Word::Attribute(Attribute::Namespace),
        "projectcalico.org/serviceaccount" => Word::Attribute(Attribute::ServiceAccount),
        "projectcalico.org/orchestrator" => Word::OfPods("k8s"),
        other => Word::Attribute(match (other.strip_prefix("pcns."), other.strip_prefix("pcsa.")) {
            (Some(key), _) => Attribute::NamespaceLabel(key.into()),
            (_, Some(key)) => Attribute::ServiceAccountLabel(key.into()),
            _ => Attribute::Label(other.into()),
        }),
    };
    expression.lower(&Meaning { all: Selector::Everything, global: Selector::Everything, label: &label })
}

/// Labels of namespaces; `global()` is what has none.
pub(super) fn namespaces(expression: &Expression) -> Selector {
    let label = |label: &str| {
        Word::Attribute(match label {
            "projectcalico.org/name" => Attribute::Namespace,
            key => Attribute::NamespaceLabel(key.into()),
        })
    };
    let in_namespace = Selector::Has(Attribute::Namespace);
    expression.lower(&Meaning { all: in_namespace.clone(), global: in_namespace.negated(), label: &label })
}

/// Labels of service accounts.
pub(super) fn service_accounts(expression: &Expression) -> Selector {
    let label = |label: &str| {
        Word::Attribute(match label {
            "projectcalico.org/name" => Attribute::ServiceAccount,
            key => Attribute::ServiceAccountLabel(key.into()),
        })
    };
    let with_account = Selector::Has(Attribute::ServiceAccount);
    expression.lower(&Meaning { all: with_account.clone(), global: with_account, label: &label })
}

/// Reads one end; `None` when anything in it cannot be read. `namespace`: of the policy, `None` for one of the cluster.
pub(super) fn read(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    destination: bool,
    value: &Value,
    path: &str,
) -> Option<End> {
    let mark = reader.mark();
    let map = reader.item(CLOSED, value, path, &KEYS)?;
    let mut end = End::default();
    if let Some(networks) = networks(reader, map, path, "nets") {
        end.peers.push(Peer::Networks(networks));
    }
    if let Some(networks) = networks(reader, map, path, "notNets") {
        end.peers.push(Peer::Networks(networks).negated());
    }
    let own = select(reader, map, path, "selector", endpoints);
    let not = select(reader, map, path, "notSelector", endpoints);
    let place = select(reader, map, path, "namespaceSelector", namespaces);
    let accounts = accounts(reader, map, path);
    // Selectors of a policy of a namespace stay in it, unless they say which namespaces they mean.
    let narrowed = own.is_some() || not.is_some() || place.is_some() || accounts.is_some();
    let place = place.or_else(|| Some(Selector::Is(Attribute::Namespace, namespace?.clone())));
    let selectors: Vec<Selector> = [place.filter(|_| narrowed), own, accounts].into_iter().flatten().collect();
    if !selectors.is_empty() {
        let selector = selectors.into_iter().fold(Selector::Everything, Selector::and);
        end.peers.push(Peer::Labelled { kinds: Kinds::CALICO, selector });
    }
    if let Some(not) = not {
        end.peers.push(Peer::Labelled { kinds: Kinds::CALICO, selector: not }.negated());
    }
    if let Some(value) = present(map, "services") {
        let peer = service(reader, map, destination, value, &format!("{path}.services"));
        end.peers.extend(peer);
    }
    end.ports = ports(reader, map, path, "ports");
    end.not_ports = ports(reader, map, path, "notPorts");
    reader.sound_since(mark).then_some(end)
}

/// A list of prefixes; `None` when nobody wrote one, or an empty one, which is the same here.
fn networks(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str, key: &str) -> Option<Vec<IpNet>> {
    let listed = reader.list(CLOSED, map, path, key)?;
    let networks = reader.each(listed, &format!("{path}.{key}"), |reader, value, path| {
        let text = reader.text(CLOSED, value, path)?;
        // A bare address is a prefix of one.
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Some(address.into());
        }
        reader.network(CLOSED, text, path)
    });
    (!listed.is_empty()).then_some(networks)
}

fn select(
    reader: &mut Reader<'_>,
    map: &Map<String, Value>,
    path: &str,
    key: &str,
    lower: impl Fn(&Expression) -> Selector,
) -> Option<Selector> {
    let path = format!("{path}.{key}");
    let text = present(map, key).and_then(|value| reader.text(CLOSED, value, &path))?;
    match parse(text) {
        _ if text.trim().is_empty() => None,
        Ok(expression) => Some(lower(&expression)),
        Err(error) => {
            reader.problem(CLOSED, path, error);
            None
        }
    }
}

/// `serviceAccounts`: names, labels, or both.
fn accounts(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) -> Option<Selector> {
    let path = format!("{path}.serviceAccounts");
    let map = reader.item(CLOSED, present(map, "serviceAccounts")?, &path, &["names", "selector"])?;
    let listed = reader.list(CLOSED, map, &path, "names")?;
    let names: BTreeSet<Arc<str>> = reader
        .each(listed, &format!("{path}.names"), |reader, value, path| reader.text(CLOSED, value, path).map(Arc::from))
        .into_iter()
        .collect();
    let named = (!listed.is_empty()).then_some(Selector::In(Attribute::ServiceAccount, names));
    let selected = select(reader, map, &path, "selector", service_accounts);
    let both = [named, selected].into_iter().flatten().fold(Selector::Everything, Selector::and);
    Some(both)
}

/// `services`: the addresses behind a service.
fn service(
    reader: &mut Reader<'_>,
    end: &Map<String, Value>,
    destination: bool,
    value: &Value,
    path: &str,
) -> Option<Peer> {
    let others =
        ["nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts", "ports", "notPorts"];
    if let Some(other) = others.iter().find(|key| present(end, key).is_some()) {
        reader.problem(CLOSED, path, format!("stands beside {other}; a service stands alone"));
        return None;
    }
    if destination {
        let detail = "the ports of a service are not known to rules here; write a selector and ports instead";
        reader.problem(CLOSED, path, detail);
        return None;
    }
    let map = reader.item(CLOSED, value, path, &["name", "namespace"])?;
    let name = present(map, "name").and_then(|value| reader.text(CLOSED, value, &format!("{path}.name")));
    let namespace =
        present(map, "namespace").and_then(|value| reader.text(CLOSED, value, &format!("{path}.namespace")));
    let (Some(name), Some(namespace)) = (name, namespace) else {
        reader.problem(CLOSED, path, "needs name and namespace of the service");
        return None;
    };
    let selector = Selector::Is(Attribute::Namespace, namespace.into()).and(Selector::Is(Attribute::Name, name.into()));
    Some(Peer::Labelled { kinds: Kinds::of(WorkloadKind::Service), selector })
}

/// A list of ports: numbers, `FIRST:LAST`, names. `None` when nobody wrote one, or an empty one.
fn ports(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str, key: &str) -> Option<Ports> {
    let listed = reader.list(CLOSED, map, path, key)?;
    if listed.is_empty() {
        return None;
    }
    let mut ports = Ports::default();
    for (index, value) in listed.iter().enumerate() {
        let path = format!("{path}.{key}[{index}]");
        let text = match value {
            Value::Number(number) => number.to_string(),
            other => reader.text(CLOSED, other, &path)?.to_owned(),
        };
        match port(&text) {
            Some(Port::Range(range)) => ports.ranges.push(range),
            Some(Port::Name(name)) => _ = ports.names.insert(name),
            None => {
                let detail =
                    format!("{text:?} is no port; write 1 to 65535, FIRST:LAST in quotes, or a name of a port");
                reader.problem(CLOSED, path, detail);
            }
        }
    }
    Some(ports)
}

enum Port {
    Range(PortRange),
    Name(Arc<str>),
}

fn port(text: &str) -> Option<Port> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some((first, last)) = text.split_once(':') {
        // Calico takes 0 for the first port.
        let first = if first == "0" { Some(1) } else { number(first) };
        return match (first, number(last)) {
            (Some(first), Some(last)) if first <= last => Some(Port::Range(PortRange { first, last })),
            _ => None,
        };
    }
    if let Some(port) = number(text) {
        return Some(Port::Range(PortRange::one(port)));
    }
    let is_name = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.len() <= 128;
    is_name.then(|| Port::Name(text.into()))
}
