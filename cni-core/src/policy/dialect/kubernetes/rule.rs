//! One rule of a NetworkPolicy. Never part of one: a rule with anything wrong in it allows nothing.

use super::in_namespace;
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::dialect::standard::{Port, traffic_of};
use crate::policy::model::{Action, Direction, Effect, Peer, Protocol, Rule, Selector, Traffic};
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// Reads a rule; `None` when anything in it cannot be read.
pub(super) fn read(
    reader: &mut Reader<'_>,
    namespace: &Arc<str>,
    direction: Direction,
    value: &Value,
    path: &str,
) -> Option<Rule> {
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let mark = reader.mark();
    let map = reader.mapping(CLOSED, value, path)?;
    reader.only(CLOSED, map, path, &[key, "ports"]);
    let listed = reader.list(CLOSED, map, path, key).unwrap_or_default();
    let peers =
        reader.each(listed, &format!("{path}.{key}"), |reader, value, path| peer(reader, namespace, value, path));
    let listed = reader.list(CLOSED, map, path, "ports").unwrap_or_default();
    let ports = reader.each(listed, &format!("{path}.ports"), port);
    if !reader.sound_since(mark) {
        return None;
    }
    let peers = any_of(peers);
    let (source, destination) = match direction {
        Direction::Ingress => (peers, Peer::Anything),
        Direction::Egress => (Peer::Anything, peers),
    };
    let traffic = if ports.is_empty() { vec![Traffic::any()] } else { traffic_of(ports) };
    Some(Rule { source, destination, traffic, ..Rule::new(path, Action::Allow) })
}

/// One peer as written.
enum Written {
    Pods(Selector),
    Block { cidr: IpNet, except: Vec<IpNet> },
}

/// Whoever is in one of the peers; of none: everybody. Blocks without holes become one set.
fn any_of(written: Vec<Written>) -> Peer {
    if written.is_empty() {
        return Peer::Anything;
    }
    let mut peers = Vec::new();
    let mut whole = Vec::new();
    for peer in written {
        match peer {
            Written::Pods(selector) => peers.push(Peer::pods(selector)),
            Written::Block { cidr, except } if except.is_empty() => whole.push(cidr),
            Written::Block { cidr, except } => {
                peers.push(Peer::AllOf(vec![Peer::beside_pods(vec![cidr]), Peer::Networks(except).negated()]));
            }
        }
    }
    if !whole.is_empty() {
        peers.push(Peer::beside_pods(whole));
    }
    if peers.len() == 1 { peers.swap_remove(0) } else { Peer::AnyOf(peers) }
}

fn peer(reader: &mut Reader<'_>, namespace: &Arc<str>, value: &Value, path: &str) -> Option<Written> {
    let map = reader.item(CLOSED, value, path, &["podSelector", "namespaceSelector", "ipBlock"])?;
    match (present(map, "namespaceSelector"), present(map, "podSelector"), present(map, "ipBlock")) {
        (None, None, None) => {
            let right = "write podSelector, namespaceSelector, both, or ipBlock; for everybody leave the list out";
            reader.problem(CLOSED, path, format!("says no peer; {right}"));
            None
        }
        (None, None, Some(block)) => ip_block(reader, block, &format!("{path}.ipBlock")),
        (_, _, Some(_)) => {
            let detail = "stands beside a selector; make it a peer of its own";
            reader.problem(CLOSED, format!("{path}.ipBlock"), detail);
            None
        }
        (namespaces, pods, None) => {
            let namespaces = match namespaces {
                None => Some(in_namespace(namespace)),
                Some(value) => reader.namespace_labels(CLOSED, value, &format!("{path}.namespaceSelector")),
            };
            let pods = match pods {
                None => Some(Selector::Everything),
                Some(value) => reader.own_labels(CLOSED, value, &format!("{path}.podSelector")),
            };
            Some(Written::Pods(namespaces?.and(pods?)))
        }
    }
}

fn ip_block(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Written> {
    let map = reader.item(CLOSED, value, path, &["cidr", "except"])?;
    let cidr = match present(map, "cidr") {
        None => reader.missing(CLOSED, path, "cidr", "a prefix as in 10.1.0.0/16 or fd00:1::/64"),
        Some(value) => {
            let path = format!("{path}.cidr");
            reader.text(CLOSED, value, &path).and_then(|text| reader.network(CLOSED, text, &path))
        }
    };
    let listed = reader.list(CLOSED, map, path, "except")?;
    let except = reader.each(listed, &format!("{path}.except"), |reader, value, path| {
        let text = reader.text(CLOSED, value, path)?;
        let except = reader.network(CLOSED, text, path)?;
        let cidr = cidr?;
        if cidr.contains(&except) && cidr != except {
            return Some(except);
        }
        reader.problem(CLOSED, path, format!("{except} is no smaller part of {cidr}; write a prefix within it"));
        None
    });
    Some(Written::Block { cidr: cidr?, except })
}

fn port(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<(Option<Protocol>, Option<Port>)> {
    let map = reader.item(CLOSED, value, path, &["protocol", "port", "endPort"])?;
    let protocol = reader.protocol(CLOSED, map, path);
    let port = number_or_name(reader, map, path);
    Some((Some(protocol?), port?))
}

/// The port: outer `None` when it cannot be read, inner `None` when there is none.
fn number_or_name(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str) -> Option<Option<Port>> {
    let end = present(map, "endPort");
    match present(map, "port") {
        None if end.is_some() => {
            reader.problem(
                CLOSED,
                format!("{path}.endPort"),
                "stands without a port; write port, where the range begins",
            );
            None
        }
        None => Some(None),
        Some(Value::String(_)) if end.is_some() => {
            let detail = "stands with a name of a port; a range begins at a number";
            reader.problem(CLOSED, format!("{path}.endPort"), detail);
            None
        }
        Some(Value::String(name)) => reader.port_name(CLOSED, name, &format!("{path}.port")).map(Some),
        Some(number) => {
            let first = reader.number(CLOSED, number, &format!("{path}.port"), 1..=i64::from(u16::MAX))?;
            let last = match end {
                None => None,
                Some(end) => Some(reader.number(CLOSED, end, &format!("{path}.endPort"), 1..=i64::from(u16::MAX))?),
            };
            reader.ports(CLOSED, first, last, path).map(Port::Range).map(Some)
        }
    }
}
