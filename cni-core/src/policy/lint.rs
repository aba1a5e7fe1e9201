//! What works, but perhaps not as its author thinks: policies about nobody, rules that never match. Never an error.

use super::evaluate::Evaluator;
use super::model::{
    Action, Attribute, Direction, Effect, HostInterfaces, Peer, Policy, PolicyId, PortRange, Ports, Problem, Rule,
    Selector, Traffic, Workload, WorkloadKind,
};
use super::world::World;
use crate::store::{Kind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Warnings about the policies of a world, sorted by object and path.
#[must_use]
pub fn lint(world: &World) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut warn = |policy: &Policy, path: &str, detail: String| {
        let object = policy.id.object.clone();
        found.push(Problem { object, path: path.to_owned(), detail, effect: Effect::Warning });
    };
    let idle: BTreeSet<&PolicyId> = Evaluator::new(world).idle().into_iter().map(|policy| &policy.id).collect();
    for policy in world.policies.values() {
        if idle.contains(&policy.id) {
            let detail = format!("selects nobody among the objects: {}", policy.subject.selector);
            warn(policy, "spec", detail);
        }
        if policy.on_forward && policy.subject.kinds.has(WorkloadKind::HostEndpoint) {
            let detail =
                "nodes enforce it for what passes through them, and here only what goes to or from a host is evaluated";
            warn(policy, "spec.applyOnForward", detail.to_owned());
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let Some(rules) = policy.rules(direction) else { continue };
            for (index, rule) in rules.rules.iter().enumerate() {
                if let Some(reason) = rule.unenforceable() {
                    warn(policy, &rule.path, format!("fails closed: {reason}"));
                }
                if let Some(why) = never(rule) {
                    warn(policy, &rule.path, format!("can never match: {why}"));
                } else if let Some(earlier) = rules.rules[..index].iter().find(|earlier| hides(earlier, rule)) {
                    let (path, action) = (&earlier.path, earlier.action);
                    warn(
                        policy,
                        &rule.path,
                        format!("has no effect: {path} comes before it, matches all of it, and says {action}"),
                    );
                } else if let Some(selector) = nobody(world, rule) {
                    warn(policy, &rule.path, format!("matches nobody among the objects: {selector}"));
                }
            }
        }
    }
    found.extend(world.workloads.values().filter_map(|workload| unknown_way(workload)));
    found.sort_by(|a, b| (&a.object, &a.path).cmp(&(&b.object, &b.path)));
    found.dedup();
    found
}

/// Which connections go through an interface is known here by its addresses only.
fn unknown_way(workload: &Workload) -> Option<Problem> {
    let HostInterfaces::Named(name) = &workload.host.as_ref()?.interfaces else { return None };
    workload.addresses.is_empty().then(|| Problem {
        object: ObjectKey::cluster(Kind::new("projectcalico.org/v3", "HostEndpoint"), &workload.id.name),
        path: "spec.expectedIPs".to_owned(),
        detail: format!("is empty: a node enforces it at {name}, and here nobody knows which connections go there"),
        effect: Effect::Warning,
    })
}

/// Why a rule matches nothing in any world.
fn never(rule: &Rule) -> Option<String> {
    if rule.traffic.is_empty() {
        return Some("no traffic is left of it".to_owned());
    }
    for (what, peer) in [("source", &rule.source), ("destination", &rule.destination)] {
        if empty(peer) {
            return Some(format!("its {what} is nobody"));
        }
    }
    let no_ports =
        |traffic: &Traffic| traffic.destination_ports.as_ref().is_some_and(|ports| *ports == Ports::default());
    rule.traffic.iter().all(no_ports).then(|| "its list of ports is empty".to_owned())
}

fn empty(peer: &Peer) -> bool {
    match peer {
        Peer::Nothing => true,
        Peer::Networks(networks) => networks.is_empty(),
        Peer::Labelled { selector, .. } => contradicts(selector),
        Peer::AnyOf(any) => any.iter().all(empty),
        Peer::AllOf(all) => all.iter().any(empty),
        _ => false,
    }
}

