//! Laws of NetworkPolicy, on the verdicts of a small cluster (`dialect::testing`).

use crate::policy::dialect::testing::{
    any_json, assert_allows_no_more, assert_verdicts, problems, read_any, reading, spoilt,
};
use crate::policy::model::{Effect, Mode, Order, Tier};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy of namespace `a`.
fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "a"}, "spec": spec,
    })
}

fn assert_allows(spec: Value, lines: &str) {
    let policy = policy(spec);
    assert_eq!(problems(&policy), []);
    assert_verdicts(&[policy], lines);
}

#[test]
fn without_policy_types_ingress_is_isolated_and_egress_only_when_it_has_a_rule() {
    assert_allows(json!({"podSelector": {}}), "b/x > a/x 80 no\n a/x > b/x 80 yes\n b/x > b/y 80 yes");
    assert_allows(json!({"podSelector": {}, "policyTypes": []}), "b/x > a/x 80 no\n a/x > b/x 80 yes");
    let dns = json!({"podSelector": {}, "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]});
    assert_allows(dns, "b/x > a/x 80 no\n a/x > b/x 80 no\n a/x > b/x UDP 53 yes");
    let empty = policy(json!({"podSelector": {}, "egress": []}));
    assert_eq!(problems(&empty), [("spec.egress".to_owned(), Effect::Warning)]);
    assert_verdicts(&[empty], "b/x > a/x 80 no\n a/x > b/x 80 yes");
}

#[test]
fn policy_types_say_which_directions_are_isolated() {
    assert_allows(json!({"policyTypes": ["Egress"]}), "b/x > a/x 80 yes\n a/x > b/x 80 no");
    assert_allows(json!({"policyTypes": ["Ingress"]}), "b/x > a/x 80 no\n a/x > b/x 80 yes");
    let unused = policy(json!({"policyTypes": ["Egress"], "ingress": [{}]}));
    assert_eq!(problems(&unused), [("spec.ingress".to_owned(), Effect::Warning)]);
}

#[test]
fn an_empty_list_of_rules_allows_nothing_and_an_empty_list_of_peers_or_ports_means_any() {
    let expect = "b/x > a/x 80 no\n 203.0.113.9 > a/x UDP 80 no";
    assert_allows(json!({"podSelector": {}, "ingress": []}), expect);
    assert_allows(json!({"podSelector": {}, "ingress": null}), expect);
    let expect = "b/x > a/x 80 yes\n 203.0.113.9 > a/x UDP 80 yes\n b/x > a/x ICMP 0 yes";
    for rule in [json!({}), json!({"from": [], "ports": []}), json!({"from": null, "ports": null})] {
        assert_allows(json!({"podSelector": {}, "ingress": [rule]}), expect);
    }
}

#[test]
fn a_missing_pod_selector_is_the_whole_namespace_and_a_written_one_only_its_pods() {
    assert_allows(json!({}), "b/x > a/x 80 no\n b/x > a/y 80 no\n a/x > b/x 80 yes");
    assert_allows(json!({"podSelector": null}), "b/x > a/x 80 no\n b/x > a/y 80 no");
    assert_allows(json!({"podSelector": {"matchLabels": {"app": "x"}}}), "b/x > a/x 80 no\n b/x > a/y 80 yes");
    let not_x =
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["x"]}], "matchLabels": null});
    assert_allows(json!({"podSelector": not_x}), "b/x > a/x 80 yes\n b/x > a/y 80 no");
}

