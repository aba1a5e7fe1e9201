//! The laws of the intake, with a dialect of its own: an object `test/v1 Policy` or `Tier` says what it is.

use super::*;
use crate::policy::model::{HostInterfaces, Selector, Stage, Subject, WorkloadId};
use crate::policy::model::{Mode, NamedPort, Order, Policy, PolicyId, Protocol, Rules, TierEnd};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fake(object: &Object) -> Option<Reading> {
    let order = object.field("spec.order").and_then(Value::as_i64).unwrap_or(0) as i32;
    let text = |path: &str, other: &str| object.field(path).and_then(Value::as_str).unwrap_or(other).to_owned();
    let mut reading = Reading::default();
    match object.key.kind.kind() {
        "Tier" => {
            reading.tiers.push(Tier { name: object.key.name.clone(), order: Order::at(order), end: TierEnd::Deny })
        }
        "NetworkPolicy" => reading.policies.push(Policy {
            id: PolicyId { object: object.key.clone(), part: 0 },
            tier: text("spec.tier", Tier::DEFAULT).into(),
            order: Order::at(order),
            subject: Subject { kinds: crate::policy::model::Kinds::PODS, selector: Selector::Everything },
            ingress: Some(Rules::default()),
            egress: None,
            mode: Mode::Enforced,
            stage: Stage::Tracked,
            on_forward: false,
        }),
        _ => return None,
    }
    Some(reading)
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn named(api: &str, kind: &str, name: &str, labels: &Value, spec: &Value) -> Object {
    object(json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": labels}, "spec": spec}))
}

fn pod(namespace: &str, name: &str, labels: Value, address: &str) -> Object {
    object(
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "podIPs": [{"ip": address}]}}),
    )
}

fn policy(name: &str, tier: &str) -> Object {
    policy_of("projectcalico.org/v3", name, tier)
}

fn policy_of(api: &str, name: &str, tier: &str) -> Object {
    object(json!({"apiVersion": api, "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "default"},
        "spec": {"tier": tier}}))
}

fn tier(name: &str, order: i32) -> Object {
    named("projectcalico.org/v3", "Tier", name, &json!({}), &json!({"order": order}))
}

/// An intake and the world that its changes add up to.
struct Both {
    intake: Intake,
    world: World,
}

impl Both {
    fn new() -> Self {
        Self { intake: Intake { templates: true, ..Intake::with_reader(fake) }, world: World::default() }
    }

    fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut both = Self::new();
        for object in objects {
            both.put(object);
        }
        both
    }

    fn take(&mut self, changes: Vec<ModelChange>) -> usize {
        let number = changes.len();
        for change in changes {
            self.world.apply(change);
            for policy in self.world.policies.values() {
                assert!(self.world.tiers.contains_key(&policy.tier), "{policy:?} is in a tier that is not there");
            }
        }
        number
    }

    fn put(&mut self, object: &Object) -> usize {
        let changes = self.intake.put(object);
        self.take(changes)
    }

    fn remove(&mut self, object: &Object) -> usize {
        let changes = self.intake.remove(&object.key);
        self.take(changes)
    }

    fn pod(&self, namespace: &str, name: &str) -> &Workload {
        &self.world.workloads[&WorkloadId::pod(namespace, name)]
    }

    fn group(&self, kind: WorkloadKind, namespace: Option<&str>, name: &str) -> Vec<String> {
        let id = WorkloadId { kind, namespace: namespace.map(Into::into), name: name.into() };
        self.world.workloads[&id].networks.iter().map(ToString::to_string).collect()
    }

    fn problems(&self) -> Vec<String> {
        self.intake.problems().map(|problem| format!("{:?}: {problem}", problem.effect)).collect()
    }
}

