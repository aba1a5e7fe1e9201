//! Laws of the walk, each on the smallest world that shows it.

use super::{Connection, Decision, Evaluator, Exemption, Miss, Party, Verdict};
use crate::policy::model::*;
use crate::policy::world::{ModelChange, World};
use crate::store::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pod `ns/NAME` on node `n1`, label `app: NAME`, address 10.0.0.LAST, port `web` = TCP 8080.
fn pod(name: &str, last: u8) -> ModelChange {
    let identity = Identity {
        labels: Arc::new(BTreeMap::from([("app".into(), name.into())])),
        namespace: Some("ns".into()),
        ..Identity::new(WorkloadKind::Pod)
    };
    workload(WorkloadId::pod("ns", name), identity, &format!("10.0.0.{last}"), "n1")
}

fn workload(id: WorkloadId, identity: Identity, address: &str, node: &str) -> ModelChange {
    ModelChange::PutWorkload(Arc::new(Workload {
        id,
        identity: Arc::new(identity),
        addresses: vec![address.parse().unwrap()],
        networks: Vec::new(),
        node: Some(node.into()),
        ports: vec![NamedPort { name: "web".into(), protocol: Protocol::TCP, port: 8080 }],
        host_network: false,
        host: None,
    }))
}

fn node(name: &str, address: &str) -> ModelChange {
    workload(WorkloadId::node(name), Identity::new(WorkloadKind::Node), address, name)
}

fn app(name: &str) -> Selector {
    Selector::Is(Attribute::Label("app".into()), name.into())
}

/// An ingress policy about the pods `b`.
fn policy(name: &str, tier: &str, order: i32, rules: Vec<Rule>) -> Policy {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "ns", name);
    Policy {
        id: PolicyId { object, part: 0 },
        tier: tier.into(),
        order: Order::at(order),
        subject: Subject { kinds: Kinds::PODS, selector: app("b") },
        ingress: Some(Rules { rules, isolates: true }),
        egress: None,
        mode: Mode::Enforced,
        stage: Stage::Tracked,
        on_forward: false,
    }
}

fn rule(path: &str, action: Action, source: Peer) -> Rule {
    Rule { source, ..Rule::new(path, action) }
}

/// Pods a, b, c and node n1, and some policies.
fn world(policies: Vec<Policy>) -> World {
    let mut world = World::default();
    for change in [pod("a", 1), pod("b", 2), pod("c", 3), node("n1", "192.0.2.1"), node("n2", "192.0.2.2")] {
        world.apply(change);
    }
    for policy in policies {
        world.apply(ModelChange::PutPolicy(Arc::new(policy)));
    }
    world
}

fn party(text: &str) -> Party {
    text.parse().unwrap_or_else(|_| Party::Workload(WorkloadId::pod("ns", text)))
}

fn ingress(world: &World, from: &str, to: &str, port: u16) -> (Verdict, Decision) {
    let connection = Connection::new(party(from), party(to), Protocol::TCP, port);
    let trace = Evaluator::new(world).explain(&connection).unwrap().ingress;
    (trace.verdict, trace.decision)
}

fn allowed(world: &World, from: &str, to: &str) -> bool {
    ingress(world, from, to, 80).0 == Verdict::Allow
}

#[test]
fn without_policies_everything_is_allowed() {
    assert_eq!(ingress(&world(vec![]), "a", "b", 80), (Verdict::Allow, Decision::Default));
}

#[test]
fn an_isolating_policy_allows_what_its_rules_allow_and_policies_add_up() {
    let one = policy("one", Tier::DEFAULT, 1000, vec![rule("r", Action::Allow, Peer::pods(app("a")))]);
    let only_one = world(vec![one.clone()]);
    assert!(allowed(&only_one, "a", "b") && !allowed(&only_one, "c", "b") && allowed(&only_one, "c", "a"));
    let two = policy("two", Tier::DEFAULT, 1000, vec![rule("r", Action::Allow, Peer::pods(app("c")))]);
    let both = world(vec![one, two]);
    assert!(allowed(&both, "a", "b") && allowed(&both, "c", "b") && !allowed(&both, "10.9.9.9", "b"));
}

#[test]
fn no_rules_no_peers_and_no_traffic_match_nothing() {
    let nothing = |rule| world(vec![policy("p", Tier::DEFAULT, 1, vec![rule])]);
    assert!(!allowed(&nothing(rule("r", Action::Allow, Peer::AnyOf(vec![]))), "a", "b"));
    assert!(!allowed(&nothing(Rule { traffic: vec![], ..Rule::new("r", Action::Allow) }), "a", "b"));
    assert!(allowed(&nothing(Rule::new("r", Action::Allow)), "a", "b"));
}

#[test]
fn tiers_come_in_order_and_pass_leaves_one() {
    let deny = policy("deny", Tier::ADMIN, 5, vec![rule("r", Action::Deny, Peer::Anything)]);
    let allow = policy("allow", Tier::DEFAULT, 1, vec![rule("r", Action::Allow, Peer::Anything)]);
    assert!(!allowed(&world(vec![deny.clone(), allow.clone()]), "a", "b"));
    let pass = policy("pass", Tier::ADMIN, 4, vec![rule("r", Action::Pass, Peer::pods(app("a")))]);
    let passed = world(vec![deny, allow, pass]);
    assert!(allowed(&passed, "a", "b") && !allowed(&passed, "c", "b"));
}

