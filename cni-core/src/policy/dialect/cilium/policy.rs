//! The object and its specs. Never their rules.

use super::{labels, rule};
use crate::policy::dialect::fields::present;
use crate::policy::dialect::{Reader, Reading};
use crate::policy::model::{
    Action, Attribute, Direction, Effect, Kinds, Order, Policy, PolicyId, Rule, Rules, Selector, Stage, Subject, Tier,
};
use crate::store::{Kind, Object, type_name};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What cannot be read here closes all that the object is about.
const CLOSED: Effect = Effect::SubjectClosed;

/// As many specs as are read of one object.
const MOST_SPECS: usize = 1_000;

/// As many rules of one list as are read.
const MOST_RULES: usize = 5_000;

/// The place of rules that allow: that of Kubernetes' policies, which only allow as well.
const ORDER: i32 = 1_000;

const KEYS: [&str; 10] = [
    "endpointSelector",
    "nodeSelector",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "labels",
    "description",
    "log",
];

/// Reads a policy of Cilium; `None` for other kinds.
pub(in crate::policy::dialect) fn read(object: &Object) -> Option<Reading> {
    let kind = &object.key.kind;
    let namespace = match (kind.group(), kind.kind()) {
        ("cilium.io", "CiliumNetworkPolicy") => {
            Some(object.key.namespace.clone().unwrap_or_else(|| Arc::from("default")))
        }
        ("cilium.io", "CiliumClusterwideNetworkPolicy") => None,
        _ => return None,
    };
    let mut reader = Reader::new(object);
    let mode = reader.mode();
    reader.document_of(Kind::CILIUM_NETWORK_POLICY.api_version(), &["spec", "specs", "status"]);
    let mut specs: Vec<(&Value, String)> = Vec::new();
    specs.extend(present(&object.fields, "spec").map(|spec| (spec, "spec".to_owned())));
    match present(&object.fields, "specs") {
        None => {}
        Some(Value::Array(listed)) => {
            reader.count(CLOSED, listed, "specs", 0..=MOST_SPECS);
            let named = listed.iter().take(MOST_SPECS).enumerate();
            specs.extend(named.map(|(index, spec)| (spec, format!("specs[{index}]"))));
        }
        Some(wrong) => reader.problem(CLOSED, "specs", format!("is {}, not a list", type_name(wrong))),
    }
    let mut parts: Vec<Part> =
        specs.iter().flat_map(|(spec, path)| parts_of(&mut reader, namespace.as_ref(), spec, path)).collect();
    if specs.is_empty() {
        reader.problem(CLOSED, "spec", "is missing; write endpointSelector, ingress and egress");
        parts.push(Part::silent(everybody(namespace.as_ref())));
    }
    let policy = |(part, number): (Part, u16)| Policy {
        id: PolicyId { object: object.key.clone(), part: number },
        tier: Tier::DEFAULT.into(),
        order: part.order,
        subject: part.subject,
        ingress: part.ingress,
        egress: part.egress,
        mode,
        stage: Stage::Tracked,
        on_forward: false,
    };
    // At most two parts for each spec.
    let policies = parts.into_iter().zip(0..).map(policy).collect();
    Some(reader.finish_parts(policies))
}

/// What becomes a policy of the model.
struct Part {
    order: Order,
    subject: Subject,
    ingress: Option<Rules>,
    egress: Option<Rules>,
}

impl Part {
    fn silent(subject: Subject) -> Self {
        Self { order: Order::at(ORDER), subject, ingress: None, egress: None }
    }
}

/// All pods that an object of this namespace may be about; of the cluster: all.
fn everybody(namespace: Option<&Arc<str>>) -> Subject {
    let selector = namespace.map(|namespace| Selector::Is(Attribute::Namespace, namespace.clone()));
    Subject { kinds: Kinds::PODS, selector: selector.unwrap_or(Selector::Everything) }
}