#[test]
fn a_pod_has_the_labels_of_its_namespace_and_account_whenever_they_come() {
    let namespace = named("v1", "Namespace", "web", &json!({"team": "a"}), &json!(null));
    let account = object(json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "default", "namespace": "web", "labels": {"trust": "low"}}}));
    let mut both = Both::of([&pod("web", "a", json!({"app": "x"}), "10.0.0.1")]);
    let labels = |both: &Both| format!("{:?}", both.pod("web", "a").identity.namespace_labels);
    assert_eq!(labels(&both), r#"{"kubernetes.io/metadata.name": "web"}"#);
    both.put(&namespace);
    both.put(&account);
    assert_eq!(labels(&both), r#"{"kubernetes.io/metadata.name": "web", "team": "a"}"#);
    assert_eq!(&*both.pod("web", "a").identity.service_account_labels["trust"], "low");
    both.remove(&namespace);
    both.remove(&account);
    assert_eq!(labels(&both), r#"{"kubernetes.io/metadata.name": "web"}"#);
    assert!(both.pod("web", "a").identity.service_account_labels.is_empty());
}

#[test]
fn replicas_share_one_identity() {
    let both = Both::of(&[
        pod("web", "a", json!({"app": "x"}), "10.0.0.1"),
        pod("web", "b", json!({"app": "x"}), "10.0.0.2"),
        pod("db", "a", json!({"app": "x"}), "10.0.0.3"),
    ]);
    let identity = |namespace, name| both.pod(namespace, name).identity.clone();
    assert!(Arc::ptr_eq(&identity("web", "a"), &identity("web", "b")));
    assert_ne!(identity("web", "a"), identity("db", "a"));
    assert!(Arc::ptr_eq(&identity("web", "a").labels, &identity("db", "a").labels));
}

#[test]
fn a_change_says_exactly_what_it_touches() {
    let mut both = Both::new();
    for number in 0..50 {
        for namespace in ["a", "b", "c"] {
            let name = format!("p{number}");
            assert_eq!(both.put(&pod(namespace, &name, json!({"app": number.to_string()}), "fd00::1")), 1);
        }
    }
    let service =
        |number: &str| named("v1", "Service", &format!("s{number}"), &json!({}), &json!({"selector": {"app": number}}));
    for number in 0..50 {
        both.put(&service(&number.to_string()));
    }
    assert_eq!(both.put(&named("v1", "Namespace", "b", &json!({"x": "y"}), &json!(null))), 50, "its pods");
    assert_eq!(both.put(&named("v1", "Namespace", "b", &json!({"x": "y"}), &json!(null))), 0, "nothing new");
    assert_eq!(both.put(&named("v1", "Namespace", "d", &json!({"x": "y"}), &json!(null))), 0, "no pods");
    assert_eq!(both.put(&pod("a", "p7", json!({"app": "8"}), "fd00::1")), 1, "one pod");
    let moved = pod("default", "new", json!({"app": "8"}), "10.0.0.1");
    assert_eq!(both.put(&moved), 2, "the pod and the service that selects it");
    assert_eq!(both.put(&pod("default", "new", json!({"app": "9"}), "10.0.0.1")), 3, "the pod and both services");
    assert_eq!(both.put(&pod("default", "new", json!({"app": "9", "x": "y"}), "10.0.0.1")), 1, "the pod alone");
    assert_eq!(both.remove(&moved), 2);
}

#[test]
fn a_pod_that_has_finished_has_no_address() {
    let mut value = pod("web", "a", json!({}), "10.0.0.1").to_value();
    value["spec"]["serviceAccountName"] = "robot".into();
    value["spec"]["containers"] = json!([{"ports": [{"name": "http", "containerPort": 80},
        {"containerPort": 81}, {"name": "bad", "containerPort": 70_000}]}]);
    value["spec"]["initContainers"] = json!([
        {"restartPolicy": "Always", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
        {"ports": [{"name": "gone", "containerPort": 1}]}]);
    let mut both = Both::of([&object(value.clone())]);
    let port = |name: &str, protocol, port| NamedPort { name: name.into(), protocol, port };
    let running = both.pod("web", "a");
    assert_eq!(running.ports, [port("dns", Protocol::UDP, 53), port("http", Protocol::TCP, 80)]);
    assert_eq!(running.identity.service_account.as_deref(), Some("robot"));
    assert_eq!(
        both.problems(),
        ["LeftOut: Pod web/a: spec.containers[0].ports[2].containerPort: is no port; write 1 to 65535"]
    );
    value["status"]["phase"] = "Succeeded".into();
    both.put(&object(value));
    assert!(both.pod("web", "a").addresses.is_empty());
}

#[test]
fn what_is_invalid_is_left_out_also_when_it_was_right_before() {
    let right = pod("web", "a", json!({}), "10.0.0.1");
    let mut both = Both::of([&right]);
    both.put(&pod("web", "a", json!({}), "nonsense"));
    assert!(both.world.workloads.is_empty());
    let problem =
        "LeftOut: Pod web/a: status.podIPs[0]: \"nonsense\" is no IP address; write one as in 10.1.2.3 or fd00::1";
    assert_eq!(both.problems(), [problem]);
    both.put(&right);
    assert_eq!((both.world.workloads.len(), both.problems().len()), (1, 0));
}

#[test]
fn two_pods_with_one_address_are_both_warned_of() {
    let (a, b) = (pod("web", "a", json!({}), "10.0.0.1"), pod("web", "b", json!({}), "10.0.0.1"));
    let mut both = Both::of([&a, &b]);
    let problems = both.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("Warning: Pod web/a: status.podIPs: 10.0.0.1 is also an address of Pod web/b"));
    both.remove(&b);
    assert!(both.problems().is_empty());
}

#[test]
fn a_service_is_the_addresses_of_whom_it_selects_or_of_its_slices() {
    let service = |spec: Value| named("v1", "Service", "s", &json!({}), &spec);
    let slice = |name: &str, address: &str| {
        object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": [address]}]}))
    };
    let mut both = Both::of(&[
        slice("s-1", "192.0.2.1"),
        service(json!({"selector": {"app": "x", "tier": "y"}})),
        pod("default", "a", json!({"app": "x", "tier": "y"}), "10.0.0.1"),
        pod("default", "b", json!({"app": "x"}), "10.0.0.2"),
        pod("other", "c", json!({"app": "x", "tier": "y"}), "10.0.0.3"),
    ]);
    let networks = |both: &Both| both.group(WorkloadKind::Service, Some("default"), "s");
    assert_eq!(networks(&both), ["10.0.0.1/32"]);
    both.put(&service(json!({})));
    both.put(&slice("s-2", "fd00::1"));
    assert_eq!(networks(&both), ["192.0.2.1/32", "fd00::1/128"]);
    both.remove(&slice("s-1", ""));
    assert_eq!(networks(&both), ["fd00::1/128"]);
    both.put(&service(json!({"type": "ExternalName", "selector": {"app": "x"}})));
    assert!(networks(&both).is_empty());
}

#[test]
fn nodes_and_sets_are_workloads() {
    let node = object(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "n1", "labels": {"zone": "a"}, "annotations": {"cnidarian.io/v6-address": "fd00::1"}},
        "spec": {"podCIDR": "10.1.0.0/24"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]}}));
    let both = Both::of(&[
        node,
        named(
            "projectcalico.org/v3",
            "NetworkSet",
            "set",
            &json!({"x": "y"}),
            &json!({"nets": ["10.0.0.1", "10.2.3.4/16"]}),
        ),
        named(
            "crd.projectcalico.org/v1",
            "GlobalNetworkSet",
            "set",
            &json!({}),
            &json!({"nets": ["fd00::/64", "bad"]}),
        ),
        named("cilium.io/v2alpha1", "CiliumCIDRGroup", "group", &json!({}), &json!({"externalCIDRs": ["10.0.0.0/8"]})),
        named(
            "projectcalico.org/v3",
            "HostEndpoint",
            "eth0",
            &json!({"role": "db"}),
            &json!({"node": "n1",
            "expectedIPs": ["192.0.2.1"], "ports": [{"name": "ssh", "protocol": "TCP", "port": 22}]}),
        ),
    ]);
    let node = &both.world.workloads[&WorkloadId::node("n1")];
    assert_eq!(format!("{:?}", node.addresses), "[192.0.2.1, fd00::1]");
    assert!(node.networks.is_empty(), "pods of it are not it");
    assert_eq!(node.identity.name.as_deref(), Some("n1"));
    assert_eq!(both.group(WorkloadKind::NetworkSet, Some("default"), "set"), ["10.0.0.1/32", "10.2.0.0/16"]);
    assert_eq!(both.group(WorkloadKind::NetworkSet, None, "set"), ["fd00::/64"]);
    assert_eq!(both.group(WorkloadKind::CidrGroup, None, "group"), ["10.0.0.0/8"]);
    let endpoint = WorkloadId { kind: WorkloadKind::HostEndpoint, namespace: None, name: "eth0".into() };
    let endpoint = &both.world.workloads[&endpoint];
    assert_eq!((endpoint.node.as_deref(), endpoint.ports.len(), endpoint.addresses.len()), (Some("n1"), 1, 1));
    let problems = both.problems();
    assert!(problems.len() == 1 && problems[0].contains("spec.nets[1]"), "{problems:?}");
}

