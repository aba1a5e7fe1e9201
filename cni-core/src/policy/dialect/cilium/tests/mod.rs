//! Laws of Cilium's policies, on the verdicts of a small cluster (`dialect::testing`).

mod closed;

use crate::policy::dialect::testing::{assert_verdicts, connection, problems, reading, world};
use crate::policy::evaluate::Evaluator;
use crate::policy::model::*;
use crate::policy::world::ModelChange;
use serde_json::{Value, json};
use std::sync::Arc;

/// A policy of namespace `a`.
fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p", "namespace": "a"}, "spec": spec,
    })
}

fn clusterwide(spec: Value) -> Value {
    json!({
        "apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "c"}, "spec": spec,
    })
}

fn app_x() -> Value {
    json!({"matchLabels": {"app": "x"}})
}

/// A policy for `a/x` with one rule for what comes.
fn from(rule: Value) -> Value {
    policy(json!({"endpointSelector": app_x(), "ingress": [rule]}))
}

/// A policy for `a/x` with one rule for what goes.
fn to(rule: Value) -> Value {
    policy(json!({"endpointSelector": app_x(), "egress": [rule]}))
}

fn assert_allows(policy: Value, lines: &str) {
    assert_eq!(problems(&policy), []);
    assert_verdicts(&[policy], lines);
}

#[test]
fn a_policy_is_about_pods_of_its_namespace_and_its_selectors_stay_there() {
    let app_y = json!({"fromEndpoints": [{"matchLabels": {"k8s:app": "y"}}]});
    assert_allows(from(app_y), "a/y > a/x 80 yes\n b/y > a/x 80 no\n b/y > b/x 80 yes\n a/x > b/x 80 yes");
    assert_allows(from(json!({"fromEndpoints": [{}]})), "a/y > a/x 80 yes\n b/y > a/x 80 no\n 203.0.113.9 > a/x 80 no");
    let in_b = json!({"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "b", "any:app": "y"}}]});
    assert_allows(from(in_b), "b/y > a/x 80 yes\n b/x > a/x 80 no\n a/y > a/x 80 no");
    let blue = json!({"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.namespace.labels.team": "blue"}}]});
    assert_allows(from(blue), "b/y > a/x 80 yes\n a/y > a/x 80 no");
    let any = json!({"matchExpressions": [{"key": "io.kubernetes.pod.namespace", "operator": "Exists"}]});
    assert_allows(
        from(json!({"fromEndpoints": [any]})),
        "b/y > a/x 80 yes\n a/y > a/x 80 yes\n 203.0.113.9 > a/x 80 no",
    );
}

#[test]
fn a_policy_of_the_cluster_selects_everywhere() {
    let app_y = json!([{"fromEndpoints": [{"matchLabels": {"app": "y"}}]}]);
    assert_allows(
        clusterwide(json!({"endpointSelector": app_x(), "ingress": app_y})),
        "a/y > b/x 80 yes\n b/y > a/x 80 yes\n b/x > a/x 80 no\n b/x > a/y 80 yes",
    );
    let nodes = clusterwide(json!({"nodeSelector": {"matchLabels": {"role": "infra"}}, "ingress": app_y}));
    assert_allows(nodes.clone(), "a/y > b/x 80 yes\n b/x > a/x 80 yes");
    assert_eq!(reading(&nodes).policies[0].subject.kinds, Kinds::NODES);
}

#[test]
fn a_direction_is_closed_where_there_are_rules_unless_the_policy_says_otherwise() {
    let pods = json!({"matchLabels": {"app": "x"}});
    let open = "b/x > a/x 80 yes\n a/x > b/x 80 yes";
    for key in ["ingress", "egress", "ingressDeny", "egressDeny"] {
        for rules in [json!([]), Value::Null] {
            let silent = policy(json!({"endpointSelector": pods, key: rules}));
            assert_eq!(problems(&silent), [("spec".to_owned(), Effect::Warning)]);
            assert_verdicts(&[silent], open);
        }
        let closed = policy(json!({"endpointSelector": pods, key: [{}]}));
        let lines = if key.starts_with("in") {
            "b/x > a/x 80 no\n a/x > b/x 80 yes"
        } else {
            "b/x > a/x 80 yes\n a/x > b/x 80 no"
        };
        assert_allows(closed.clone(), lines);
        let mut opened = closed;
        opened["spec"]["enableDefaultDeny"] = json!({"ingress": false, "egress": false});
        assert_allows(opened, open);
    }
    let nothing_but = json!({"endpointSelector": pods, "enableDefaultDeny": {"egress": true}});
    assert_allows(policy(nothing_but), "b/x > a/x 80 yes\n a/x > b/x 80 no");
}

