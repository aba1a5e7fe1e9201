//! Laws of Calico's policies, on the verdicts of a small cluster (`dialect::testing`).

use crate::policy::dialect::testing::{
    any_json, assert_allows_no_more, assert_verdicts, problems, read_any, reading, spoilt,
};
use crate::policy::model::{Effect, Layer7, Mode, Order, Tier, TierEnd};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A policy of namespace `a`.
fn policy(spec: Value) -> Value {
    json!({
        "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "a"}, "spec": spec,
    })
}

fn global(spec: Value) -> Value {
    json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "g"}, "spec": spec})
}

fn assert_allows(policy: Value, lines: &str) {
    assert_eq!(problems(&policy), []);
    assert_verdicts(&[policy], lines);
}

#[test]
fn a_policy_of_a_namespace_is_about_its_pods_and_its_selectors_stay_there() {
    let allow_y =
        json!({"selector": "app == 'x'", "ingress": [{"action": "Allow", "source": {"selector": "app == 'y'"}}]});
    assert_allows(policy(allow_y), "a/y > a/x 80 yes\n b/y > a/x 80 no\n b/x > a/y 80 yes\n b/y > b/x 80 yes");
    let elsewhere = json!({"ingress": [{"action": "Allow", "source": {"namespaceSelector": "team == 'blue'"}}]});
    assert_allows(policy(elsewhere), "b/y > a/x 80 yes\n a/y > a/x 80 no\n 203.0.113.9 > a/x 80 no");
    let both = json!({"source": {"namespaceSelector": "all()", "selector": "app == 'y'"}, "action": "Allow"});
    assert_allows(policy(json!({"ingress": [both]})), "b/y > a/x 80 yes\n a/y > a/x 80 yes\n b/x > a/x 80 no");
}

#[test]
fn a_policy_of_the_cluster_selects_everywhere() {
    let spec = json!({"selector": "app == 'x'", "namespaceSelector": "team == 'red'",
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'y'"}}]});
    assert_allows(global(spec), "b/y > a/x 80 yes\n b/x > a/x 80 no\n b/x > a/y 80 yes\n a/x > b/x 80 yes");
}

#[test]
fn without_types_a_policy_is_about_the_directions_that_it_has_rules_for() {
    assert_allows(policy(json!({})), "b/x > a/x 80 no\n a/x > b/x 80 yes");
    let egress = json!({"egress": [{"action": "Allow", "destination": {"nets": ["10.0.2.1/32"]}}]});
    assert_allows(policy(egress), "b/x > a/x 80 yes\n a/x > b/x 80 yes\n a/x > b/y 80 no");
    assert_allows(policy(json!({"types": ["Egress"]})), "b/x > a/x 80 yes\n a/x > b/x 80 no");
}

#[test]
fn prefixes_hold_pods_and_negations_take_away() {
    let rule = json!({"action": "Allow", "source": {"nets": ["10.0.0.0/16"], "notNets": ["10.0.2.2/32"], "notSelector": "app == 'y'"}});
    assert_allows(
        global(json!({"selector": "app == 'x'", "namespaceSelector": "team == 'red'", "ingress": [rule]})),
        "b/x > a/x 80 yes\n b/y > a/x 80 no\n a/y > a/x 80 no\n 203.0.113.9 > a/x 80 no",
    );
}

#[test]
fn ports_protocols_and_messages_narrow_a_rule() {
    let rule = |rule: Value| policy(json!({"ingress": [rule]}));
    let ports = json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [80, "8000:9000", "web"], "notPorts": [8081]}});
    assert_allows(rule(ports), "b/x > a/x 80 yes\n b/x > a/x 8500 yes\n b/x > a/x 8081 no\n b/x > a/x UDP 80 no");
    let other = json!({"action": "Allow", "notProtocol": "TCP"});
    assert_allows(rule(other), "b/x > a/x 80 no\n b/x > a/x UDP 80 yes\n b/x > a/x ICMP 0 yes");
    let ping = json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 8}});
    assert_allows(rule(ping), "b/x > a/x ICMP 0 yes\n b/x > a/x 80 no");
    let no_ping = json!({"action": "Allow", "protocol": "ICMP", "notICMP": {"type": 8, "code": 0}});
    assert_allows(rule(no_ping), "b/x > a/x ICMP 0 no");
}