#[test]
fn a_template_stands_for_its_pods_until_there_is_one_of_its_name() {
    let deployment = |labels: Value| {
        named(
            "apps/v1",
            "Deployment",
            "web",
            &json!({"not": "this"}),
            &json!({"template":
            {"metadata": {"labels": labels}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 80}]}]}}}),
        )
    };
    let mut both = Both::of([&deployment(json!({"app": "web"}))]);
    let web = both.pod("default", "web");
    assert_eq!((&*web.identity.labels["app"], web.identity.labels.len(), web.ports.len()), ("web", 1, 1));
    let real = pod("default", "web", json!({"app": "real"}), "10.0.0.1");
    both.put(&real);
    both.put(&deployment(json!({"app": "other"})));
    assert_eq!(&*both.pod("default", "web").identity.labels["app"], "real");
    both.remove(&real);
    assert_eq!(&*both.pod("default", "web").identity.labels["app"], "other");
    assert!(both.problems().is_empty());
    let set = named("apps/v1", "StatefulSet", "web", &json!({}), &json!({"template": {}}));
    both.put(&set);
    assert_eq!(both.problems().len(), 2, "they cannot be told apart");
    assert!(Intake::new().put(&set).is_empty(), "on a node, pods speak for themselves");
}

#[test]
fn a_policy_of_a_tier_that_is_not_there_is_closed_until_it_is() {
    let mut both = Both::of([&policy("p", "late"), &policy("q", "default")]);
    let state = |both: &Both| {
        let p = both.world.policies.values().find(|policy| &*policy.id.object.name == "p").unwrap();
        (p.tier.to_string(), p.ingress.as_ref().unwrap().isolates, p.egress.is_some())
    };
    let closed = || (Tier::CLOSED.to_owned(), true, false);
    assert_eq!(state(&both), closed());
    let start = "SubjectClosed: NetworkPolicy default/p: spec.tier: there is no tier \"late\"; there are ";
    assert_eq!(both.problems(), [format!("{start}default, kube-admin, kube-baseline")]);
    both.put(&tier("other", 5));
    assert_eq!(both.problems(), [format!("{start}default, kube-admin, kube-baseline, other")]);
    assert_eq!(both.put(&tier("late", 6)), 2, "the tier and its policy");
    assert_eq!(both.put(&tier("late", 7)), 1, "the tier");
    assert_eq!((state(&both), both.problems().len()), (("late".to_owned(), false, false), 0));
    assert_eq!(both.remove(&tier("late", 7)), 2);
    assert_eq!(state(&both), closed());
    assert_eq!(both.remove(&policy("p", "late")), 1);
    assert!(both.problems().is_empty());
}