#[test]
fn an_empty_list_of_peers_is_nobody_and_no_list_beside_ports_is_everybody() {
    let web = json!([{"ports": [{"port": "80", "protocol": "TCP"}]}]);
    assert_allows(from(json!({"toPorts": web})), "b/x > a/x 80 yes\n 203.0.113.9 > a/x 80 yes\n b/x > a/x 81 no");
    for key in ["fromEndpoints", "fromCIDR", "fromCIDRSet", "fromEntities", "fromNodes", "fromGroups"] {
        assert_allows(from(json!({"toPorts": web, key: []})), "b/x > a/x 80 no\n 203.0.113.9 > a/x 80 no");
        assert_allows(from(json!({key: []})), "b/x > a/x 80 no\n a/y > a/x 80 no");
    }
    for key in ["toServices", "toFQDNs", "toGroups"] {
        assert_allows(to(json!({"toPorts": web, key: []})), "a/x > b/x 80 no\n a/x > 203.0.113.9 80 no");
    }
}

#[test]
fn prefixes_are_what_is_outside_the_cluster() {
    let outside = "b/x > a/x 80 no\n 192.0.2.1 > a/x 80 no\n 203.0.113.9 > a/x 80 yes";
    assert_allows(from(json!({"fromCIDR": ["0.0.0.0/0"]})), outside);
    assert_allows(from(json!({"fromCIDRSet": [{"cidr": "0.0.0.0/0"}]})), outside);
    let holes =
        json!({"fromCIDRSet": [{"cidr": "0.0.0.0/0", "except": ["203.0.113.64/26"]}, {"cidr": "198.51.100.0/24"}]});
    assert_allows(from(holes), "203.0.113.9 > a/x 80 yes\n 203.0.113.77 > a/x 80 no\n b/x > a/x 80 no");
}

#[test]
fn groups_of_prefixes_are_found_by_name_and_by_label_and_are_outside_too() {
    for (member, selector) in [
        (json!({"cidrGroupRef": "g"}), Selector::Is(Attribute::Name, "g".into())),
        (
            json!({"cidrGroupSelector": {"matchLabels": {"k": "v"}}}),
            Selector::Is(Attribute::Label("k".into()), "v".into()),
        ),
    ] {
        let mut member = member;
        member["except"] = json!(["10.0.0.0/8"]);
        let policy = to(json!({"toCIDRSet": [member]}));
        assert_eq!(problems(&policy), []);
        let group = Peer::Labelled { kinds: Kinds::of(WorkloadKind::CidrGroup), selector };
        let except = Peer::Networks(vec!["10.0.0.0/8".parse().unwrap()]).negated();
        let rules = &reading(&policy).policies[0].egress.clone().unwrap().rules;
        assert_eq!(rules[0].destination, Peer::AllOf(vec![group, Peer::cluster().negated(), except]));
    }
}