#[test]
fn peers_are_alternatives_and_selectors_in_one_peer_must_both_hold() {
    let (pods, namespaces) = (json!({"matchLabels": {"app": "x"}}), json!({"matchLabels": {"team": "blue"}}));
    let from = |peers: Value| json!({"podSelector": {}, "ingress": [{"from": peers}]});
    assert_allows(from(json!([{"podSelector": pods}])), "a/x > a/y 80 yes\n b/x > a/y 80 no\n a/y > a/x 80 no");
    assert_allows(from(json!([{"podSelector": {}}])), "a/y > a/x 80 yes\n b/x > a/x 80 no");
    let of_namespaces = from(json!([{"namespaceSelector": namespaces}]));
    assert_allows(of_namespaces, "b/x > a/y 80 yes\n b/y > a/y 80 yes\n a/x > a/y 80 no");
    let both = from(json!([{"namespaceSelector": namespaces, "podSelector": pods}]));
    assert_allows(both, "b/x > a/y 80 yes\n b/y > a/y 80 no\n a/x > a/y 80 no");
    let either = from(json!([{"namespaceSelector": namespaces}, {"podSelector": pods}]));
    assert_allows(either, "b/y > a/y 80 yes\n a/x > a/y 80 yes\n a/y > a/x 80 no\n 203.0.113.9 > a/x 80 no");
    let all_pods = from(json!([{"namespaceSelector": {}}]));
    assert_allows(all_pods, "b/y > a/y 80 yes\n 203.0.113.9 > a/x 80 no\n 192.0.2.1 > a/x 80 no");
}

#[test]
fn an_ip_block_holds_no_pod_and_except_is_a_hole_in_it() {
    let to = |peers: Value| json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": peers}]});
    let all = to(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}]));
    assert_allows(all, "a/x > 203.0.113.9 80 yes\n a/x > b/x 80 no\n a/x > 192.0.2.1 80 yes\n a/x > 2001:db8::1 80 no");
    let block = json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.64/26", "203.0.113.9/32"]}});
    let expect =
        "a/x > 203.0.113.8 80 yes\n a/x > 203.0.113.9 80 no\n a/x > 203.0.113.77 80 no\n a/x > 192.0.2.9 80 no";
    assert_allows(to(json!([block])), expect);
    let more = json!([block, {"ipBlock": {"cidr": "203.0.113.9/32"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}]);
    let expect =
        "a/x > 203.0.113.9 80 yes\n a/x > 203.0.113.77 80 no\n a/x > 2001:db8::1 80 yes\n a/x > 203.0.114.1 80 no";
    assert_allows(to(more), expect);
}

#[test]
fn ports_are_tcp_unless_said_otherwise_and_numbers_names_or_ranges() {
    let ports = |ports: Value| json!({"podSelector": {}, "ingress": [{"ports": ports}]});
    assert_allows(ports(json!([{"port": 80}])), "b/x > a/x 80 yes\n b/x > a/x UDP 80 no\n b/x > a/x 81 no");
    let udp = ports(json!([{"protocol": "UDP"}]));
    assert_allows(udp, "b/x > a/x UDP 80 yes\n b/x > a/x 80 no\n b/x > a/x ICMP 0 no");
    assert_allows(ports(json!([{}])), "b/x > a/x 1 yes\n b/x > a/x UDP 80 no");
    let range =
        ports(json!([{"port": 80, "endPort": 90}, {"port": 443, "endPort": 443}, {"protocol": "SCTP", "port": 1}]));
    assert_allows(
        range,
        "b/x > a/x 79 no\n b/x > a/x 80 yes\n b/x > a/x 90 yes\n b/x > a/x 91 no\n b/x > a/x 443 yes
         b/x > a/x SCTP 1 yes\n b/x > a/x SCTP 80 no",
    );
    let named = ports(json!([{"port": "web"}, {"protocol": "UDP", "port": "web"}]));
    assert_allows(named, "b/x > a/x 8080 yes\n b/x > a/x 80 no\n b/x > a/x UDP 8080 no\n b/x > a/x UDP 5353 no");
}

#[test]
fn policies_add_up_and_both_ends_are_asked() {
    let egress = policy(json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 80}]}]}));
    let mut more = policy(json!({"policyTypes": ["Egress"], "egress": [{"ports": [{"port": 81}]}]}));
    more["metadata"]["name"] = "q".into();
    let mut ingress = policy(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 81}]}]}));
    ingress["metadata"]["namespace"] = "b".into();
    let expect = "a/x > a/y 80 yes\n a/x > a/y 81 yes\n a/x > a/y 82 no\n a/x > b/x 80 no\n a/x > b/x 81 yes";
    assert_verdicts(&[egress, more, ingress], expect);
}