#[test]
fn one_policy_under_two_groups_is_warned_of() {
    let twin = policy_of("crd.projectcalico.org/v1", "p", "default");
    let mut both = Both::of([&policy("p", "default"), &twin]);
    assert_eq!(both.world.policies.len(), 2);
    assert_eq!(both.problems().len(), 2, "{:?}", both.problems());
    both.remove(&twin);
    assert!(both.problems().is_empty());
}

#[test]
fn nobody_takes_the_tier_of_what_is_closed() {
    let mut both = Both::of([&tier(Tier::CLOSED, 9)]);
    assert_eq!(both.world, World::default());
    assert_eq!(both.problems().len(), 1);
    both.put(&tier(Tier::DEFAULT, 9));
    assert_eq!(both.world.tiers[Tier::DEFAULT].order, Order::at(9));
    both.remove(&tier(Tier::DEFAULT, 9));
    assert_eq!(both.world, World::default());
}

#[test]
fn kinds_are_named_once_and_hold_everything_that_is_read_but_templates() {
    let kinds: Vec<Kind> = Intake::kinds().collect();
    let distinct: BTreeSet<&Kind> = kinds.iter().collect();
    assert_eq!(kinds.len(), distinct.len());
    for kind in kinds::scoped().iter().filter(|kind| !matches!(kinds::role(kind), Role::Template)) {
        assert!(distinct.contains(kind), "{}", kind.api_version());
    }
}

