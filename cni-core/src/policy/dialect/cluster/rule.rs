//! One rule of a cluster network policy. Never part of one: with anything wrong in it, a rule that accepts matches nothing,
//! and any other denies everybody.

use super::{Api, peer, traffic};
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Action, Direction, Effect, Peer, Rule, Traffic};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
pub(super) const CLOSED: Effect = Effect::RuleClosed;

const MOST_NAME_LETTERS: usize = 100;

/// Reads a rule; `None` for one that accepts and cannot be read.
pub(super) fn read(reader: &mut Reader<'_>, api: Api, direction: Direction, value: &Value, path: &str) -> Option<Rule> {
    let Some(map) = reader.mapping(CLOSED, value, path) else { return Some(Rule::new(path, Action::Deny)) };
    let mark = reader.mark();
    let peers_key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    // A key that is not known may be about traffic, so then nothing is known of the traffic.
    let known = reader.only(CLOSED, map, path, &["name", "action", peers_key, api.traffic_key()]);
    let name = present(map, "name").and_then(|value| name(reader, value, &format!("{path}.name")));
    let words: Vec<&str> = api.actions().iter().map(|(word, _)| *word).collect();
    let action = match present(map, "action") {
        None => reader.missing(CLOSED, path, "action", &words.join(", ")),
        Some(value) => reader.word(CLOSED, value, &format!("{path}.action"), api.actions()),
    };
    let traffic = traffic::read(reader, api, map, path);
    let peer = peers(reader, api, direction, action, map, path);
    if reader.sound_since(mark) {
        return Some(rule(path, name, direction, action?, peer, traffic.unwrap_or_default()));
    }
    if action == Some(Action::Allow) {
        return None;
    }
    let traffic = traffic.filter(|_| known).unwrap_or_else(|| vec![Traffic::any()]);
    Some(rule(path, name, direction, Action::Deny, Peer::Anything, traffic))
}

fn rule(
    path: &str,
    name: Option<Arc<str>>,
    direction: Direction,
    action: Action,
    peer: Peer,
    traffic: Vec<Traffic>,
) -> Rule {
    let (source, destination) = match direction {
        Direction::Ingress => (peer, Peer::Anything),
        Direction::Egress => (Peer::Anything, peer),
    };
    Rule { name, source, destination, traffic, ..Rule::new(path, action) }
}

fn name(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Arc<str>> {
    let text = reader.text(CLOSED, value, path)?;
    let letters = text.chars().count();
    if letters > MOST_NAME_LETTERS {
        reader.problem(CLOSED, path, format!("has {letters} letters; write at most {MOST_NAME_LETTERS}"));
    }
    (!text.is_empty()).then(|| text.into())
}

fn peers(
    reader: &mut Reader<'_>,
    api: Api,
    direction: Direction,
    action: Option<Action>,
    map: &Map<String, Value>,
    path: &str,
) -> Peer {
    let key = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let listed_path = format!("{path}.{key}");
    let Some(listed) = reader.list(CLOSED, map, path, key) else { return Peer::Nothing };
    reader.count(CLOSED, listed, &listed_path, 1..=api.most());
    let mut peers = reader
        .each(listed, &listed_path, |reader, value, path| peer::read(reader, api, direction, action, value, path));
    if direction == Direction::Egress {
        named_ports_are_of_pods(reader, api, action, listed, map, path);
    }
    if peers.len() == 1 { peers.swap_remove(0) } else { Peer::AnyOf(peers) }
}

/// Nodes, networks and domains name no ports: they are not matched by name. That may accept less than is meant, but must
/// not deny less.
fn named_ports_are_of_pods(
    reader: &mut Reader<'_>,
    api: Api,
    action: Option<Action>,
    peers: &[Value],
    map: &Map<String, Value>,
    path: &str,
) {
    let named = traffic::NAMED_PORT[usize::from(api == Api::Cluster)];
    let traffic = present(map, api.traffic_key()).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(index) = traffic.iter().position(|entry| entry.get(named).is_some_and(|name| !name.is_null())) else {
        return;
    };
    let has = |peer: &Value| ["nodes", "networks", "domainNames"].iter().any(|key| peer.get(key).is_some());
    if peers.iter().any(has) {
        let effect = if action == Some(Action::Allow) { Effect::Warning } else { CLOSED };
        let path = format!("{path}.{}[{index}].{named}", api.traffic_key());
        let detail = "stands with nodes, networks or domainNames, which name no ports; write numbers, or another rule";
        reader.problem(effect, path, detail);
    }
}
