//! Policies of `policy.networking.k8s.io`: ClusterNetworkPolicy of v1alpha2, AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy of v1alpha1. Never isolates: what no rule matches goes on to the next tier.

mod peer;
mod rule;
#[cfg(test)]
mod tests;
mod traffic;

use super::fields::present;
use super::{Reader, Reading};
use crate::policy::model::{
    Action, Direction, Effect, Kinds, Mode, Order, Policy, PolicyId, Rules, Selector, Stage, Subject, Tier,
};
use crate::store::{Kind, Object};
use serde_json::{Map, Value};

/// What cannot be read here closes all pods that the policy is about.
const CLOSED: Effect = Effect::SubjectClosed;

/// The place of the BaselineAdminNetworkPolicy: after every ClusterNetworkPolicy of its tier.
const BASELINE_ORDER: i32 = MOST_PRIORITY + 1;

const MOST_PRIORITY: i32 = 1_000;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    Cluster,
    Admin,
    Baseline,
}

impl Api {
    fn of(kind: &Kind) -> Option<Self> {
        match (kind.group(), kind.kind()) {
            ("policy.networking.k8s.io", "ClusterNetworkPolicy") => Some(Self::Cluster),
            ("policy.networking.k8s.io", "AdminNetworkPolicy") => Some(Self::Admin),
            ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy") => Some(Self::Baseline),
            _ => None,
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Cluster => Kind::CLUSTER_NETWORK_POLICY,
            Self::Admin => Kind::ADMIN_NETWORK_POLICY,
            Self::Baseline => Kind::BASELINE_ADMIN_NETWORK_POLICY,
        }
    }

    fn spec_keys(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["tier", "priority", "subject", "ingress", "egress"],
            Self::Admin => &["priority", "subject", "ingress", "egress"],
            Self::Baseline => &["subject", "ingress", "egress"],
        }
    }

    fn actions(self) -> &'static [(&'static str, Action)] {
        match self {
            Self::Cluster => &[("Accept", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)],
            Self::Admin => &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)],
            Self::Baseline => &[("Allow", Action::Allow), ("Deny", Action::Deny)],
        }
    }

    /// The most rules in one direction, peers of a rule, and ports of a rule.
    fn most(self) -> usize {
        if self == Self::Cluster { 25 } else { 100 }
    }

    /// What `pods` may leave out.
    fn optional_selectors(self) -> &'static [&'static str] {
        if self == Self::Cluster { &["namespaceSelector"] } else { &[] }
    }

    fn traffic_key(self) -> &'static str {
        if self == Self::Cluster { "protocols" } else { "ports" }
    }
}

/// Reads a policy of the cluster; `None` for other kinds.
pub(super) fn read(object: &Object) -> Option<Reading> {
    let api = Api::of(&object.key.kind)?;
    let mut reader = Reader::new(object);
    let mode = reader.mode();
    reader.document(api.kind().api_version());
    if api == Api::Baseline && &*object.key.name != "default" {
        let detail = format!("{:?} is not taken: there is one such policy; name it default", object.key.name);
        reader.problem(CLOSED, "metadata.name", detail);
    }
    let spec = match object.fields.get("spec") {
        None | Some(Value::Null) => {
            reader.problem(CLOSED, "spec", format!("is missing; write {}", api.spec_keys().join(", ")));
            None
        }
        Some(spec) => reader.mapping(CLOSED, spec, "spec"),
    };
    let policy = match spec {
        Some(spec) => policy(&mut reader, api, spec, mode),
        None => Policy { mode, ..Policy::closed(object.key.clone(), all_pods()) },
    };
    Some(reader.finish(policy))
}

fn policy(reader: &mut Reader<'_>, api: Api, spec: &Map<String, Value>, mode: Mode) -> Policy {
    reader.only(CLOSED, spec, "spec", api.spec_keys());
    let (tier, order) = place(reader, api, spec);
    let subject = match present(spec, "subject") {
        None => reader.missing(CLOSED, "spec", "subject", "namespaces or pods; for all pods namespaces: {}"),
        Some(value) => subject(reader, api, value),
    };
    let mut rules = |direction| rules(reader, api, spec, direction);
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    Policy {
        id: PolicyId { object: reader.object.key.clone(), part: 0 },
        tier: tier.into(),
        order,
        subject: subject.unwrap_or_else(all_pods),
        ingress,
        egress,
        mode,
        stage: Stage::Tracked,
        on_forward: false,
    }
}

fn all_pods() -> Subject {
    Subject { kinds: Kinds::PODS, selector: Selector::Everything }
}

/// Tier and order. What it says when they cannot be read never counts, for the policy is closed then.
fn place(reader: &mut Reader<'_>, api: Api, spec: &Map<String, Value>) -> (&'static str, Order) {
    if api == Api::Baseline {
        return (Tier::BASELINE, Order::at(BASELINE_ORDER));
    }
    let priority = match present(spec, "priority") {
        None => reader.missing(CLOSED, "spec", "priority", "a whole number from 0 to 1000; lesser ones come first"),
        Some(value) => reader.number(CLOSED, value, "spec.priority", 0..=MOST_PRIORITY),
    };
    let tier = match (api, present(spec, "tier")) {
        (Api::Cluster, None) => reader.missing(CLOSED, "spec", "tier", "Admin or Baseline"),
        (Api::Cluster, Some(value)) => {
            reader.word(CLOSED, value, "spec.tier", &[("Admin", Tier::ADMIN), ("Baseline", Tier::BASELINE)])
        }
        _ => Some(Tier::ADMIN),
    };
    (tier.unwrap_or(Tier::CLOSED), priority.map_or(Order::FIRST, Order::at))
}

fn subject(reader: &mut Reader<'_>, api: Api, value: &Value) -> Option<Subject> {
    let (key, value, path) = reader.one_of(CLOSED, value, "spec.subject", &["namespaces", "pods"])?;
    let selector = match key {
        "namespaces" => reader.namespace_labels(CLOSED, value, &path),
        _ => reader.namespaced_pods(CLOSED, value, &path, api.optional_selectors()),
    };
    Some(Subject { kinds: Kinds::PODS, selector: selector? })
}

/// The rules of one direction; `None` when the policy has no say in it.
fn rules(reader: &mut Reader<'_>, api: Api, spec: &Map<String, Value>, direction: Direction) -> Option<Rules> {
    let key = direction.to_string();
    let path = format!("spec.{key}");
    let listed = reader.list(CLOSED, spec, "spec", &key)?;
    reader.count(CLOSED, listed, &path, 0..=api.most());
    let rules = reader.each(listed, &path, |reader, value, path| rule::read(reader, api, direction, value, path));
    (!listed.is_empty()).then_some(Rules { rules, isolates: false })
}
