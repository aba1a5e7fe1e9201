//! NetworkPolicy of `networking.k8s.io/v1`. Never denies by a rule: what it selects is closed, and rules open it.
//!
//! | written | means |
//! |---|---|
//! | `policyTypes` missing or empty | Ingress; Egress too when `egress` has a rule |
//! | `ingress` missing or empty | nothing may come, when Ingress is among the types |
//! | `from`, `to` missing or empty | everybody |
//! | `ports` missing or empty | all traffic, of any protocol |
//! | a port without `port` | all ports of its protocol |
//! | `podSelector: {}` | all pods |

mod rule;
#[cfg(test)]
mod tests;

use super::calico;
use super::fields::present;
use super::{Reader, Reading};
use crate::policy::model::{
    Attribute, Direction, Effect, Kinds, Mode, Order, Policy, PolicyId, Rules, Selector, Stage, Subject, Tier,
};
use crate::store::{Kind, Object};
use serde_json::{Map, Value};
use std::sync::Arc;

/// As many rules in one direction as are read. Kubernetes has no limit of its own but the size of an object.
const MOST_RULES: usize = 5_000;

/// The place of all network policies in their tier: among themselves order does not matter, for they only allow.
const ORDER: i32 = 1_000;

/// Reads a NetworkPolicy; `None` for other kinds.
pub(super) fn read(object: &Object) -> Option<Reading> {
    let kind = &object.key.kind;
    if kind.kind() != "NetworkPolicy" || !matches!(kind.group(), "networking.k8s.io" | "extensions") {
        return None;
    }
    Some(read_spec(object, false))
}

/// Reads Calico's StagedKubernetesNetworkPolicy: the same spec, to be tried.
pub(super) fn read_staged(object: &Object) -> Reading {
    read_spec(object, true)
}

fn read_spec(object: &Object, staged: bool) -> Reading {
    let mut reader = Reader::new(object);
    let mode = if staged { Mode::Staged } else { reader.mode() };
    if staged {
        calico::version(&mut reader);
    } else {
        reader.document(Kind::NETWORK_POLICY.api_version());
    }
    let nothing = Map::new();
    let spec = match object.fields.get("spec") {
        None | Some(Value::Null) => {
            let detail = "is missing, so nothing may come to any pod of the namespace; write at least podSelector";
            reader.problem(Effect::Warning, "spec", detail);
            &nothing
        }
        Some(spec) => reader.mapping(Effect::SubjectClosed, spec, "spec").unwrap_or(&nothing),
    };
    let keys = ["podSelector", "policyTypes", "ingress", "egress", "stagedAction"];
    reader.only(Effect::SubjectClosed, spec, "spec", if staged { &keys } else { &keys[..4] });
    if staged && calico::is_left_alone(&mut reader, spec) {
        return Reading { problems: reader.problems, ..Reading::default() };
    }
    let namespace: Arc<str> = object.key.namespace.clone().unwrap_or_else(|| "default".into());
    let pods = match present(spec, "podSelector") {
        None => Selector::Everything,
        // The whole namespace, when it cannot be read.
        Some(value) => {
            reader.own_labels(Effect::SubjectClosed, value, "spec.podSelector").unwrap_or(Selector::Everything)
        }
    };
    let mut rules = |direction| rules(&mut reader, &namespace, spec, direction);
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    let [has_ingress, has_egress] = types(&mut reader, spec);
    let policy = Policy {
        id: PolicyId { object: object.key.clone(), part: 0 },
        tier: Tier::DEFAULT.into(),
        order: Order::at(ORDER),
        subject: Subject { kinds: Kinds::PODS, selector: in_namespace(&namespace).and(pods) },
        ingress: has_ingress.then_some(ingress),
        egress: has_egress.then_some(egress),
        mode,
        stage: Stage::Tracked,
        on_forward: false,
    };
    reader.finish(policy)
}

fn in_namespace(namespace: &Arc<str>) -> Selector {
    Selector::Is(Attribute::Namespace, namespace.clone())
}

/// Which directions the policy is about.
fn types(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> [bool; 2] {
    let words = [("Ingress", Direction::Ingress), ("Egress", Direction::Egress)];
    let listed = reader.list(Effect::SubjectClosed, spec, "spec", "policyTypes").unwrap_or_default();
    let types = reader.each(listed, "spec.policyTypes", |reader, value, path| {
        reader.word(Effect::SubjectClosed, value, path, &words)
    });
    let rules = |key: &str| present(spec, key).and_then(Value::as_array);
    if listed.is_empty() {
        if rules("egress").is_some_and(Vec::is_empty) {
            let detail =
                "is empty, so without policyTypes it says nothing; write policyTypes: [Ingress, Egress] to close";
            reader.problem(Effect::Warning, "spec.egress", detail);
        }
        return [true, rules("egress").is_some_and(|rules| !rules.is_empty())];
    }
    let about = [types.contains(&Direction::Ingress), types.contains(&Direction::Egress)];
    for (key, about, word) in [("ingress", about[0], "Ingress"), ("egress", about[1], "Egress")] {
        if !about && rules(key).is_some_and(|rules| !rules.is_empty()) {
            let detail = format!("has no effect: {word} is not among policyTypes; add it, or remove the rules");
            reader.problem(Effect::Warning, format!("spec.{key}"), detail);
        }
    }
    about
}

/// The rules of one direction.
fn rules(reader: &mut Reader<'_>, namespace: &Arc<str>, spec: &Map<String, Value>, direction: Direction) -> Rules {
    let key = direction.to_string();
    let path = format!("spec.{key}");
    let listed = reader.list(Effect::SubjectClosed, spec, "spec", &key).unwrap_or_default();
    reader.count(Effect::SubjectClosed, listed, &path, 0..=MOST_RULES);
    let rules = reader.each(listed, &path, |reader, value, path| rule::read(reader, namespace, direction, value, path));
    Rules { rules, isolates: true }
}