/// The block 10.0.0.0/26, of which nodes hold single addresses.
fn block(claims: &[(&str, &str)]) -> Object {
    let claims: Vec<Value> =
        claims.iter().map(|(node, address)| json!({"node": node, "range": format!("{address}-{address}")})).collect();
    named(
        "cnidarian.io/v1",
        "IPBlock",
        "10-0-0-0-26",
        &json!({}),
        &json!({"pool": "default", "cidr": "10.0.0.0/26", "claims": claims}),
    )
}

fn endpoints(node: &str, pod: &str, addresses: &[&str]) -> Object {
    let pods = json!([{"namespace": "a", "name": pod, "addresses": addresses}]);
    named("cnidarian.io/v1", "NodeEndpoints", node, &json!({}), &json!({"pods": pods}))
}

#[test]
fn a_pod_without_addresses_has_those_that_its_node_gave_it_from_its_own_block() {
    let bare = |node: Value| {
        object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": node}}))
    };
    let of = |both: &Both| -> Vec<String> { both.pod("a", "p").addresses.iter().map(ToString::to_string).collect() };
    let mut both = Both::of([&bare(json!("n1")), &endpoints("n1", "p", &["10.0.0.1", "10.0.0.2"])]);
    assert!(of(&both).is_empty(), "nobody holds the block");
    both.put(&block(&[("n1", "10.0.0.1"), ("n2", "10.0.0.2")]));
    assert_eq!(of(&both), ["10.0.0.1"], "the other address is another node's");
    // What another node says of it does not count while it is placed here, and counts when it is placed nowhere.
    both.put(&endpoints("n2", "p", &["10.0.0.2"]));
    assert_eq!(of(&both), ["10.0.0.1"]);
    both.put(&bare(json!(null)));
    assert_eq!(of(&both), ["10.0.0.1", "10.0.0.2"]);
    both.put(&bare(json!("n2")));
    assert_eq!(of(&both), ["10.0.0.2"]);
    // A node's prefix is its own, too.
    both.put(&endpoints("n2", "p", &["10.9.0.2"]));
    assert!(of(&both).is_empty());
    both.put(&named("v1", "Node", "n2", &json!({}), &json!({"podCIDR": "10.9.0.0/24"})));
    assert_eq!(of(&both), ["10.9.0.2"]);
    // But not where a block says that it is another's, whichever of the two came first.
    both.put(&named("v1", "Node", "n2", &json!({}), &json!({"podCIDR": "0.0.0.0/0"})));
    both.put(&endpoints("n2", "p", &["10.0.0.1", "10.9.0.2"]));
    assert_eq!(of(&both), ["10.9.0.2"]);
    both.put(&block(&[("n2", "10.0.0.2")]));
    assert_eq!(of(&both), ["10.0.0.1", "10.9.0.2"]);
    both.put(&block(&[("n1", "10.0.0.1")]));
    assert_eq!(of(&both), ["10.9.0.2"]);
    // What the object itself says goes first; a pod that has ended, or in its node's network, has none.
    both.put(&pod("a", "p", json!({}), "10.3.0.3"));
    assert_eq!(of(&both), ["10.3.0.3"]);
    let mut ended = bare(json!("n2")).to_value();
    ended["status"] = json!({"phase": "Failed"});
    both.put(&object(ended));
    assert!(of(&both).is_empty());
    both.put(&bare(json!("n2")));
    both.remove(&endpoints("n2", "p", &[]));
    assert!(of(&both).is_empty());
}

