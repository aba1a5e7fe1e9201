//! Laws of Cilium's policies, on the verdicts of a small cluster (`dialect::testing`).

use crate::policy::dialect::testing::{
    any_json, assert_allows_no_more, assert_verdicts, problems, read_any, reading, spoilt,
};
use crate::policy::model::{
    Attribute, DnsPattern, Effect, Kinds, Layer7, Mode, Peer, Selector, Tier, Unenforceable, WorkloadKind,
};
use proptest::prelude::*;
use serde_json::{Value, json};

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
    assert_allows(ping(json!({"type": "EchoRequest", "family": "IPv6"})), "b/x > a/x ICMP 0 no");
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
fn what_cannot_be_read_closes_its_rule_and_is_named_by_its_path() {
    let port = |port: Value| json!({"toPorts": [{"ports": [port]}]});
    for (rule, path) in [
        (json!({"fromEndpoint": [{}]}), "fromEndpoint"),
        (Value::Null, ""),
        (json!({"toEndpoints": [{}]}), "toEndpoints"),
        (json!({"fromEndpoints": [{}], "fromEntities": ["all"]}), "fromEntities"),
        (json!({"fromEndpoints": [{}], "fromCIDR": ["192.0.2.0/24"]}), "fromCIDR"),
        (
            json!({"fromEndpoints": [{"matchLabels": {"io.cilium.k8s.policy.cluster": "b"}}]}),
            "fromEndpoints[0].matchLabels",
        ),
        (json!({"fromEndpoints": [{"matchLabels": {"lxc:app": "b"}}]}), "fromEndpoints[0].matchLabels"),
        (json!({"fromEndpoints": [{"matchLabels": {"reserved:hots": ""}}]}), "fromEndpoints[0].matchLabels"),
        (json!({"fromEndpoints": [{"matchLabels": {"reserved:host": "", "app": "x"}}]}), "fromEndpoints[0]"),
        (
            json!({"fromEndpoints": [{"matchExpressions": [{"key": "reserved:host", "operator": "DoesNotExist"}]}]}),
            "fromEndpoints[0]",
        ),
        (json!({"fromEntities": ["wrold"]}), "fromEntities[0]"),
        (json!({"fromGroups": [{"aws": {"region": "r"}}]}), "fromGroups"),
        (json!({"fromCIDR": ["192.0.2.0"]}), "fromCIDR[0]"),
        (json!({"fromCIDRSet": [{"cidr": "192.0.2.0/24", "cidrGroupRef": "g"}]}), "fromCIDRSet[0]"),
        (json!({"fromCIDRSet": [{"cidr": "192.0.2.0/24", "except": ["10.0.0.0/8"]}]}), "fromCIDRSet[0].except[0]"),
        (json!({"icmps": [{"fields": [{"type": 256}]}]}), "icmps[0].fields[0].type"),
        (json!({"icmps": [{}]}), "icmps[0].fields"),
        (json!({"toPorts": [{}]}), "toPorts[0].ports"),
        (port(json!({"port": 80})), "toPorts[0].ports[0].port"),
        (port(json!({"port": "080"})), "toPorts[0].ports[0].port"),
        (port(json!({"port": "65536"})), "toPorts[0].ports[0].port"),
        (port(json!({"port": "80", "endPort": 79})), "toPorts[0].ports[0].endPort"),
        (port(json!({"port": "web", "endPort": 79})), "toPorts[0].ports[0].endPort"),
        (port(json!({"port": "8", "protocol": "ICMP"})), "toPorts[0].ports[0].protocol"),
    ] {
        let path = format!("spec.ingress[1].{path}");
        let path = path.trim_end_matches('.').to_owned();
        let behind = policy(json!({"endpointSelector": app_x(), "ingress": [{"fromEndpoints": [app_y_in_b()]}, rule]}));
        assert_eq!(problems(&behind), [(path.clone(), Effect::RuleClosed)], "{rule}");
        assert_verdicts(&[behind], "b/y > a/x 80 yes\n b/x > a/x 80 no\n a/y > a/x 80 no\n 203.0.113.9 > a/x 80 no");
        // The same where it denies: everybody, on every port.
        let open = json!({"ingress": false});
        let deny = policy(json!({"endpointSelector": app_x(), "enableDefaultDeny": open, "ingressDeny": [{}, rule]}));
        assert_eq!(problems(&deny), [(path.replace("ingress", "ingressDeny"), Effect::RuleClosed)], "{rule}");
        assert_verdicts(&[deny], "b/y > a/x 80 no\n a/x > b/x 80 yes\n b/x > a/y 80 yes");
    }
    let auth = from(json!({"fromEndpoints": [{}], "authentication": {"mode": "required"}}));
    assert_eq!(problems(&auth), [("spec.ingress[0].authentication.mode".to_owned(), Effect::RuleClosed)]);
    assert_verdicts(&[auth], "a/y > a/x 80 no");
    assert_allows(from(json!({"fromEndpoints": [{}], "authentication": {"mode": "disabled"}})), "a/y > a/x 80 yes");
}

fn app_y_in_b() -> Value {
    json!({"matchLabels": {"app": "y", "io.kubernetes.pod.namespace": "b"}})
}