#[test]
fn entities_and_reserved_labels_are_the_same_parties() {
    // The node of the world is not the own one of these pods.
    for (entity, lines) in [
        ("world", "203.0.113.9 > a/x 80 yes\n b/x > a/x 80 no\n 192.0.2.1 > a/x 80 no"),
        ("world-ipv4", "203.0.113.9 > a/x 80 yes\n 2001:db8::1 > a/x 80 no"),
        ("world-ipv6", "203.0.113.9 > a/x 80 no\n b/x > a/x 80 no"),
        ("host", "192.0.2.1 > a/x 80 no\n b/x > a/x 80 no"),
        ("remote-node", "192.0.2.1 > a/x 80 yes\n b/x > a/x 80 no"),
        ("kube-apiserver", "203.0.113.9 > a/x 80 no\n b/x > a/x 80 no"),
        ("health", "203.0.113.9 > a/x 80 no\n b/x > a/x 80 no"),
    ] {
        assert_allows(from(json!({"fromEntities": [entity]})), lines);
        let label = format!("reserved:{entity}");
        assert_allows(from(json!({"fromEndpoints": [{"matchLabels": {label.clone(): ""}}]})), lines);
        let exists = json!({"matchExpressions": [{"key": label, "operator": "Exists"}]});
        assert_allows(from(json!({"fromEndpoints": [exists]})), lines);
    }
    assert_allows(from(json!({"fromEntities": ["all"]})), "203.0.113.9 > a/x 80 yes\n b/x > a/x 80 yes");
    let cluster = "203.0.113.9 > a/x 80 no\n b/x > a/x 80 yes\n 192.0.2.1 > a/x 80 yes";
    assert_allows(from(json!({"fromEntities": ["cluster", "none"]})), cluster);
}

#[test]
fn nodes_are_found_by_their_labels() {
    let nodes = |role: &str| from(json!({"fromNodes": [{"matchLabels": {"node:role": role}}]}));
    assert_allows(nodes("infra"), "192.0.2.1 > a/x 80 yes\n b/x > a/x 80 no");
    assert_allows(nodes("other"), "192.0.2.1 > a/x 80 no");
}

#[test]
fn services_are_found_by_name_or_labels_in_one_namespace_or_all() {
    let is = |attribute, value: &str| Selector::Is(attribute, value.into());
    for (service, selector) in [
        (
            json!({"k8sService": {"serviceName": "s", "namespace": "b"}}),
            is(Attribute::Namespace, "b").and(is(Attribute::Name, "s")),
        ),
        (json!({"k8sService": {"serviceName": "s"}}), is(Attribute::Name, "s")),
        (
            json!({"k8sServiceSelector": {"selector": {"matchLabels": {"k8s:app": "x"}}, "namespace": "b"}}),
            is(Attribute::Namespace, "b").and(is(Attribute::Label("app".into()), "x")),
        ),
    ] {
        let policy = to(json!({"toServices": [service]}));
        assert_eq!(problems(&policy), []);
        let rules = reading(&policy).policies[0].egress.clone().unwrap().rules;
        let kinds = Kinds::of(WorkloadKind::Service);
        assert_eq!(rules[0].destination, Peer::Labelled { kinds, selector });
    }
}

#[test]
fn ports_are_numbers_ranges_names_or_all_of_a_protocol() {
    let ports = |ports: Value| from(json!({"toPorts": [{"ports": ports}]}));
    let any = ports(json!([{"port": "80"}]));
    assert_allows(any, "b/x > a/x 80 yes\n b/x > a/x UDP 80 yes\n b/x > a/x SCTP 80 yes\n b/x > a/x ICMP 0 no");
    let range = ports(json!([{"port": "8000", "endPort": 8100, "protocol": "TCP"}]));
    assert_allows(range, "b/x > a/x 8080 yes\n b/x > a/x 8101 no\n b/x > a/x UDP 8080 no");
    let named = ports(json!([{"port": "WEB", "protocol": "TCP"}, {"port": "dns", "protocol": "ANY"}]));
    assert_allows(named, "b/x > a/x 8080 yes\n b/x > a/x UDP 5353 yes\n b/x > a/x 80 no");
    let all = ports(json!([{"port": "0", "protocol": "UDP"}]));
    assert_allows(all, "b/x > a/x UDP 7 yes\n b/x > a/x 7 no");
}

