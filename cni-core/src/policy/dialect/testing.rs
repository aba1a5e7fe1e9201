//! A small cluster for the tests of dialects, and JSON that looks like theirs. Never a dialect.
//!
//! ```text
//! namespace a (team: red)    pods a/x, a/y    (app: x, app: y)       every pod: port web = 8080/TCP, dns = 5353/UDP
//! namespace b (team: blue)   pods b/x, b/y
//! node n1 (role: infra) 192.0.2.1; all pods are on node n2
//! ```

use super::{Reading, read};
use crate::policy::evaluate::{Connection, Evaluator, Party};
use crate::policy::model::*;
use crate::policy::world::{ModelChange, World};
use crate::store::Object;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn labels(pair: [&str; 2]) -> LabelMap {
    Arc::new([(pair[0].into(), pair[1].into())].into())
}

fn workload(id: WorkloadId, identity: Identity, address: &str, node: &str) -> Arc<Workload> {
    let named = |name: &str, protocol, port| NamedPort { name: name.into(), protocol, port };
    Arc::new(Workload {
        id,
        identity: Arc::new(identity),
        addresses: vec![address.parse().unwrap()],
        networks: Vec::new(),
        node: Some(node.into()),
        ports: vec![named("web", Protocol::TCP, 8080), named("dns", Protocol::UDP, 5353)],
        host_network: false,
        host: None,
    })
}

/// The cluster, with the policies that some objects say.
pub(super) fn world(objects: &[Value]) -> World {
    let mut world = World::default();
    for (namespace, team, octet) in [("a", "red", 1), ("b", "blue", 2)] {
        for (name, last) in [("x", 1), ("y", 2)] {
            let identity = Identity {
                labels: labels(["app", name]),
                namespace: Some(namespace.into()),
                namespace_labels: labels(["team", team]),
                ..Identity::new(WorkloadKind::Pod)
            };
            let pod = workload(WorkloadId::pod(namespace, name), identity, &format!("10.0.{octet}.{last}"), "n2");
            world.apply(ModelChange::PutWorkload(pod));
        }
    }
    let node = Identity { labels: labels(["role", "infra"]), ..Identity::new(WorkloadKind::Node) };
    world.apply(ModelChange::PutWorkload(workload(WorkloadId::node("n1"), node, "192.0.2.1", "n1")));
    for policy in objects.iter().flat_map(|object| reading(object).policies) {
        world.apply(ModelChange::PutPolicy(Arc::new(policy)));
    }
    world
}

pub(super) fn reading(value: &Value) -> Reading {
    read(&Object::from_value(value.clone()).unwrap()).expect("an object of a known dialect")
}

/// Paths and effects of what is wrong with an object.
pub(super) fn problems(value: &Value) -> Vec<(String, Effect)> {
    reading(value).problems.into_iter().map(|problem| (problem.path, problem.effect)).collect()
}

/// A connection as text: `a/x > b/y 80`, `a/x > 192.0.2.1 UDP 53`.
pub(super) fn connection(text: &str) -> Connection {
    let words: Vec<&str> = text.split_whitespace().collect();
    let party = |text: &str| match text.split_once('/') {
        Some((namespace, name)) => Party::Workload(WorkloadId::pod(namespace, name)),
        None => Party::Address(text.parse().unwrap()),
    };
    let (protocol, port) = match words[3..] {
        [port] => (Protocol::TCP, port),
        [protocol, port] => (protocol.parse().unwrap(), port),
        _ => panic!("{text} is no connection"),
    };
    assert_eq!(words[1], ">");
    Connection::new(party(words[0]), party(words[2]), protocol, port.parse().unwrap())
}

/// Asserts what is allowed under some objects, line by line: `a/x > b/y 80 yes`.
pub(super) fn assert_verdicts(objects: &[Value], lines: &str) {
    let world = world(objects);
    let evaluator = Evaluator::new(&world);
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (question, answer) = line.rsplit_once(' ').unwrap();
        let outcome = evaluator.explain(&connection(question.trim())).unwrap();
        assert_eq!(outcome.allowed(), answer == "yes", "{line}: {outcome:#?}");
    }
}

/// Whether each of many connections is allowed.
fn grid(objects: &[Value]) -> Vec<(Connection, bool)> {
    let world = world(objects);
    let evaluator = Evaluator::new(&world);
    let parties = ["a/x", "a/y", "b/x", "b/y", "192.0.2.1", "203.0.113.9", "203.0.113.77", "2001:db8::1"];
    let ports = ["80", "8080", "443", "UDP 5353", "UDP 80", "SCTP 80", "ICMP 0"];
    let pairs = parties.iter().flat_map(|from| parties.iter().map(move |to| (from, to)));
    let all = pairs.flat_map(|(from, to)| ports.iter().map(move |port| connection(&format!("{from} > {to} {port}"))));
    all.map(|connection| (connection.clone(), evaluator.decide(&connection).unwrap().allowed())).collect()
}

/// Asserts that one object allows nothing that another does not, alone and where network policies close everything.
pub(super) fn assert_allows_no_more(closed: &Value, original: &Value) {
    let network_policy = |namespace: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "close", "namespace": namespace},
            "spec": {"policyTypes": ["Ingress", "Egress"]},
        })
    };
    for others in [vec![], vec![network_policy("a"), network_policy("b")]] {
        let with = |object: &Value| grid(&[others.clone(), vec![object.clone()]].concat());
        for ((connection, closed), (_, original)) in with(closed).into_iter().zip(with(original)) {
            assert!(original || !closed, "{connection:?} is allowed only by what fails closed");
        }
    }
}

/// Everything within a value, by JSON pointer.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            places(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
        }),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| places(value, format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at);
}

/// The same object with one thing in its spec that no dialect takes: a wrong type, or a key that nobody knows.
pub(super) fn spoilt(object: &Value, which: usize, unknown_key: bool) -> Value {
    let mut found = Vec::new();
    places(&object["spec"], "/spec".into(), &mut found);
    let mut spoilt = object.clone();
    let place = spoilt.pointer_mut(&found[which % found.len()]).unwrap();
    match place {
        Value::Object(map) if unknown_key => _ = map.insert("noSuchKey!".into(), json!(true)),
        other => *other = json!(true),
    }
    spoilt
}

/// Any JSON made of words that dialects know.
pub(super) fn any_json(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2i64..70_000).prop_map(Value::from),
        proptest::sample::select(words).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 96, 6, move |inner| {
        let key = prop_oneof![9 => proptest::sample::select(words).prop_map(str::to_owned), 1 => ".{0,4}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..6).prop_map(Value::from_iter),
        ]
    })
}

/// Reads a spec under a kind; the object's policy must say all that is asked of any reading.
pub(super) fn read_any(api_version: &str, kind: &str, spec: Value) {
    let metadata = json!({"name": "default"});
    let fields = [("apiVersion", api_version.into()), ("kind", kind.into()), ("metadata", metadata), ("spec", spec)];
    let value = Value::Object(fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<Map<_, _>>());
    let reading = reading(&value);
    let closed = reading.problems.iter().any(|problem| problem.effect == Effect::SubjectClosed);
    assert!(!reading.policies.is_empty(), "an object is at least one policy");
    let all = |policy: &Policy| (&*policy.tier == Tier::CLOSED) == closed;
    assert!(reading.policies.iter().all(all), "{:?}", reading.problems);
    assert!(reading.problems.iter().all(|problem| !problem.path.is_empty() && !problem.detail.is_empty()));
}