#[test]
fn order_decides_and_no_order_is_last() {
    let deny = |order: Value| {
        let mut policy = global(json!({"order": order, "types": ["Ingress"], "ingress": [{"action": "Deny"}]}));
        policy["metadata"]["name"] = json!("deny");
        policy
    };
    let allow = policy(json!({"order": 10, "ingress": [{"action": "Allow"}]}));
    assert_verdicts(&[deny(json!(9.5)), allow.clone()], "b/x > a/x 80 no");
    assert_verdicts(&[deny(json!(10.5)), allow.clone()], "b/x > a/x 80 yes");
    assert_verdicts(&[deny(Value::Null), allow], "b/x > a/x 80 yes");
}

#[test]
fn a_staged_policy_decides_nothing() {
    for (kind, spec) in [
        ("StagedNetworkPolicy", json!({"stagedAction": "Set"})),
        ("StagedKubernetesNetworkPolicy", json!({"podSelector": {}, "stagedAction": "Set"})),
    ] {
        let mut staged = policy(spec);
        staged["kind"] = json!(kind);
        assert_eq!(problems(&staged), [], "{kind}");
        assert_eq!(reading(&staged).policies[0].mode, Mode::Staged);
        assert_verdicts(&[staged.clone()], "b/x > a/x 80 yes");
        staged["spec"]["stagedAction"] = json!("Ignore");
        assert_eq!(reading(&staged).policies, []);
        staged["spec"]["noSuchKey"] = json!(1);
        assert_eq!(&*reading(&staged).policies[0].tier, Tier::CLOSED, "what cannot be read says so, and stays staged");
        assert_eq!(reading(&staged).policies[0].mode, Mode::Staged);
    }
}

#[test]
fn tiers_have_an_order_and_an_end() {
    let tier = |name: &str, spec: Value| {
        reading(
            &json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": spec}),
        )
    };
    let of = |name: &str, order, end| vec![Tier { name: name.into(), order, end }];
    assert_eq!(tier("t", json!({"order": 7, "defaultAction": "Pass"})).tiers, of("t", Order::at(7), TierEnd::Pass));
    assert_eq!(tier("t", json!({})).tiers, of("t", Order::LAST, TierEnd::Deny));
    for (name, spec) in
        [("t", json!({"order": "x"})), ("cnidarian-closed", json!({})), ("default", json!({"order": 3}))]
    {
        let reading = tier(name, spec);
        assert_eq!(reading.tiers, [], "{name}");
        assert!(reading.problems.iter().all(|problem| problem.effect == Effect::LeftOut));
    }
}

#[test]
fn http_is_kept_and_allows_nothing_yet() {
    let rule = json!({"action": "Allow", "http": {"methods": ["GET"], "paths": [{"prefix": "/a.b"}, {"exact": "/c"}]}});
    let policy = policy(json!({"ingress": [rule]}));
    let Some(Layer7::Http(rules)) = &reading(&policy).policies[0].ingress.as_ref().unwrap().rules[0].layer7.clone()
    else {
        panic!("no rules of HTTP");
    };
    let paths: Vec<_> = rules.iter().map(|rule| rule.path.as_deref().unwrap()).collect();
    assert_eq!(paths, [r"/a\.b.*", "/c"]);
    assert_allows(policy, "b/x > a/x 80 no");
}