#[test]
fn messages_are_told_by_number_or_name_and_family() {
    let ping = |field: Value| from(json!({"icmps": [{"fields": [field]}]}));
    for field in [json!({"type": 8}), json!({"type": "8", "family": "IPv4"}), json!({"type": "EchoRequest"})] {
        assert_allows(ping(field), "b/x > a/x ICMP 0 yes\n b/x > a/x 80 no");
    }
    assert_allows(
        ping(json!({"type": "EchoRequest", "family": "IPv6"})),
        "b/x > a/x ICMP 0 no\n b/x > a/x ICMPv6 0 yes",
    );
    assert_allows(ping(json!({"type": 3})), "b/x > a/x ICMP 0 no");
}

#[test]
fn what_is_denied_comes_before_what_any_policy_allows() {
    let deny = clusterwide(json!({"endpointSelector": {}, "enableDefaultDeny": {"ingress": false},
    "ingressDeny": [
        {"fromEndpoints": [{"matchLabels": {"app": "y"}}], "toPorts": [{"ports": [{"port": "80"}]}]},
    ]}));
    assert_allows(deny.clone(), "b/y > a/x 80 no\n b/y > a/x 81 yes\n b/x > a/x 80 yes");
    let allow = from(json!({"fromEntities": ["all"]}));
    let network_policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "0", "namespace": "a"}, "spec": {"ingress": [{}]}});
    let calico = json!({"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": "0", "namespace": "a"}, "spec": {"order": -1e9, "ingress": [{"action": "Allow"}]}});
    for other in [allow, network_policy, calico] {
        assert_verdicts(&[other, deny.clone()], "b/y > a/x 80 no\n b/y > a/x 81 yes\n b/x > a/x 80 yes");
    }
    let alone = policy(json!({"endpointSelector": app_x(), "ingressDeny": [{"fromEntities": ["world"]}]}));
    assert_allows(alone, "b/y > a/x 80 no\n 203.0.113.9 > a/x 80 no\n a/x > b/y 80 yes");
}

#[test]
fn each_of_specs_is_a_policy_of_its_own() {
    let spec = |app: &str, from: &str| {
        json!({"endpointSelector": {"matchLabels": {"app": app}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": from}}]}], "ingressDeny": [{"fromEntities": ["world"]}]})
    };
    let mut both = policy(spec("x", "y"));
    both["specs"] = json!([spec("y", "y")]);
    assert_allows(both.clone(), "a/y > a/x 80 yes\n a/x > a/y 80 no\n b/y > a/y 80 no");
    let parts: Vec<u16> = reading(&both).policies.iter().map(|policy| policy.id.part).collect();
    assert_eq!(parts, [0, 1, 2, 3]);
    both["specs"][0]["ingres"] = json!([]);
    assert_eq!(problems(&both), [("specs[0].ingres".to_owned(), Effect::SubjectClosed)]);
    assert_verdicts(&[both.clone()], "a/y > a/x 80 no\n a/x > b/x 80 no\n b/x > b/y 80 yes");
    both["spec"] = Value::Null;
    both["specs"] = json!([]);
    assert_eq!(problems(&both), [("spec".to_owned(), Effect::SubjectClosed)]);
    assert_verdicts(&[both], "a/y > a/x 80 no\n b/x > b/y 80 yes");
}

#[test]
fn names_and_application_protocols_are_kept_and_allow_nothing_yet() {
    let names =
        to(json!({"toFQDNs": [{"matchName": "A.a.org."}, {"matchPattern": "*.b.org"}, {"matchPattern": "**.c.org"}]}));
    assert_allows(names.clone(), "a/x > 203.0.113.9 80 no");
    let rule = &reading(&names).policies[0].egress.clone().unwrap().rules[0];
    let wanted = vec![
        DnsPattern::Name("a.a.org".into()),
        DnsPattern::Pattern("*.b.org".into()),
        DnsPattern::Below("c.org".into()),
    ];
    assert_eq!(rule.destination, Peer::Names(wanted));
    assert_eq!(rule.unenforceable(), Some(Unenforceable::Names));
    let http = from(json!({"toPorts": [
        {"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET", "path": "/a.*"}]}},
        {"ports": [{"port": "81", "protocol": "TCP"}]},
        {"ports": [{"port": "82", "protocol": "TCP"}], "serverNames": ["a.org"]},
        {"ports": [{"port": "83", "protocol": "TCP"}], "rules": {}},
    ]}));
    assert_allows(http.clone(), "b/x > a/x 80 no\n b/x > a/x 81 yes\n b/x > a/x 82 no\n b/x > a/x 83 yes");
    let rules = reading(&http).policies[0].ingress.clone().unwrap().rules;
    let found: Vec<_> = rules.iter().map(|rule| (&*rule.path, rule.layer7.is_some())).collect();
    let at = "spec.ingress[0]";
    assert_eq!(found, [(at, false), ("spec.ingress[0].toPorts[0]", true), ("spec.ingress[0].toPorts[2]", true)]);
    assert!(matches!(&rules[1].layer7, Some(Layer7::Http(rules)) if rules[0].method.as_deref() == Some("GET")));
}