/// What is wrong, where that is, and what becomes of it.
fn assert_problem(spec: Value, path: &str, effect: Effect) {
    assert_eq!(problems(&policy(spec.clone())), [(path.to_owned(), effect)], "{spec}");
}

#[test]
fn a_rule_that_cannot_be_read_is_left_out_and_says_where() {
    let block = |block: Value| json!({"from": [{}, {"ipBlock": block}]});
    let port = |port: Value| json!({"ports": [{"port": 80}, port]});
    let label = |selector: Value| json!({"from": [{"podSelector": selector}]});
    let cases = [
        (json!(null), ""),
        (json!("any"), ""),
        (json!({"form": []}), ".form"),
        (json!({"to": []}), ".to"),
        (json!({"from": {}}), ".from"),
        (json!({"from": [null]}), ".from[0]"),
        (json!({"from": [{}]}), ".from[0]"),
        (json!({"from": [{"podSelektor": {}}]}), ".from[0].podSelektor"),
        (json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}), ".from[0].ipBlock"),
        (label(json!({"matchLabel": {}})), ".from[0].podSelector.matchLabel"),
        (label(json!({"matchLabels": {"app": 1}})), ".from[0].podSelector.matchLabels.app"),
        (label(json!({"matchLabels": {"-": "a"}})), ".from[0].podSelector.matchLabels"),
        (label(json!({"matchLabels": {"a": "a b"}})), ".from[0].podSelector.matchLabels"),
        (
            label(json!({"matchExpressions": [{"key": "a", "operator": "in", "values": ["b"]}]})),
            ".from[0].podSelector.matchExpressions[0].operator",
        ),
        (label(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})), ".from[0].podSelector.matchExpressions"),
        (
            label(json!({"matchExpressions": [{"key": "A/a", "operator": "DoesNotExist"}]})),
            ".from[0].podSelector.matchExpressions[0]",
        ),
        (block(json!({})), ".from[1].ipBlock.cidr"),
        (block(json!({"cidr": "10.0.0.0/33"})), ".from[1].ipBlock.cidr"),
        (block(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]})), ".from[1].ipBlock.except[0]"),
        (block(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "11.0.0.0/16"]})), ".from[1].ipBlock.except[1]"),
        (block(json!({"cidr": "10.0.0.0/8", "except": ["fd00::/64"]})), ".from[1].ipBlock.except[0]"),
        (block(json!({"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"})), ".from[1].ipBlock.except"),
        (port(json!({"port": 0})), ".ports[1].port"),
        (port(json!({"port": 65536})), ".ports[1].port"),
        (port(json!({"port": 1.5})), ".ports[1].port"),
        (port(json!({"port": "80"})), ".ports[1].port"),
        (port(json!({"port": "Web"})), ".ports[1].port"),
        (port(json!({"port": "web", "endPort": 90})), ".ports[1].endPort"),
        (port(json!({"endPort": 90})), ".ports[1].endPort"),
        (port(json!({"port": 80, "endPort": 79})), ".ports[1].endPort"),
        (port(json!({"port": 80, "endPort": 70_000})), ".ports[1].endPort"),
        (port(json!({"protocol": "tcp"})), ".ports[1].protocol"),
        (port(json!({"protocol": "ICMP"})), ".ports[1].protocol"),
    ];
    for (rule, path) in cases {
        let spec = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 443}]}, rule]});
        let found = problems(&policy(spec.clone()));
        // The first peer of the blocks is wrong as well, so that both are seen to be reported.
        let wanted = (format!("spec.ingress[1]{path}"), Effect::RuleClosed);
        assert_eq!(found.last(), Some(&wanted), "{spec}");
        assert_eq!(found.len(), if path.starts_with(".from[1]") { 2 } else { 1 }, "{found:?}");
        assert_verdicts(
            &[policy(spec)],
            "b/x > a/x 443 yes\n b/x > a/x 80 no\n 203.0.113.9 > a/x 90 no\n a/x > b/x 1 yes",
        );
    }
}

