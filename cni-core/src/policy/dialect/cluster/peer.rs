//! Peers of cluster network policies. Never guesses one: a peer without a known field may be of a later version.

use super::Api;
use super::rule::CLOSED;
use crate::policy::dialect::Reader;
use crate::policy::model::{Action, Direction, DnsPattern, Kinds, Peer};
use crate::store::type_name;
use serde_json::Value;

/// The most prefixes of one peer, and the most domain names.
const MOST_MEMBERS: usize = 25;

/// Reads a peer.
pub(super) fn read(
    reader: &mut Reader<'_>,
    api: Api,
    direction: Direction,
    action: Option<Action>,
    value: &Value,
    path: &str,
) -> Option<Peer> {
    let known: &[&str] = match (direction, api) {
        (Direction::Ingress, _) => &["namespaces", "pods"],
        (Direction::Egress, Api::Baseline) => &["namespaces", "pods", "nodes", "networks"],
        (Direction::Egress, _) => &["namespaces", "pods", "nodes", "networks", "domainNames"],
    };
    let (key, value, path) = reader.one_of(CLOSED, value, path, known)?;
    match key {
        "namespaces" => reader.namespace_labels(CLOSED, value, &path).map(Peer::pods),
        "pods" => reader.namespaced_pods(CLOSED, value, &path, api.optional_selectors()).map(Peer::pods),
        "nodes" => {
            let selector = reader.own_labels(CLOSED, value, &path)?;
            Some(Peer::Labelled { kinds: Kinds::NODES, selector })
        }
        "networks" => {
            let networks = members(reader, value, &path, |reader, text, path| reader.network(CLOSED, text, path))?;
            Some(Peer::Networks(networks))
        }
        _ => {
            if action.is_some_and(|action| action != Action::Allow) {
                let word = if api == Api::Cluster { "Accept" } else { "Allow" };
                reader.problem(CLOSED, &*path, format!("stands in a rule that does not {word}; write networks there"));
            }
            members(reader, value, &path, domain).map(Peer::Names)
        }
    }
}

fn members<T>(
    reader: &mut Reader<'_>,
    value: &Value,
    path: &str,
    mut read: impl FnMut(&mut Reader<'_>, &str, &str) -> Option<T>,
) -> Option<Vec<T>> {
    let Value::Array(listed) = value else {
        reader.problem(CLOSED, path, format!("is {}, not a list", type_name(value)));
        return None;
    };
    reader.count(CLOSED, listed, path, 1..=MOST_MEMBERS);
    Some(reader.each(listed, path, |reader, value, path| {
        let text = reader.text(CLOSED, value, path)?;
        read(reader, text, path)
    }))
}

/// Reads a domain of at least two labels, `*.` before it for all below it.
fn domain(reader: &mut Reader<'_>, text: &str, path: &str) -> Option<DnsPattern> {
    let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if !name.contains('.') || !name.split('.').all(label) {
        let right = "write one as in blog.example.org, or *.example.org for all below example.org";
        reader.problem(CLOSED, path, format!("{text:?} is no domain name; {right}"));
        return None;
    }
    let name = name.to_ascii_lowercase().into();
    Some(if below { DnsPattern::Below(name) } else { DnsPattern::Name(name) })
}