/// Reads one spec: what it denies, which comes before all that anybody allows, and what it allows.
fn parts_of(reader: &mut Reader<'_>, namespace: Option<&Arc<str>>, value: &Value, path: &str) -> Vec<Part> {
    let Some(spec) = reader.mapping(CLOSED, value, path) else {
        return vec![Part::silent(everybody(namespace))];
    };
    reader.only(CLOSED, spec, path, &KEYS);
    let subject = subject(reader, namespace, spec, path);
    let mut rules = |direction| rules(reader, namespace, spec, path, direction);
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    let [deny_ingress, deny_egress] = default_deny(reader, spec, path, [ingress.written, egress.written]);
    remarks(reader, spec, path);
    if !ingress.written && !egress.written && !deny_ingress && !deny_egress {
        reader.problem(Effect::Warning, path, "has no rules, so it says nothing; write ingress or egress");
    }
    let denied = |rules: Vec<Rule>| (!rules.is_empty()).then_some(Rules { rules, isolates: false });
    let allowed = |rules: Vec<Rule>, isolates| (isolates || !rules.is_empty()).then_some(Rules { rules, isolates });
    let deny = Part {
        order: Order::FIRST,
        subject: subject.clone(),
        ingress: denied(ingress.deny),
        egress: denied(egress.deny),
    };
    let allow = Part {
        order: Order::at(ORDER),
        subject,
        ingress: allowed(ingress.allow, deny_ingress),
        egress: allowed(egress.allow, deny_egress),
    };
    let denies = deny.ingress.is_some() || deny.egress.is_some();
    denies.then_some(deny).into_iter().chain([allow]).collect()
}

/// Whom a spec is about; what cannot be read is about everybody, and closed.
fn subject(reader: &mut Reader<'_>, namespace: Option<&Arc<str>>, spec: &Map<String, Value>, path: &str) -> Subject {
    let (endpoints, nodes) = (format!("{path}.endpointSelector"), format!("{path}.nodeSelector"));
    let read = match (present(spec, "endpointSelector"), present(spec, "nodeSelector")) {
        (Some(value), None) => labels::subject(reader, namespace, value, &endpoints)
            .map(|selector| Subject { kinds: Kinds::PODS, selector }),
        (None, Some(_)) if namespace.is_some() => {
            let detail = "is for CiliumClusterwideNetworkPolicy only; write endpointSelector";
            reader.problem(CLOSED, nodes, detail);
            None
        }
        (None, Some(value)) => {
            let selector = labels::nodes(reader, CLOSED, value, &nodes).unwrap_or(Selector::Everything);
            Some(Subject { kinds: Kinds::NODES, selector })
        }
        (Some(_), Some(_)) => {
            reader.problem(CLOSED, nodes, "stands beside endpointSelector; write one of them");
            None
        }
        (None, None) => reader.missing(CLOSED, path, "endpointSelector", "{} to select all pods"),
    };
    read.unwrap_or_else(|| everybody(namespace))
}

/// The rules of one direction.
struct Written {
    deny: Vec<Rule>,
    allow: Vec<Rule>,
    /// Whether there are any, readable or not.
    written: bool,
}

fn rules(
    reader: &mut Reader<'_>,
    namespace: Option<&Arc<str>>,
    spec: &Map<String, Value>,
    path: &str,
    direction: Direction,
) -> Written {
    let mut written = false;
    let mut read = |action, key: &str| -> Vec<Rule> {
        let listed = reader.list(CLOSED, spec, path, key).unwrap_or_default();
        let path = format!("{path}.{key}");
        reader.count(CLOSED, listed, &path, 0..=MOST_RULES);
        written |= !listed.is_empty();
        let rules = reader.each(listed, &path, |reader, value, path| {
            Some(rule::read(reader, namespace, direction, action, value, path))
        });
        rules.into_iter().flatten().collect()
    };
    let deny = read(Action::Deny, &format!("{direction}Deny"));
    let allow = read(Action::Allow, &direction.to_string());
    Written { deny, allow, written }
}

/// Whether what no rule allows is denied, by direction: where there are rules, unless the spec says otherwise.
fn default_deny(reader: &mut Reader<'_>, spec: &Map<String, Value>, path: &str, written: [bool; 2]) -> [bool; 2] {
    let path = format!("{path}.enableDefaultDeny");
    let Some(value) = present(spec, "enableDefaultDeny") else { return written };
    let Some(map) = reader.item(CLOSED, value, &path, &["ingress", "egress"]) else { return written };
    let mut flag = |key: &str| present(map, key).and_then(|value| reader.flag(CLOSED, value, &format!("{path}.{key}")));
    [flag("ingress").unwrap_or(written[0]), flag("egress").unwrap_or(written[1])]
}

/// Checks what is for people and logs only.
fn remarks(reader: &mut Reader<'_>, spec: &Map<String, Value>, path: &str) {
    reader.list(CLOSED, spec, path, "labels");
    if let Some(value) = present(spec, "description") {
        reader.text(CLOSED, value, &format!("{path}.description"));
    }
    let path = format!("{path}.log");
    let value = present(spec, "log").and_then(|log| reader.item(CLOSED, log, &path, &["value"]));
    if let Some(value) = value.and_then(|map| present(map, "value")) {
        reader.text(CLOSED, value, &format!("{path}.value"));
    }
}