#[test]
fn a_tier_that_ends_in_pass_or_holds_only_policies_that_do_not_isolate_has_no_say_at_its_end() {
    let mut admin = policy("admin", Tier::ADMIN, 1, vec![]);
    assert!(allowed(&world(vec![admin.clone()]), "a", "b"));
    admin.tier = Tier::DEFAULT.into();
    assert!(!allowed(&world(vec![admin.clone()]), "a", "b"));
    admin.ingress = Some(Rules::default());
    assert!(allowed(&world(vec![admin]), "a", "b"));
}

#[test]
fn log_decides_nothing_and_is_seen() {
    let rules = vec![rule("log", Action::Log, Peer::Anything), rule("deny", Action::Deny, Peer::Anything)];
    let world = world(vec![policy("p", Tier::DEFAULT, 1, rules)]);
    let connection = Connection::new(party("a"), party("b"), Protocol::TCP, 80);
    let trace = Evaluator::new(&world).explain(&connection).unwrap().ingress;
    assert_eq!(trace.verdict, Verdict::Deny);
    assert_eq!(trace.steps.iter().map(|step| step.miss.is_none()).collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_staged_policy_decides_nothing_and_says_what_it_would() {
    let staged = Policy { mode: Mode::Staged, ..policy("p", Tier::DEFAULT, 1, vec![]) };
    let world = world(vec![staged]);
    let connection = Connection::new(party("a"), party("b"), Protocol::TCP, 80);
    let outcome = Evaluator::new(&world).decide(&connection).unwrap();
    assert!(outcome.allowed());
    assert!(matches!(outcome.ingress.staged, Some((Verdict::Deny, Decision::Isolated { .. }))));
    assert_eq!(outcome.egress.staged, None);
}

#[test]
fn the_own_node_and_the_pod_itself_are_never_kept_out() {
    let closed = world(vec![policy("p", Tier::DEFAULT, 1, vec![])]);
    let exempt = |why| (Verdict::Allow, Decision::Exempt(why));
    assert_eq!(ingress(&closed, "192.0.2.1", "b", 80), exempt(Exemption::OwnNode));
    assert_eq!(ingress(&closed, "b", "b", 80), exempt(Exemption::SameEndpoint));
    assert!(!allowed(&closed, "192.0.2.2", "b"), "another node is a stranger");
}

#[test]
fn isolation_leaves_the_way_to_the_own_node_open_and_a_rule_closes_it() {
    let egress = |rules| {
        let rules = Some(Rules { rules, isolates: true });
        world(vec![Policy { ingress: None, egress: rules, ..policy("p", Tier::DEFAULT, 1, vec![]) }])
    };
    let reaches = |world: &World, to: &str| {
        let connection = Connection::new(party("b"), party(to), Protocol::TCP, 10250);
        Evaluator::new(world).decide(&connection).unwrap().allowed()
    };
    let isolated = egress(vec![]);
    assert!(reaches(&isolated, "192.0.2.1") && !reaches(&isolated, "192.0.2.2") && !reaches(&isolated, "a"));
    assert!(!reaches(&egress(vec![Rule::new("r", Action::Deny)]), "192.0.2.1"));
    // Also one of a later tier: what isolates does not hide it.
    let mut both = egress(vec![]);
    let rules = Some(Rules { rules: vec![Rule::new("r", Action::Deny)], isolates: false });
    let later = Policy { ingress: None, egress: rules, ..policy("q", Tier::BASELINE, 1, vec![]) };
    both.apply(ModelChange::PutPolicy(Arc::new(later)));
    assert!(!reaches(&both, "192.0.2.1"));
}

#[test]
fn a_named_port_is_the_destinations() {
    let ports = Ports { ranges: vec![], names: ["web".into()].into() };
    let rule = Rule { traffic: vec![Traffic::to_ports(Protocol::TCP, ports)], ..Rule::new("r", Action::Allow) };
    let world = world(vec![policy("p", Tier::DEFAULT, 1, vec![rule])]);
    assert_eq!(ingress(&world, "a", "b", 8080).0, Verdict::Allow);
    assert_eq!(ingress(&world, "a", "b", 80).0, Verdict::Deny);
}

#[test]
fn prefixes_outside_the_cluster_never_hold_a_pod() {
    let outside = Peer::outside(vec!["0.0.0.0/0".parse().unwrap()]);
    let world = world(vec![policy("p", Tier::DEFAULT, 1, vec![rule("r", Action::Allow, outside)])]);
    assert!(allowed(&world, "198.51.100.1", "b") && !allowed(&world, "a", "b") && !allowed(&world, "10.0.0.1", "b"));
}

#[test]
fn what_cannot_be_enforced_allows_nothing_and_denies_everybody() {
    let names = || Peer::Names(vec![DnsPattern::Name("example.com".into())]);
    let with = |action| world(vec![policy("p", Tier::ADMIN, 1, vec![rule("r", action, names())])]);
    assert!(allowed(&with(Action::Allow), "a", "b"), "the tier passes at its end");
    let connection = Connection::new(party("a"), party("b"), Protocol::TCP, 80);
    let world = with(Action::Allow);
    let trace = Evaluator::new(&world).explain(&connection).unwrap().ingress;
    assert_eq!(trace.steps[0].miss, Some(Miss::Unenforceable(Unenforceable::Names)));
    assert!(!allowed(&with(Action::Deny), "a", "b") && !allowed(&with(Action::Pass), "a", "b"));
}
