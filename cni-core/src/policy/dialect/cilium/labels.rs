//! Selectors of endpoints, nodes and services, with the words that Cilium has for what is around a pod. Never addresses.

use super::entity;
use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Attribute, Effect, Peer, Selector};
use serde_json::Value;
use std::sync::Arc;

/// The name of a pod's namespace.
const NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Before the labels of a pod's namespace.
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";
/// The name of a pod's service account.
const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
/// The name of the cluster, which is not known here.
const CLUSTER: &str = "io.cilium.k8s.policy.cluster";

/// Where a label comes from, as it is written before its key.
const RESERVED: &str = "reserved";

/// The source of a key, any where none is written, and its name.
fn split(key: &str) -> (&str, &str) {
    key.split_once(':').unwrap_or(("any", key))
}

/// What the key of a pod's label stands for. No pod has a label of its own with a colon in its key, so none has a
/// reserved one.
fn of_pods(key: &str) -> Attribute {
    match split(key) {
        (RESERVED, _) => Attribute::Label(key.into()),
        (_, NAMESPACE) => Attribute::Namespace,
        (_, SERVICE_ACCOUNT) => Attribute::ServiceAccount,
        (_, name) => match name.strip_prefix(NAMESPACE_LABELS) {
            Some(label) => Attribute::NamespaceLabel(label.into()),
            None => Attribute::Label(name.into()),
        },
    }
}

/// One condition of a label selector.
struct Condition<'v> {
    key: &'v str,
    /// `None`: of `matchLabels`.
    operator: Option<&'v str>,
    values: Vec<&'v str>,
    path: String,
}

impl Condition<'_> {
    /// Whether it says where a pod is, so that the policy's own namespace is not meant.
    fn is_place(&self) -> bool {
        matches!(of_pods(self.key), Attribute::Namespace | Attribute::NamespaceLabel(_))
    }

    fn is_reserved(&self) -> bool {
        split(self.key).0 == RESERVED
    }

    /// Whether it wants its label to be there, whatever its value.
    fn wants(&self) -> bool {
        self.operator == Some("Exists") || (self.operator.is_none() && self.values == [""])
    }
}

/// The conditions of a selector that could be read.
fn conditions<'v>(value: &'v Value, path: &str) -> Vec<Condition<'v>> {
    let labels = value.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let labels = labels.map(|(key, value)| Condition {
        key,
        operator: None,
        values: value.as_str().into_iter().collect(),
        path: format!("{path}.matchLabels"),
    });
    let expressions = value.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    let expressions = expressions.enumerate().map(|(index, expression)| Condition {
        key: expression.get("key").and_then(Value::as_str).unwrap_or_default(),
        operator: expression.get("operator").and_then(Value::as_str),
        values: match expression.as_object().and_then(|map| present(map, "values")) {
            Some(values) => values.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            None => Vec::new(),
        },
        path: format!("{path}.matchExpressions[{index}]"),
    });
    labels.chain(expressions).collect()
}

/// Reads a selector and checks its keys and values: one that nobody can have selects nothing where it is wanted, and
/// everything where it is not.
fn read<'v>(
    reader: &mut Reader<'_>,
    effect: Effect,
    value: &'v Value,
    path: &str,
    sources: &[&str],
    attribute: fn(&str) -> Attribute,
) -> Option<(Selector, Vec<Condition<'v>>)> {
    let mark = reader.mark();
    let selector = reader.selector(effect, value, path, attribute)?;
    let conditions = conditions(value, path);
    for Condition { key, values, path, .. } in &conditions {
        let (source, name) = split(key);
        if !sources.contains(&source) {
            let known = sources.join(":, ");
            reader.problem(effect, path, format!("{source:?} is no source of labels here; write {known}: or none"));
        } else if source == RESERVED {
            if !entity::is_reserved(name) {
                reader.problem(effect, path, format!("{name:?} is no reserved label; write one as in reserved:host"));
            }
        } else if name == CLUSTER {
            reader.problem(effect, path, format!("clusters have no names here; leave {CLUSTER} out"));
        } else {
            let name = name.strip_prefix(NAMESPACE_LABELS).unwrap_or(name);
            reader.label(effect, name, values.iter().copied(), path);
        }
    }
    reader.sound_since(mark).then_some((selector, conditions))
}

/// Reads whom a policy is about: pods of its namespace, if it has one.
pub(super) fn subject(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    value: &Value,
    path: &str,
) -> Option<Selector> {
    let closed = Effect::SubjectClosed;
    let (selector, conditions) = read(reader, closed, value, path, &["k8s", "any", RESERVED], of_pods)?;
    let Some(namespace) = namespace else { return Some(selector) };
    let own = [&**namespace];
    let elsewhere = |condition: &&Condition<'_>| {
        of_pods(condition.key) == Attribute::Namespace
            && !(matches!(condition.operator, None | Some("In")) && condition.values == own)
    };
    if let Some(condition) = conditions.iter().find(elsewhere) {
        let detail = format!("a policy is about pods of its own namespace {namespace}; leave {} out", condition.key);
        reader.problem(closed, &*condition.path, detail);
        return None;
    }
    Some(Selector::Is(Attribute::Namespace, namespace.clone()).and(selector))
}

/// Reads pods at the other end; those of the policy's namespace, unless the selector says where.
pub(super) fn peer(reader: &mut Reader<'_>, namespace: Option<&Arc<str>>, value: &Value, path: &str) -> Option<Peer> {
    let closed = Effect::RuleClosed;
    let (selector, conditions) = read(reader, closed, value, path, &["k8s", "any", RESERVED], of_pods)?;
    if conditions.iter().any(Condition::is_reserved) {
        if let [condition] = &conditions[..]
            && condition.wants()
        {
            return entity::peer(split(condition.key).1);
        }
        let detail = "a reserved label stands beside other conditions, or is not simply wanted; write it alone";
        reader.problem(closed, path, detail);
        return None;
    }
    let place = conditions.iter().any(Condition::is_place);
    let own = namespace.filter(|_| !place).map(|namespace| Selector::Is(Attribute::Namespace, namespace.clone()));
    Some(Peer::pods(own.unwrap_or(Selector::Everything).and(selector)))
}

/// Reads nodes by their labels.
pub(super) fn nodes(reader: &mut Reader<'_>, effect: Effect, value: &Value, path: &str) -> Option<Selector> {
    let own = |key: &str| Attribute::Label(split(key).1.into());
    read(reader, effect, value, path, &["k8s", "any", "node"], own).map(|(selector, _)| selector)
}

/// Reads services by their labels.
pub(super) fn services(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Selector> {
    let own = |key: &str| Attribute::Label(split(key).1.into());
    read(reader, Effect::RuleClosed, value, path, &["k8s", "any"], own).map(|(selector, _)| selector)
}