#[test]
fn a_staged_policy_decides_nothing() {
    let mut staged = policy(json!({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["all"]}]}));
    staged["metadata"]["annotations"] = json!({"cnidarian.io/mode": "staged"});
    assert!(reading(&staged).policies.iter().all(|policy| policy.mode == Mode::Staged));
    assert_allows(staged, "b/x > a/x 80 yes");
}

/// What else may be there: the own node of all pods, the API server's service, a group with a pod's address in it.
fn others() -> Vec<Workload> {
    let named = |kind, namespace: Option<&str>, name: &str, addresses: &[&str], networks: &[&str]| Workload {
        id: WorkloadId { kind, namespace: namespace.map(Arc::from), name: name.into() },
        identity: Arc::new(Identity {
            name: Some(name.into()),
            namespace: namespace.map(Arc::from),
            ..Identity::new(kind)
        }),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        node: (kind == WorkloadKind::Node).then(|| name.into()),
        ports: Vec::new(),
        host_network: false,
        host: None,
    };
    vec![
        named(WorkloadKind::Node, None, "n2", &["192.0.2.2"], &[]),
        named(WorkloadKind::Service, Some("default"), "kubernetes", &[], &["203.0.113.9/32"]),
        named(WorkloadKind::Service, Some("b"), "kubernetes", &[], &["203.0.113.77/32"]),
        named(WorkloadKind::CidrGroup, None, "g", &[], &["203.0.113.64/26", "10.0.2.1/32"]),
    ]
}

#[test]
fn own_node_other_nodes_the_api_server_and_groups_are_told_apart() {
    for (rule, denied) in [
        (json!({"toEntities": ["host"]}), &["192.0.2.2"][..]),
        (json!({"toEntities": ["remote-node"]}), &["192.0.2.1"]),
        (json!({"toEntities": ["kube-apiserver"]}), &["203.0.113.9"]),
        (json!({"toEntities": ["cluster"]}), &["192.0.2.1", "192.0.2.2", "203.0.113.9", "10.0.2.1"]),
        (json!({"toEntities": ["world"]}), &["203.0.113.9", "203.0.113.77"]),
        (json!({"toCIDRSet": [{"cidrGroupRef": "g"}]}), &["203.0.113.77"]),
        (json!({"toServices": [{"k8sService": {"serviceName": "kubernetes", "namespace": "b"}}]}), &["203.0.113.77"]),
    ] {
        let open = json!({"egress": false});
        let deny = policy(json!({"endpointSelector": app_x(), "egressDeny": [rule], "enableDefaultDeny": open}));
        assert_eq!(problems(&deny), []);
        let mut world = world(&[deny]);
        for other in others() {
            world.apply(ModelChange::PutWorkload(Arc::new(other)));
        }
        let evaluator = Evaluator::new(&world);
        for to in ["192.0.2.1", "192.0.2.2", "203.0.113.9", "203.0.113.77", "10.0.2.1"] {
            let outcome = evaluator.decide(&connection(&format!("a/x > {to} 80"))).unwrap();
            assert_eq!(outcome.allowed(), !denied.contains(&to), "{rule}: {to}");
        }
    }
}
