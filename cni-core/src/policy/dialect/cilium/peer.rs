//! The other end of a rule: the fields that begin with `from` or `to`. Never two of them, which Cilium does not take.

use super::{cidr, entity, labels, layer7};
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Attribute, Direction, Effect, Kinds, Peer, Selector, WorkloadKind};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// A field without its `from` or `to`.
#[derive(Debug, Clone, Copy)]
enum Field {
    Endpoints,
    Cidr,
    CidrSet,
    Entities,
    Nodes,
    Services,
    Groups,
    Names,
}

const FIELDS: [(&str, Field); 8] = [
    ("Endpoints", Field::Endpoints),
    ("CIDR", Field::Cidr),
    ("CIDRSet", Field::CidrSet),
    ("Entities", Field::Entities),
    ("Nodes", Field::Nodes),
    ("Services", Field::Services),
    ("Groups", Field::Groups),
    ("FQDNs", Field::Names),
];

/// Reads the other end; `None` when no field says who. Keys of the other direction are for the rule to find.
pub(super) fn read(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    direction: Direction,
    map: &Map<String, Value>,
    path: &str,
) -> Option<Peer> {
    let prefix = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    requires(reader, map, path, &format!("{prefix}Requires"));
    let mut peers = Vec::new();
    let mut empty = false;
    let mut before: Option<String> = None;
    for (name, field) in FIELDS {
        let key = format!("{prefix}{name}");
        if present(map, &key).is_none() {
            continue;
        }
        let listed = reader.list(CLOSED, map, path, &key).unwrap_or_default();
        let at = format!("{path}.{key}");
        if listed.is_empty() {
            empty = true;
            continue;
        }
        if let Some(before) = &before {
            reader.problem(CLOSED, &*at, format!("stands beside {before}; make it a rule of its own"));
        }
        peers.extend(members(reader, namespace, field, listed, &at));
        before = Some(key);
    }
    match (empty, peers.len(), before) {
        // One list that is empty selects nobody for the whole rule.
        (true, ..) => Some(Peer::Nothing),
        (false, _, None) => None,
        (false, 1, Some(_)) => peers.pop(),
        (false, _, Some(_)) => Some(Peer::AnyOf(peers)),
    }
}

/// `fromRequires`, `toRequires`: conditions on the other end of every other rule for the same pods, of any policy.
fn requires(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str, key: &str) {
    let listed = reader.list(CLOSED, map, path, key).unwrap_or_default();
    if !listed.is_empty() {
        let detail =
            "binds all other rules for these pods, and is no longer part of the API; write it into each selector";
        reader.problem(Effect::SubjectClosed, format!("{path}.{key}"), detail);
    }
}

fn members(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    field: Field,
    listed: &[Value],
    path: &str,
) -> Vec<Peer> {
    match field {
        Field::Endpoints => {
            reader.each(listed, path, |reader, value, path| labels::peer(reader, namespace, value, path))
        }
        Field::Cidr => cidr::plain(reader, listed, path),
        Field::CidrSet => cidr::set(reader, listed, path),
        Field::Entities => reader.each(listed, path, entity::read),
        Field::Nodes => reader.each(listed, path, |reader, value, path| {
            let selector = labels::nodes(reader, CLOSED, value, path)?;
            Some(Peer::Labelled { kinds: Kinds::NODES, selector })
        }),
        Field::Services => reader.each(listed, path, service),
        Field::Groups => {
            reader.problem(CLOSED, path, "groups of a cloud provider are not known here; write prefixes instead");
            Vec::new()
        }
        Field::Names => vec![Peer::Names(reader.each(listed, path, layer7::name))],
    }
}

/// The addresses behind services: by name, or those that a selector finds; in every namespace, if none is written.
fn service(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Peer> {
    let (key, value, path) = reader.one_of(CLOSED, value, path, &["k8sService", "k8sServiceSelector"])?;
    let by_name = key == "k8sService";
    let which = if by_name { "serviceName" } else { "selector" };
    let map = reader.item(CLOSED, value, &path, &[which, "namespace"])?;
    let at = format!("{path}.{which}");
    let services = match present(map, which) {
        None => reader.missing(CLOSED, &path, which, "which services"),
        Some(value) if by_name => {
            reader.text(CLOSED, value, &at).map(|name| Selector::Is(Attribute::Name, name.into()))
        }
        Some(value) => labels::services(reader, value, &at),
    };
    let namespace = match present(map, "namespace") {
        None => Some(Selector::Everything),
        Some(value) => match reader.text(CLOSED, value, &format!("{path}.namespace"))? {
            "" => Some(Selector::Everything),
            namespace => Some(Selector::Is(Attribute::Namespace, namespace.into())),
        },
    };
    Some(Peer::Labelled { kinds: Kinds::of(WorkloadKind::Service), selector: namespace?.and(services?) })
}