#[test]
fn what_cannot_be_read_is_closed_and_named_by_its_path() {
    for (rule, path) in [
        (json!({"action": "Alow"}), "spec.ingress[1].action"),
        (json!({"action": "Deny", "source": {"selector": "a ="}}), "spec.ingress[1].source.selector"),
        (json!({"action": "Allow", "source": {"nets": ["10/8"]}}), "spec.ingress[1].source.nets[0]"),
        (json!({"action": "Allow", "source": {"domains": ["a.b"]}}), "spec.ingress[1].source.domains"),
        (json!({"action": "Allow", "destination": {"ports": [80]}}), "spec.ingress[1].protocol"),
        (
            json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": ["9:8"]}}),
            "spec.ingress[1].destination.ports[0]",
        ),
        (json!({"action": "Allow", "icmp": {"type": 8}}), "spec.ingress[1].protocol"),
        (
            json!({"action": "Allow", "destination": {"services": {"name": "s", "namespace": "a"}}}),
            "spec.ingress[1].destination.services",
        ),
    ] {
        assert_eq!(problems(&behind(&rule)), [(path.to_owned(), Effect::RuleClosed)], "{rule}");
        assert_verdicts(&[behind(&rule)], "b/x > a/x 80 yes\n b/y > a/x 80 no");
    }
    for (spec, path) in [
        (json!({"selector": "a ="}), "spec.selector"),
        (json!({"order": "first"}), "spec.order"),
        (json!({"tier": Tier::ADMIN, "ingress": [{"action": "Allow"}]}), "spec.tier"),
        (json!({"types": ["ingress"]}), "spec.types[0]"),
        (json!({"doNotTrack": true}), "spec.doNotTrack"),
    ] {
        assert_eq!(problems(&policy(spec.clone())), [(path.to_owned(), Effect::SubjectClosed)], "{spec}");
        assert_verdicts(&[policy(spec)], "b/x > a/x 80 no\n a/x > b/x 80 no\n b/x > b/y 80 yes");
    }
}

/// The rule behind one that allows `b/x`.
fn behind(rule: &Value) -> Value {
    policy(json!({"ingress": [{"action": "Allow", "source": {"nets": ["10.0.2.1/32"]}}, rule]}))
}

#[test]
fn policies_for_host_endpoints_only_leave_pods_alone() {
    let no_way_out = json!({"preDNAT": true, "applyOnForward": true, "types": ["Egress"]});
    assert_eq!(problems(&global(no_way_out)), [("spec.types".to_owned(), Effect::SubjectClosed)]);
    let spec = json!({"doNotTrack": true, "applyOnForward": true, "ingress": [{"action": "Deny"}]});
    assert_allows(global(spec), "b/x > a/x 80 yes");
}

const WORDS: &[&str] = &[
    "action",
    "Allow",
    "Deny",
    "Pass",
    "Log",
    "source",
    "destination",
    "selector",
    "notSelector",
    "namespaceSelector",
    "nets",
    "notNets",
    "ports",
    "protocol",
    "TCP",
    "ICMP",
    "icmp",
    "type",
    "code",
    "types",
    "Ingress",
    "Egress",
    "ingress",
    "egress",
    "order",
    "tier",
    "a == 'b'",
    "!has(x)",
    "10.0.0.0/8",
    "1:2",
    "ipVersion",
    "serviceAccounts",
    "names",
    "services",
    "name",
    "namespace",
    "http",
    "methods",
    "paths",
    "exact",
    "doNotTrack",
    "applyOnForward",
];

proptest! {
    #[test]
    fn any_json_is_read_without_a_panic_and_what_is_closed_says_so(spec in any_json(WORDS)) {
        read_any("projectcalico.org/v3", "GlobalNetworkPolicy", spec.clone());
        read_any("crd.projectcalico.org/v1", "NetworkPolicy", spec);
    }

    #[test]
    fn what_cannot_be_read_allows_no_more_than_what_can(which in 0_usize..200, unknown_key: bool) {
        let original = policy(json!({
            "order": 5, "selector": "app in {'x', 'y'}", "types": ["Ingress", "Egress"],
            "ingress": [
                {"action": "Deny", "protocol": "TCP", "destination": {"ports": [443]}},
                {"action": "Pass", "source": {"nets": ["203.0.113.0/24"]}},
                {"action": "Allow", "source": {"selector": "app == 'y'", "namespaceSelector": "all()"}},
            ],
            "egress": [{"action": "Allow", "protocol": "UDP", "destination": {"ports": [5353], "notNets": ["10.0.2.2/32"]}}],
        }));
        assert_allows_no_more(&spoilt(&original, which, unknown_key), &original);
    }
}