/// Objects that depend on each other in every way there is.
fn any_object() -> impl Strategy<Value = Object> {
    let labels = || prop_oneof![Just(json!({})), Just(json!({"app": "x"})), Just(json!({"app": "x", "tier": "y"}))];
    let namespace = || prop_oneof![Just("a"), Just("b")];
    let address = || prop_oneof![Just("10.0.0.1"), Just("10.0.0.2"), Just("fd00::1"), Just("nonsense")];
    let pods = (namespace(), "[pq]", labels(), address(), any::<[bool; 3]>(), "[st]").prop_map(
        |(namespace, name, labels, address, [finished, host, bare], account)| {
            let mut value = pod(namespace, &name, labels, address).to_value();
            value["spec"]["hostNetwork"] = host.into();
            value["spec"]["serviceAccountName"] = json!(account);
            value["status"]["phase"] = if finished { "Failed" } else { "Running" }.into();
            if bare {
                value["status"]["podIPs"] = json!([]);
            }
            if account == "s" {
                value["spec"]["nodeName"] = json!(null);
            }
            object(value)
        },
    );
    let within = |api: &'static str, kind: &'static str, name: &'static str| {
        (namespace(), name, labels(), labels(), prop::option::of(address())).prop_map(
            move |(namespace, name, labels, selector, address)| {
                object(json!({"apiVersion": api, "kind": kind,
                    "metadata": {"name": name, "namespace": namespace, "labels": labels},
                    "spec": {"selector": selector, "nets": [address], "template": {"metadata": {"labels": selector}}}}))
            },
        )
    };
    let slices = (namespace(), "[xy]", "[st]", address()).prop_map(|(namespace, name, service, address)| {
        object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
            "endpoints": [{"addresses": [address]}]}))
    });
    let api = || prop_oneof![Just("projectcalico.org/v3"), Just("crd.projectcalico.org/v1")];
    let tiers = (api(), "t|u|default", 0..3)
        .prop_map(|(api, name, order)| named(api, "Tier", &name, &json!({}), &json!({"order": order})));
    let policies = (api(), "[pq]", "t|u|default", 0..2).prop_map(|(api, name, tier, order)| {
        let mut object = named(api, "NetworkPolicy", &name, &json!({}), &json!({"tier": tier, "order": order}));
        object.key.namespace = Some("a".into());
        object
    });
    let endpoints =
        ("n[12]", prop::collection::vec((namespace(), "[pq]", address()), 0..3)).prop_map(|(node, pods)| {
            let pods: Vec<Value> = pods
                .into_iter()
                .map(|(namespace, name, address)| json!({"namespace": namespace, "name": name, "addresses": [address]}))
                .collect();
            named("cnidarian.io/v1", "NodeEndpoints", &node, &json!({}), &json!({"pods": pods}))
        });
    let blocks = ("n[12]", "n[12]").prop_map(|(one, other)| block(&[(&one, "10.0.0.1"), (&other, "10.0.0.2")]));
    let nodes = ("n[12]", prop::option::of(Just("fd00::/64")))
        .prop_map(|(name, prefix)| named("v1", "Node", &name, &json!({}), &json!({"podCIDR": prefix})));
    prop_oneof![
        4 => pods,
        2 => endpoints,
        1 => blocks,
        1 => nodes,
        2 => (namespace(), labels()).prop_map(|(name, labels)| named("v1", "Namespace", name, &labels, &json!(null))),
        1 => within("v1", "ServiceAccount", "[st]"),
        2 => within("v1", "Service", "[st]"),
        1 => within("apps/v1", "Deployment", "[pq]"),
        1 => within("batch/v1", "Job", "[pq]"),
        1 => within("projectcalico.org/v3", "NetworkSet", "[xy]"),
        1 => within("crd.projectcalico.org/v1", "NetworkSet", "[xy]"),
        1 => slices,
        2 => tiers,
        2 => policies,
    ]
}