/// Whether a selector asks for two things that exclude each other.
fn contradicts(selector: &Selector) -> bool {
    let Selector::All(all) = selector else { return *selector == Selector::Nothing };
    let mut values: BTreeMap<&Attribute, BTreeSet<&Arc<str>>> = BTreeMap::new();
    for part in all {
        let (attribute, allowed) = match part {
            Selector::Is(attribute, value) => (attribute, BTreeSet::from([value])),
            Selector::In(attribute, some) => (attribute, some.iter().collect()),
            other if contradicts(other) => return true,
            _ => continue,
        };
        let left = values.entry(attribute).or_insert_with(|| allowed.clone());
        left.retain(|value| allowed.contains(value));
        if left.is_empty() {
            return true;
        }
    }
    let present =
        |attribute: &Attribute| values.contains_key(attribute) || all.contains(&Selector::Has(attribute.clone()));
    all.iter().any(|part| match part {
        Selector::Not(inner) => match &**inner {
            Selector::Has(attribute) => present(attribute),
            other => all.contains(other),
        },
        _ => false,
    })
}

/// Whether a rule leaves nothing for a later one.
fn hides(earlier: &Rule, later: &Rule) -> bool {
    earlier.action != Action::Log
        && earlier.unenforceable().is_none()
        && covers(&earlier.source, &later.source)
        && covers(&earlier.destination, &later.destination)
        && later.traffic.iter().all(|traffic| earlier.traffic.iter().any(|wider| covers_traffic(wider, traffic)))
}

fn covers(wider: &Peer, peer: &Peer) -> bool {
    match (wider, peer) {
        (Peer::Anything, _) => true,
        (wider, peer) if wider == peer => true,
        (wider, Peer::AnyOf(parts)) => parts.iter().all(|part| covers(wider, part)),
        (Peer::AnyOf(parts), peer) => parts.iter().any(|part| covers(part, peer)),
        (Peer::Networks(wider), Peer::Networks(networks)) => {
            networks.iter().all(|network| wider.iter().any(|wider| wider.contains(network)))
        }
        (Peer::Labelled { kinds, selector: Selector::Everything }, Peer::Labelled { kinds: other, .. }) => {
            kinds == other
        }
        _ => false,
    }
}

fn covers_traffic(wider: &Traffic, traffic: &Traffic) -> bool {
    if *wider == Traffic::any() || wider == traffic {
        return true;
    }
    // The same but for the destination's ports, of which the wider has all.
    let without_ports = |traffic: &Traffic| Traffic { destination_ports: None, ..traffic.clone() };
    let covered = match (&wider.destination_ports, &traffic.destination_ports) {
        (None, _) => true,
        (Some(wide), Some(narrow)) => {
            let within =
                |range: &PortRange| wide.ranges.iter().any(|wide| wide.has(range.first) && wide.has(range.last));
            narrow.ranges.iter().all(within) && narrow.names.is_subset(&wide.names)
        }
        (Some(_), None) => false,
    };
    covered && without_ports(wider) == without_ports(traffic)
}

/// A selector of a rule that finds nobody in this world, where the rule has nobody else.
fn nobody<'r>(world: &World, rule: &'r Rule) -> Option<&'r Selector> {
    fn selectors<'p>(peer: &'p Peer, found: &mut Vec<(&'p Peer, &'p Selector)>) -> bool {
        match peer {
            Peer::Labelled { selector, .. } => {
                found.push((peer, selector));
                true
            }
            Peer::AnyOf(parts) => parts.iter().all(|part| selectors(part, found)),
            _ => false,
        }
    }
    [&rule.source, &rule.destination].into_iter().find_map(|peer| {
        let mut found = Vec::new();
        let only_selectors = selectors(peer, &mut found);
        let finds = |(peer, selector): &(&Peer, &Selector)| {
            let Peer::Labelled { kinds, .. } = peer else { return true };
            world.workloads.values().any(|workload| {
                kinds.has(workload.identity.kind) && !workload.host_network && selector.matches(&workload.identity)
            })
        };
        let first = found.first().map(|(_, selector)| *selector);
        first.filter(|_| only_selectors && !found.iter().any(finds))
    })
}

