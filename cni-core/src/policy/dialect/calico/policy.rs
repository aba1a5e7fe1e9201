//! Calico's policies, enforced and staged, of a namespace and of the cluster. Never their rules.

use super::entity::{endpoints, namespaces, service_accounts};
use super::tier::order;
use super::{VERSIONS, rule, selector};
use crate::policy::dialect::fields::present;
use crate::policy::dialect::{Reader, Reading};
use crate::policy::model::{
    Attribute, Direction, Effect, Kinds, Mode, Order, Policy, PolicyId, Rules, Selector, Stage, Subject, Tier,
    WorkloadKind,
};
use crate::store::Object;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What cannot be read here closes all that the policy is about.
const CLOSED: Effect = Effect::SubjectClosed;

/// As many rules in one direction as are read.
const MOST_RULES: usize = 10_000;

/// Which kind of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Api {
    pub(super) global: bool,
    pub(super) staged: bool,
}

impl Api {
    pub(super) fn of(kind: &str) -> Option<Self> {
        let api = |global, staged| Some(Self { global, staged });
        match kind {
            "NetworkPolicy" => api(false, false),
            "GlobalNetworkPolicy" => api(true, false),
            "StagedNetworkPolicy" => api(false, true),
            "StagedGlobalNetworkPolicy" => api(true, true),
            _ => None,
        }
    }

    fn keys(self) -> Vec<&'static str> {
        let mut keys = vec![
            "tier",
            "order",
            "selector",
            "serviceAccountSelector",
            "types",
            "ingress",
            "egress",
            "performanceHints",
        ];
        if self.global {
            keys.extend(["namespaceSelector", "doNotTrack", "preDNAT", "applyOnForward"]);
        }
        if self.staged {
            keys.push("stagedAction");
        }
        keys
    }
}

/// What a staged policy asks to be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StagedAction {
    Set,
    Delete,
    Learn,
    Ignore,
}