proptest! {
    #[test]
    fn what_is_in_force_follows_from_the_objects_and_never_from_history(
        steps in prop::collection::vec((any_object(), 0..4u8), 1..80),
        seed: u64,
    ) {
        let mut both = Both::new();
        let mut objects: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        for (object, what) in steps {
            if what == 0 {
                both.remove(&object);
                objects.remove(&object.key);
            } else {
                both.put(&object);
                prop_assert_eq!(both.put(&object), 0, "the same again");
                objects.insert(object.key.clone(), object);
            }
        }
        let mut shuffled: Vec<&Object> = objects.values().collect();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let fresh = Both::of(shuffled);
        prop_assert_eq!(&both.world, &fresh.world);
        prop_assert_eq!(both.problems(), fresh.problems());
        for key in objects.keys() {
            let changes = both.intake.remove(key);
            both.take(changes);
        }
        prop_assert_eq!(&both.world, &World::default());
        prop_assert_eq!(both.problems().len(), 0);
        prop_assert!(both.intake.attached.is_empty() && both.intake.bare.is_empty());
        prop_assert!(both.intake.holders.is_empty() && both.intake.nodes.is_empty() && both.intake.runs_as.is_empty() && both.intake.rivals.is_empty());
    }
}

#[test]
fn a_host_endpoint_says_which_interfaces_it_is_and_whether_a_profile_opens_it() {
    let read = |spec: serde_json::Value| {
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "metadata": {"name": "h"}, "spec": spec});
        let (world, problems) = World::read(&[Object::from_value(value).unwrap()]);
        let host = world.workloads.values().next().unwrap().host.clone().unwrap();
        (host.interfaces, host.open, problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>())
    };
    let named = HostInterfaces::Named("eth0".into());
    let none = Vec::<String>::new;
    assert_eq!(read(json!({"node": "n", "interfaceName": "eth0"})), (named.clone(), false, none()));
    let open = json!({"node": "n", "interfaceName": "*", "profiles": ["projectcalico-default-allow"]});
    assert_eq!(read(open), (HostInterfaces::All, true, none()));
    let by_address = json!({"node": "n", "expectedIPs": ["192.0.2.1"], "profiles": ["kns.shop"]});
    assert_eq!(read(by_address), (HostInterfaces::ByAddress, false, vec!["spec.profiles[0]".to_owned()]));
    for (wrong, paths) in [
        (json!({"node": "n", "interfaceName": "eth*"}), vec!["spec.interfaceName", "spec.interfaceName"]),
        (json!({"node": "n"}), vec!["spec.interfaceName"]),
        (json!({"interfaceName": "*"}), vec!["spec.node"]),
        (json!({"node": "n", "interfaceName": "*", "profile": ["x"]}), vec!["spec.profile"]),
    ] {
        assert_eq!(read(wrong).2, paths);
    }
}

/// A pod without a program is closed, a node would be open.
#[test]
fn a_node_that_cannot_be_read_keeps_its_labels_and_has_no_address() {
    let node = |status: Value| {
        object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}},
            "status": status}))
    };
    let addresses = |address: &str| json!({"addresses": [{"type": "InternalIP", "address": address}]});
    let mut both = Both::of([&node(addresses("192.0.2.1"))]);
    for wrong in [addresses("nonsense"), json!(5)] {
        both.put(&node(wrong));
        let read = &both.world.workloads[&WorkloadId::node("n1")];
        assert_eq!((&*read.identity.labels["a"], read.node.as_deref()), ("b", Some("n1")));
        assert!(read.addresses.is_empty() && both.problems().len() == 1, "{:?}", both.problems());
    }
}