#[test]
fn a_spec_that_cannot_be_read_closes_its_pods_and_says_where() {
    let x = json!({"matchLabels": {"app": "x"}});
    let cases = [
        (json!({"podSelector": x, "rules": []}), "spec.rules"),
        (json!({"podSelector": x, "policyTypes": ["ingress"]}), "spec.policyTypes[0]"),
        (json!({"podSelector": x, "policyTypes": "Ingress"}), "spec.policyTypes"),
        (json!({"podSelector": x, "ingress": {}}), "spec.ingress"),
        (json!({"podSelector": x, "ingress": vec![json!({}); 5_001]}), "spec.ingress"),
    ];
    for (spec, path) in cases {
        assert_problem(spec.clone(), path, Effect::SubjectClosed);
        let expect = "b/x > a/x 80 no\n a/x > b/x 80 no\n b/x > a/y 80 yes\n a/y > b/x 80 yes";
        assert_verdicts(&[policy(spec)], expect);
    }
    let unreadable = json!({"podSelector": {"matchLabels": "x"}, "ingress": [{}]});
    assert_problem(unreadable.clone(), "spec.podSelector.matchLabels", Effect::SubjectClosed);
    assert_verdicts(&[policy(unreadable)], "b/x > a/x 80 no\n a/y > b/x 80 no\n b/x > b/y 80 yes");
    assert_problem(json!([]), "spec", Effect::SubjectClosed);
    let mut other = policy(json!({"ingress": [{}]}));
    other["apiVersion"] = "networking.k8s.io/v1beta1".into();
    assert_eq!(problems(&other), [("apiVersion".to_owned(), Effect::SubjectClosed)]);
    let mut other = policy(json!({"ingress": [{}]}));
    other["sepc"] = json!({});
    assert_eq!(problems(&other), [("sepc".to_owned(), Effect::SubjectClosed)]);
    let mut other = policy(json!({"ingress": [{}]}));
    other["metadata"]["annotations"] = json!({"a": "x".repeat(1 << 20)});
    assert_eq!(problems(&other), [("metadata.annotations".to_owned(), Effect::SubjectClosed)]);
}

#[test]
fn problems_say_what_would_be_right() {
    let detail = |spec: Value| reading(&policy(spec)).problems[0].to_string();
    let block = json!({"cidr": "10.0.0.0/16", "except": ["10.1.0.0/16"]});
    assert_eq!(
        detail(json!({"ingress": [{"from": [{"podSelector": {}}, {"ipBlock": block}]}]})),
        "NetworkPolicy a/p: spec.ingress[0].from[1].ipBlock.except[0]: 10.1.0.0/16 is no smaller part of 10.0.0.0/16; \
         write a prefix within it"
    );
    assert_eq!(detail(json!({"ingres": []})), "NetworkPolicy a/p: spec.ingres: no such key; did you mean `ingress`?");
    assert_eq!(
        detail(json!({"ingress": [{"ports": [{"port": "80"}]}]})),
        "NetworkPolicy a/p: spec.ingress[0].ports[0].port: \"80\" is no name of a port; write the number 80 without quotes"
    );
}