/// Reads `stagedAction`.
fn staged_action(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> Option<StagedAction> {
    let words = [
        ("Set", StagedAction::Set),
        ("Delete", StagedAction::Delete),
        ("Learn", StagedAction::Learn),
        ("Ignore", StagedAction::Ignore),
    ];
    let Some(value) = present(spec, "stagedAction") else { return Some(StagedAction::Set) };
    let action = reader.word(CLOSED, value, "spec.stagedAction", &words)?;
    if action == StagedAction::Delete {
        let detail = "what would be without a policy is not tried here: the staged policy has no effect; compare with policy diff";
        reader.problem(Effect::Warning, "spec.stagedAction", detail);
    }
    Some(action)
}

/// Whether a staged policy asks for nothing to be tried. One that cannot be read is not left alone.
pub(in crate::policy::dialect) fn is_left_alone(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> bool {
    let action = staged_action(reader, spec);
    let closed = reader.problems.iter().any(|problem| problem.effect == Effect::SubjectClosed);
    !closed && action.is_some_and(|action| action != StagedAction::Set)
}

/// Checks what is around the spec.
pub(in crate::policy::dialect) fn version(reader: &mut Reader<'_>) {
    let version = reader.object.key.kind.api_version();
    reader.document(VERSIONS.into_iter().find(|known| *known == version).unwrap_or(VERSIONS[0]));
}

pub(super) fn read(object: &Object, api: Api) -> Reading {
    let mut reader = Reader::new(object);
    let mode = if api.staged { Mode::Staged } else { reader.mode() };
    version(&mut reader);
    let nothing = Map::new();
    let spec = match object.fields.get("spec") {
        None | Some(Value::Null) => &nothing,
        Some(spec) => reader.mapping(CLOSED, spec, "spec").unwrap_or(&nothing),
    };
    reader.only(CLOSED, spec, "spec", &api.keys());
    if api.staged && is_left_alone(&mut reader, spec) {
        return Reading { policies: Vec::new(), tiers: Vec::new(), problems: reader.problems };
    }
    let namespace =
        if api.global { None } else { Some(object.key.namespace.clone().unwrap_or_else(|| "default".into())) };
    let (subject, stage, on_forward) = subject(&mut reader, spec, namespace.as_ref());
    let tier = match present(spec, "tier") {
        None => Tier::DEFAULT.into(),
        Some(value) => tier(&mut reader, value),
    };
    let order =
        present(spec, "order").map_or(Some(Order::LAST), |value| order(&mut reader, CLOSED, value, "spec.order"));
    let mut rules = |direction| rules(&mut reader, spec, direction, namespace.as_ref());
    let (ingress, egress) = (rules(Direction::Ingress), rules(Direction::Egress));
    let [has_ingress, has_egress] = types(&mut reader, spec);
    if stage == Stage::BeforeNat && has_egress && egress.rules.is_empty() {
        reader.problem(CLOSED, "spec.types", "Egress does not go with preDNAT: true, which is for what comes in");
    }
    let policy = Policy {
        id: PolicyId { object: object.key.clone(), part: 0 },
        tier,
        order: order.unwrap_or(Order::LAST),
        subject,
        ingress: has_ingress.then_some(ingress),
        egress: has_egress.then_some(egress),
        mode,
        stage,
        on_forward,
    };
    reader.finish(policy)
}

/// The tier's name. Tiers of cluster network policies are their authors' alone: whoever may write policies of a namespace
/// could go before them otherwise.
fn tier(reader: &mut Reader<'_>, value: &Value) -> Arc<str> {
    match reader.text(CLOSED, value, "spec.tier") {
        Some(name @ (Tier::CLOSED | Tier::ADMIN | Tier::BASELINE)) => {
            let detail =
                format!("{name} is for other policies; name a tier of your own, or leave it out for {}", Tier::DEFAULT);
            reader.problem(CLOSED, "spec.tier", detail);
            Tier::CLOSED.into()
        }
        Some(name) => name.into(),
        None => Tier::CLOSED.into(),
    }
}

/// A selector's field; what cannot be read selects everything, and is closed.
fn select(
    reader: &mut Reader<'_>,
    spec: &Map<String, Value>,
    key: &str,
    lower: impl Fn(&selector::Expression) -> Selector,
) -> Selector {
    let Some(value) = present(spec, key) else { return Selector::Everything };
    let path = format!("spec.{key}");
    let Some(text) = reader.text(CLOSED, value, &path) else { return Selector::Everything };
    match selector::parse(text) {
        // An empty text is a field that nobody wrote.
        Ok(_) if text.trim().is_empty() => Selector::Everything,
        Ok(expression) => lower(&expression),
        Err(error) => {
            reader.problem(CLOSED, path, error);
            Selector::Everything
        }
    }
}

/// Whom it is about, and where it decides at hosts.
fn subject(reader: &mut Reader<'_>, spec: &Map<String, Value>, namespace: Option<&Arc<str>>) -> (Subject, Stage, bool) {
    let own = select(reader, spec, "selector", endpoints);
    let accounts = select(reader, spec, "serviceAccountSelector", service_accounts);
    let (place, kinds, stage, on_forward) = match namespace {
        Some(namespace) => (Selector::Is(Attribute::Namespace, namespace.clone()), Kinds::PODS, Stage::Tracked, false),
        None => {
            let place = select(reader, spec, "namespaceSelector", namespaces);
            let (kinds, stage, on_forward) = at_hosts(reader, spec);
            (place, kinds, stage, on_forward)
        }
    };
    (Subject { kinds, selector: place.and(own).and(accounts) }, stage, on_forward)
}

/// Pods and host endpoints; host endpoints alone where a field says so. With the stage, and whether it is for what is
/// forwarded.
fn at_hosts(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> (Kinds, Stage, bool) {
    let mut flag = |key: &str| {
        let path = format!("spec.{key}");
        present(spec, key).and_then(|value| reader.flag(CLOSED, value, &path)).unwrap_or(false)
    };
    let [do_not_track, pre_dnat, on_forward] = ["doNotTrack", "preDNAT", "applyOnForward"].map(&mut flag);
    for (set, key) in [(do_not_track, "doNotTrack"), (pre_dnat, "preDNAT")] {
        if set && !on_forward {
            reader.problem(CLOSED, format!("spec.{key}"), "goes with applyOnForward: true only; write that too");
        }
    }
    if do_not_track && pre_dnat {
        reader.problem(CLOSED, "spec.preDNAT", "does not go with doNotTrack: true; leave one out");
    }
    if pre_dnat && present(spec, "egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty()) {
        reader.problem(CLOSED, "spec.egress", "does not go with preDNAT: true, which is for what comes in");
    }
    let hosts = Kinds::of(WorkloadKind::HostEndpoint);
    match (do_not_track, pre_dnat) {
        (true, _) => (hosts, Stage::Untracked, on_forward),
        (false, true) => (hosts, Stage::BeforeNat, on_forward),
        (false, false) => (hosts.and(WorkloadKind::Pod), Stage::Tracked, on_forward),
    }
}

/// Which directions the policy is about.
fn types(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> [bool; 2] {
    let words = [("Ingress", Direction::Ingress), ("Egress", Direction::Egress)];
    let listed = reader.list(CLOSED, spec, "spec", "types").unwrap_or_default();
    let types = reader.each(listed, "spec.types", |reader, value, path| reader.word(CLOSED, value, path, &words));
    let some = |key: &str| present(spec, key).and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
    match (listed.is_empty(), some("ingress"), some("egress")) {
        (true, ingress, egress) => [ingress || !egress, egress],
        (false, ..) => [types.contains(&Direction::Ingress), types.contains(&Direction::Egress)],
    }
}

/// The rules of one direction.
fn rules(
    reader: &mut Reader<'_>,
    spec: &Map<String, Value>,
    direction: Direction,
    namespace: Option<&Arc<str>>,
) -> Rules {
    let key = direction.to_string();
    let path = format!("spec.{key}");
    let listed = reader.list(CLOSED, spec, "spec", &key).unwrap_or_default();
    reader.count(CLOSED, listed, &path, 0..=MOST_RULES);
    let rules = reader.each(listed, &path, |reader, value, path| rule::read(reader, namespace, value, path));
    Rules { rules, isolates: true }
}