#[cfg(test)]
mod tests {
    use super::super::model::{HostPart, Identity, Kinds, Order, Protocol, Rules, Subject, Tier, WorkloadId};
    use super::super::world::ModelChange;
    use super::*;

    fn details(rules: Vec<Rule>) -> Vec<String> {
        let subject = Subject { kinds: Kinds::PODS, selector: Selector::Everything };
        let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "ns", "p");
        let ingress = Some(Rules { rules, isolates: true });
        let policy = Policy {
            ingress,
            egress: None,
            tier: Tier::DEFAULT.into(),
            order: Order::LAST,
            ..Policy::closed(object, subject)
        };
        let mut world = World::default();
        world.apply(ModelChange::PutPolicy(Arc::new(policy)));
        lint(&world).into_iter().map(|problem| format!("{}: {}", problem.path, problem.detail)).collect()
    }

    fn is(key: &str, value: &str) -> Selector {
        Selector::Is(Attribute::Label(key.into()), value.into())
    }

    #[test]
    fn a_policy_about_nobody_and_a_peer_that_is_nobody_are_told() {
        let found =
            details(vec![Rule { source: Peer::pods(is("app", "a")), ..Rule::new("spec.ingress[0]", Action::Allow) }]);
        assert_eq!(
            found,
            [
                "spec: selects nobody among the objects: all()",
                "spec.ingress[0]: matches nobody among the objects: app == \"a\"",
            ]
        );
    }

    #[test]
    fn what_is_enforced_and_not_evaluated_is_told() {
        let object = ObjectKey::cluster(Kind::new("projectcalico.org/v3", "GlobalNetworkPolicy"), "g");
        let subject = Subject { kinds: Kinds::of(WorkloadKind::HostEndpoint), selector: Selector::Everything };
        let told = |on_forward, interfaces| {
            let mut world = World::default();
            let closed = Policy::closed(object.clone(), subject.clone());
            world.apply(ModelChange::PutPolicy(Arc::new(Policy { on_forward, ..closed })));
            world.apply(ModelChange::PutWorkload(Arc::new(Workload {
                id: WorkloadId { kind: WorkloadKind::HostEndpoint, namespace: None, name: "h".into() },
                identity: Arc::new(Identity::new(WorkloadKind::HostEndpoint)),
                addresses: Vec::new(),
                networks: Vec::new(),
                node: Some("n1".into()),
                ports: Vec::new(),
                host_network: false,
                host: Some(HostPart { interfaces, open: false }),
            })));
            lint(&world).into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(told(false, HostInterfaces::All), Vec::<String>::new());
        let named = HostInterfaces::Named("eth0".into());
        assert_eq!(told(true, named), ["spec.applyOnForward", "spec.expectedIPs"]);
    }

    #[test]
    fn a_contradiction_is_told_and_what_could_be_is_not() {
        let contradiction = |selector| contradicts(&selector);
        assert!(contradiction(is("a", "x").and(is("a", "y"))));
        assert!(contradiction(is("a", "x").and(Selector::Has(Attribute::Label("a".into())).negated())));
        assert!(contradiction(is("a", "x").and(is("a", "x").negated())));
        assert!(!contradiction(is("a", "x").and(is("b", "y"))));
        assert!(!contradiction(Selector::Everything));
    }

    #[test]
    fn a_rule_behind_a_wider_one_is_told() {
        let to = |first, last| {
            let ports = Ports { ranges: vec![PortRange { first, last }], ..Ports::default() };
            vec![Traffic::to_ports(Protocol::TCP, ports)]
        };
        let rules = vec![
            Rule { traffic: to(80, 90), ..Rule::new("wide", Action::Deny) },
            Rule { traffic: to(80, 80), source: Peer::OwnNode, ..Rule::new("narrow", Action::Allow) },
            Rule { traffic: to(80, 91), ..Rule::new("other", Action::Allow) },
        ];
        let found = details(rules);
        assert_eq!(found[..1], ["narrow: has no effect: wide comes before it, matches all of it, and says deny"]);
    }
}