#[test]
fn rules_that_deny_have_no_names_and_no_application_protocols() {
    for (rule, path) in [
        (json!({"toFQDNs": [{"matchName": "a.org"}]}), "spec.egressDeny[0].toFQDNs"),
        (
            json!({"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{}]}}]}),
            "spec.egressDeny[0].toPorts[0].rules",
        ),
        (json!({"toEntities": ["world"], "authentication": {"mode": "disabled"}}), "spec.egressDeny[0].authentication"),
    ] {
        let deny = policy(json!({"endpointSelector": {}, "egressDeny": [rule]}));
        assert_eq!(problems(&deny), [(path.to_owned(), Effect::RuleClosed)]);
    }
}

#[test]
fn what_cannot_be_read_around_rules_closes_the_subject() {
    for (spec, path) in [
        (json!({"ingress": [{}]}), "spec.endpointSelector"),
        (json!({"endpointSelector": {}, "nodeSelector": {}, "ingress": [{}]}), "spec.nodeSelector"),
        (json!({"nodeSelector": {}, "ingress": [{}]}), "spec.nodeSelector"),
        (
            json!({"endpointSelector": {"matchLabels": {"x:y": "z"}}, "ingress": [{}]}),
            "spec.endpointSelector.matchLabels",
        ),
        (
            json!({"endpointSelector": {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "b"}}, "ingress": [{}]}),
            "spec.endpointSelector.matchLabels",
        ),
        (json!({"endpointSelector": {}, "ingres": [{}], "ingress": [{}]}), "spec.ingres"),
        (json!({"endpointSelector": {}, "ingress": {}, "egress": [{}]}), "spec.ingress"),
        (
            json!({"endpointSelector": {}, "ingress": [{}], "enableDefaultDeny": {"egress": "no"}}),
            "spec.enableDefaultDeny.egress",
        ),
        (
            json!({"endpointSelector": {}, "ingress": [{"fromRequires": [{}], "fromEndpoints": [{}]}]}),
            "spec.ingress[0].fromRequires",
        ),
    ] {
        let policy = policy(spec);
        assert_eq!(problems(&policy), [(path.to_owned(), Effect::SubjectClosed)]);
        assert!(reading(&policy).policies.iter().all(|policy| &*policy.tier == Tier::CLOSED));
        assert_verdicts(&[policy], "a/y > a/x 80 no\n a/x > a/y 80 no\n a/x > 203.0.113.9 80 no\n b/x > b/y 80 yes");
    }
    let own = json!({"matchLabels": {"k8s:io.kubernetes.pod.namespace": "a"}});
    assert_allows(policy(json!({"endpointSelector": own, "ingress": [{}]})), "b/x > a/x 80 no\n b/x > b/y 80 yes");
}

#[test]
fn a_staged_policy_decides_nothing() {
    let mut staged = policy(json!({"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["all"]}]}));
    staged["metadata"]["annotations"] = json!({"cnidarian.io/mode": "staged"});
    assert!(reading(&staged).policies.iter().all(|policy| policy.mode == Mode::Staged));
    assert_allows(staged, "b/x > a/x 80 yes");
}

const WORDS: &[&str] = &[
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
    "fromEndpoints",
    "fromRequires",
    "fromCIDR",
    "fromCIDRSet",
    "fromEntities",
    "fromNodes",
    "toEndpoints",
    "toCIDRSet",
    "toEntities",
    "toServices",
    "toFQDNs",
    "toPorts",
    "icmps",
    "ports",
    "port",
    "endPort",
    "protocol",
    "TCP",
    "ANY",
    "80",
    "rules",
    "http",
    "dns",
    "l7proto",
    "fields",
    "family",
    "type",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "In",
    "reserved:host",
    "k8s:app",
    "world",
    "cidr",
    "except",
    "cidrGroupRef",
    "10.0.0.0/8",
    "k8sService",
    "serviceName",
    "namespace",
    "matchName",
    "authentication",
];

proptest! {
    #[test]
    fn any_json_is_read_without_a_panic_and_what_is_closed_says_so(spec in any_json(WORDS)) {
        read_any("cilium.io/v2", "CiliumNetworkPolicy", spec.clone());
        read_any("cilium.io/v2", "CiliumClusterwideNetworkPolicy", spec);
    }

    #[test]
    fn what_cannot_be_read_allows_no_more_than_what_can(which in 0_usize..200, unknown_key: bool) {
        let original = policy(json!({
            "endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x", "y"]}]},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "y"}}],
                    "toPorts": [{"ports": [{"port": "80", "endPort": 443}]}],
                },
                {"fromCIDRSet": [{"cidr": "203.0.113.0/24", "except": ["203.0.113.64/26"]}]},
            ],
            "ingressDeny": [
                {"fromEntities": ["remote-node"], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]},
            ],
            "egress": [{"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "b"}}]}],
            "egressDeny": [{"toCIDR": ["203.0.113.9/32"], "icmps": [{"fields": [{"type": 8}]}]}],
            "enableDefaultDeny": {"ingress": true, "egress": false},
        }));
        assert_allows_no_more(&spoilt(&original, which, unknown_key), &original);
    }
}