#[test]
fn the_annotation_stages_a_policy_and_another_word_leaves_it_enforced() {
    let annotated = |mode: &str, spec: Value| {
        let mut policy = policy(spec);
        policy["metadata"]["annotations"] = json!({"cnidarian.io/mode": mode});
        policy
    };
    for mode in ["staged", "audit"] {
        assert_eq!(reading(&annotated(mode, json!({}))).policies[0].mode, Mode::Staged);
        assert_verdicts(&[annotated(mode, json!({}))], "b/x > a/x 80 yes");
        assert_verdicts(&[annotated(mode, json!({"what": 1}))], "b/x > a/x 80 yes");
    }
    let unknown = reading(&annotated("stage", json!({})));
    assert_eq!(unknown.policies[0].mode, Mode::Enforced);
    assert_eq!(unknown.problems[0].effect, Effect::Warning);
    assert_eq!(unknown.problems[0].path, "metadata.annotations[cnidarian.io/mode]");
}

#[test]
fn a_policy_is_in_the_default_tier_and_isolates() {
    let policy = &reading(&policy(json!({"egress": [{}]}))).policies[0];
    assert_eq!((&*policy.tier, policy.order), (Tier::DEFAULT, Order::at(1_000)));
    assert!(policy.ingress.as_ref().unwrap().isolates && policy.egress.as_ref().unwrap().isolates);
    assert_eq!(&*policy.egress.as_ref().unwrap().rules[0].path, "spec.egress[0]");
}

const WORDS: &[&str] = &[
    "podSelector",
    "policyTypes",
    "ingress",
    "egress",
    "from",
    "to",
    "ports",
    "namespaceSelector",
    "ipBlock",
    "cidr",
    "except",
    "protocol",
    "port",
    "endPort",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "In",
    "Exists",
    "Ingress",
    "Egress",
    "TCP",
    "10.0.0.0/8",
    "::/0",
    "web",
];

fn selector(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let value = move || proptest::sample::select(values);
    prop_oneof![
        Just(json!({})),
        value().prop_map(move |value| json!({"matchLabels": {key: value}})),
        (proptest::sample::select(&["In", "NotIn"]), value())
            .prop_map(move |(operator, value)| json!({"matchExpressions": [{"key": key, "operator": operator, "values": [value]}]})),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    let pods = || selector("app", &["x", "y"]);
    let namespaces = || selector("team", &["red", "blue"]);
    prop_oneof![
        pods().prop_map(|pods| json!({"podSelector": pods})),
        namespaces().prop_map(|namespaces| json!({"namespaceSelector": namespaces})),
        (pods(), namespaces()).prop_map(|(pods, spaces)| json!({"podSelector": pods, "namespaceSelector": spaces})),
        Just(json!({"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.64/26"]}})),
        Just(json!({"ipBlock": {"cidr": "::/0"}})),
    ]
}

fn spec() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!({"port": 80})),
        Just(json!({"port": "web"})),
        Just(json!({"protocol": "UDP", "port": 80, "endPort": 6_000})),
        Just(json!({"protocol": "SCTP"})),
    ];
    let rules = |key: &'static str| {
        let peers = proptest::collection::vec(peer(), 0..3);
        let rule = (peers, proptest::collection::vec(port.clone(), 0..3));
        proptest::collection::vec(rule.prop_map(move |(peers, ports)| json!({key: peers, "ports": ports})), 0..3)
    };
    let types = proptest::sample::subsequence(vec!["Ingress", "Egress"], 0..=2);
    (selector("app", &["x", "y"]), types, rules("from"), rules("to")).prop_map(|(pods, types, ingress, egress)| {
        json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_and_what_is_wrong_at_the_spec_closes_it(spec in any_json(WORDS)) {
        read_any("networking.k8s.io/v1", "NetworkPolicy", spec);
    }

    #[test]
    fn a_good_policy_has_no_problem_and_what_is_spoilt_allows_no_more(spec in spec(), which: usize, unknown_key: bool) {
        let good = policy(spec);
        let found = problems(&good);
        prop_assert!(found.iter().all(|(_, effect)| *effect == Effect::Warning), "{found:?}");
        let spoilt = spoilt(&good, which, unknown_key);
        let found = problems(&spoilt);
        prop_assert!(found.iter().any(|(_, effect)| *effect < Effect::LeftOut), "{found:?}");
        assert_allows_no_more(&spoilt, &good);
    }
}
