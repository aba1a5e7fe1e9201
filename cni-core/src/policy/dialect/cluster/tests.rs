//! Laws of the cluster's network policies, on the verdicts of a small cluster (`dialect::testing`).

use crate::policy::dialect::testing::{
    any_json, assert_allows_no_more, assert_verdicts, problems, read_any, reading, spoilt,
};
use crate::policy::model::{Action, DnsPattern, Effect, Order, Peer, Protocol, Tier, Traffic};
use proptest::prelude::*;
use serde_json::{Value, json};

fn object(version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let api_version = format!("policy.networking.k8s.io/{version}");
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn cluster(spec: Value) -> Value {
    object("v1alpha2", "ClusterNetworkPolicy", "c", spec)
}

fn admin(spec: Value) -> Value {
    object("v1alpha1", "AdminNetworkPolicy", "a", spec)
}

fn baseline(spec: Value) -> Value {
    object("v1alpha1", "BaselineAdminNetworkPolicy", "default", spec)
}

/// A ClusterNetworkPolicy about all pods.
fn about_all(tier: &str, priority: i32, ingress: Value, egress: Value) -> Value {
    let subject = json!({"namespaces": {}});
    cluster(json!({"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress}))
}

/// An AdminNetworkPolicy about all pods.
fn admin_about_all(ingress: Value, egress: Value) -> Value {
    admin(json!({"priority": 1, "subject": {"namespaces": {}}, "ingress": ingress, "egress": egress}))
}

fn network_policy(spec: Value) -> Value {
    let metadata = json!({"name": "n", "namespace": "a"});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

fn named(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = name.into();
    object
}

fn assert_good(objects: &[Value], lines: &str) {
    for object in objects {
        assert_eq!(problems(object), [], "{object}");
    }
    assert_verdicts(objects, lines);
}

fn any_pod() -> Value {
    json!([{"namespaces": {}}])
}

#[test]
fn rules_are_walked_in_order_and_what_none_matches_is_left_to_the_next_tier() {
    let blue = json!([{"namespaces": {"matchLabels": {"team": "blue"}}}]);
    let rules = json!([
        {"action": "Accept", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "y"}}}}]},
        {"action": "Deny", "from": blue},
    ]);
    let expect = "b/y > a/x 80 yes\n b/x > a/x 80 no\n a/x > a/y 80 yes\n 203.0.113.9 > a/x 80 yes";
    assert_good(&[about_all("Admin", 1, rules, json!([]))], expect);
}

#[test]
fn lesser_priorities_come_first_and_then_the_admin_tier_network_policies_and_the_baseline() {
    let all = |action: &str| json!([{"action": action, "from": any_pod()}]);
    let policy = |tier, priority, action, name| named(about_all(tier, priority, all(action), json!([])), name);
    let question = |answer: &str| format!("b/x > a/x 80 {answer}");
    let deny_first = [policy("Admin", 2, "Accept", "a"), policy("Admin", 1, "Deny", "b")];
    assert_good(&deny_first, &question("no"));
    assert_good(&[policy("Admin", 1, "Accept", "a"), network_policy(json!({}))], &question("yes"));
    assert_good(&[policy("Admin", 1, "Pass", "a"), network_policy(json!({}))], &question("no"));
    let open = network_policy(json!({"ingress": [{}]}));
    assert_good(&[policy("Baseline", 1, "Deny", "a"), open], &question("yes"));
    assert_good(&[policy("Baseline", 1, "Deny", "a")], &question("no"));
    let passed = [policy("Admin", 1, "Pass", "a"), policy("Admin", 2, "Deny", "b"), policy("Baseline", 0, "Deny", "c")];
    assert_good(&passed[..2], &question("yes"));
    assert_good(&passed, &question("no"));
}

#[test]
fn the_baseline_admin_network_policy_comes_after_every_cluster_network_policy_of_its_tier() {
    let last = baseline(json!({"subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": any_pod()}]}));
    let all = json!([{"action": "Accept", "from": [{"namespaces": {"matchLabels": {"team": "blue"}}}]}]);
    let first = about_all("Baseline", 1_000, all, json!([]));
    assert_good(&[last.clone(), first], "b/x > a/x 80 yes\n a/y > a/x 80 no");
    let policy = &reading(&last).policies[0];
    assert_eq!((&*policy.tier, policy.order), (Tier::BASELINE, Order::at(1_001)));
}

#[test]
fn a_subject_is_namespaces_or_pods_of_namespaces() {
    let with = |subject: Value| {
        cluster(json!({
            "tier": "Admin", "priority": 0, "subject": subject, "ingress": [{"action": "Deny", "from": any_pod()}],
        }))
    };
    let red = json!({"matchLabels": {"team": "red"}});
    assert_good(&[with(json!({"namespaces": red}))], "b/x > a/x 80 no\n b/x > b/y 80 yes");
    let x = json!({"matchLabels": {"app": "x"}});
    let pods = json!({"pods": {"namespaceSelector": red, "podSelector": x}});
    assert_good(&[with(pods)], "b/x > a/x 80 no\n b/x > a/y 80 yes\n b/y > b/x 80 yes");
    // v1alpha2 only: no selector of namespaces is all of them.
    assert_verdicts(
        &[with(json!({"pods": {"podSelector": x}}))],
        "b/y > a/x 80 no\n b/y > b/x 80 no\n b/x > b/y 80 yes",
    );
}

#[test]
fn networks_are_every_address_and_nodes_are_those_of_nodes() {
    let to = |peer: Value| json!([{"action": "Deny", "to": [peer]}]);
    let deny = |peer: Value| about_all("Admin", 1, json!([]), to(peer));
    let everywhere = deny(json!({"networks": ["0.0.0.0/0"]}));
    assert_good(
        &[everywhere],
        "a/x > b/x 80 no\n a/x > 203.0.113.9 80 no\n a/x > 2001:db8::1 80 yes\n a/x > 192.0.2.1 80 no",
    );
    let nodes = deny(json!({"nodes": {"matchLabels": {"role": "infra"}}}));
    assert_good(&[nodes], "a/x > 192.0.2.1 80 no\n a/x > b/x 80 yes\n a/x > 203.0.113.9 80 yes");
    assert_good(
        &[deny(json!({"namespaces": {}}))],
        "a/x > b/x 80 no\n a/x > 192.0.2.1 80 yes\n a/x > 203.0.113.9 80 yes",
    );
}

#[test]
fn protocols_of_v1alpha2_are_ports_ranges_and_names() {
    let with = |protocols: Value| {
        about_all("Admin", 1, json!([{"action": "Deny", "from": any_pod(), "protocols": protocols}]), json!([]))
    };
    let several = with(json!([
        {"tcp": {"destinationPort": {"number": 80}}},
        {"udp": {"destinationPort": {"range": {"start": 10, "end": 20}}}},
        {"destinationNamedPort": "dns"},
    ]));
    assert_good(
        &[several],
        "b/x > a/x 80 no\n b/x > a/x 81 yes\n b/x > a/x UDP 10 no\n b/x > a/x UDP 20 no\n b/x > a/x UDP 21 yes
         b/x > a/x UDP 5353 no\n b/x > a/x 5353 yes\n b/x > a/x ICMP 0 yes",
    );
    let sctp = with(json!([{"sctp": {"destinationPort": {"number": 80}}}]));
    assert_good(&[sctp], "b/x > a/x SCTP 80 no\n b/x > a/x 80 yes");
    let any = about_all("Admin", 1, json!([{"action": "Deny", "from": any_pod()}]), json!([]));
    assert_good(&[any], "b/x > a/x ICMP 0 no\n b/x > a/x SCTP 1 no");
}

#[test]
fn ports_of_v1alpha1_are_numbers_ranges_and_names() {
    let with =
        |ports: Value| admin_about_all(json!([{"action": "Deny", "from": any_pod(), "ports": ports}]), json!([]));
    let several = with(json!([
        {"portNumber": {"port": 80}},
        {"portNumber": {"protocol": "SCTP", "port": 7}},
        {"portRange": {"protocol": "UDP", "start": 10, "end": 20}},
        {"namedPort": "web"},
    ]));
    assert_good(
        &[several],
        "b/x > a/x 80 no\n b/x > a/x UDP 80 yes\n b/x > a/x SCTP 7 no\n b/x > a/x UDP 15 no\n b/x > a/x 15 yes
         b/x > a/x 8080 no\n b/x > a/x UDP 8080 yes",
    );
}

#[test]
fn domain_names_are_read_into_the_model_and_match_nothing_until_there_is_a_proxy() {
    let to = json!([{"domainNames": ["Example.org.", "*.a.example.org"]}]);
    let policy = about_all("Admin", 1, json!([]), json!([{"action": "Accept", "to": to}]));
    let rule = reading(&policy).policies[0].egress.as_ref().unwrap().rules[0].clone();
    let names = vec![DnsPattern::Name("example.org".into()), DnsPattern::Below("a.example.org".into())];
    assert_eq!(rule.destination, Peer::Names(names));
    let close = network_policy(json!({"policyTypes": ["Egress"]}));
    assert_good(&[policy, close], "a/x > 203.0.113.9 80 no");
}

#[test]
fn without_rules_in_a_direction_a_policy_has_no_say_in_it() {
    let policy = &reading(&about_all("Admin", 1, json!([]), json!([{"action": "Pass", "to": any_pod()}]))).policies[0];
    assert_eq!(policy.ingress, None);
    assert!(!policy.egress.as_ref().unwrap().isolates);
    assert_eq!((&*policy.tier, policy.order), (Tier::ADMIN, Order::at(1)));
}

/// Rules of v1alpha2 with one thing wrong, and where.
fn bad_rules() -> Vec<(Value, &'static str)> {
    let peer = |peer: Value| json!({"to": [{"namespaces": {}}, peer]});
    let protocol = |protocol: Value| json!({"to": [{"namespaces": {}}], "protocols": [protocol]});
    let tcp = |port: Value| protocol(json!({"tcp": {"destinationPort": port}}));
    vec![
        (json!({}), ".to"),
        (json!({"to": []}), ".to"),
        (json!({"to": {}}), ".to"),
        (json!({"to": vec![json!({"namespaces": {}}); 26]}), ".to"),
        (json!({"to": [{"namespaces": {}}], "ports": []}), ".ports"),
        (json!({"to": [{"namespaces": {}}], "name": "n".repeat(101)}), ".name"),
        (json!({"to": [{"namespaces": {}}], "protocols": []}), ".protocols"),
        (peer(json!({})), ".to[1]"),
        (peer(json!({"services": {}})), ".to[1].services"),
        (peer(json!({"namespaces": {}, "nodes": {}})), ".to[1]"),
        (peer(json!({"namespaces": {"matchLabels": {"a": 1}}})), ".to[1].namespaces.matchLabels.a"),
        (peer(json!({"pods": {"podSelektor": {}}})), ".to[1].pods.podSelektor"),
        (peer(json!({"networks": []})), ".to[1].networks"),
        (peer(json!({"networks": ["10.0.0.0/8", "all"]})), ".to[1].networks[1]"),
        (peer(json!({"networks": vec!["10.0.0.0/8"; 26]})), ".to[1].networks"),
        (protocol(json!({})), ".protocols[0]"),
        (protocol(json!({"icmp": {}})), ".protocols[0].icmp"),
        (protocol(json!({"tcp": {}})), ".protocols[0].tcp.destinationPort"),
        (tcp(json!({})), ".protocols[0].tcp.destinationPort"),
        (tcp(json!({"number": 0})), ".protocols[0].tcp.destinationPort.number"),
        (tcp(json!({"number": 1, "range": {}})), ".protocols[0].tcp.destinationPort"),
        (tcp(json!({"range": {"start": 5, "end": 5}})), ".protocols[0].tcp.destinationPort.range.end"),
        (tcp(json!({"range": {"start": 5}})), ".protocols[0].tcp.destinationPort.range.end"),
        (protocol(json!({"destinationNamedPort": ""})), ".protocols[0].destinationNamedPort"),
    ]
}

#[test]
fn a_rule_that_cannot_be_read_accepts_nothing_or_denies_everybody_and_says_where() {
    for (mut rule, path) in bad_rules() {
        for action in ["Accept", "Deny", "Pass"] {
            rule["action"] = action.into();
            let policy = about_all(
                "Admin",
                1,
                json!([]),
                json!([{"action": "Accept", "to": any_pod(), "protocols": [
                {"tcp": {"destinationPort": {"number": 443}}},
            ]}, rule]),
            );
            let wanted = (format!("spec.egress[1]{path}"), Effect::RuleClosed);
            assert_eq!(problems(&policy), [wanted], "{rule}");
            let rules = &reading(&policy).policies[0].egress.as_ref().unwrap().rules.clone();
            let close = network_policy(json!({"policyTypes": ["Egress"]}));
            assert_verdicts(&[policy.clone(), close], "a/x > b/x 443 yes\n a/x > b/x 80 no");
            if action == "Accept" {
                assert_eq!(rules.len(), 1, "{rule}");
                assert_verdicts(&[policy], "a/x > b/x 80 yes");
            } else {
                assert_eq!((rules[1].action, &rules[1].destination), (Action::Deny, &Peer::Anything), "{rule}");
            }
        }
    }
}

#[test]
fn a_closed_denial_keeps_its_traffic_where_that_can_be_read() {
    let rule = |traffic: Value| json!([{"action": "Deny", "from": [{"who": {}}], "protocols": traffic}]);
    let traffic = |rules: Value| {
        let policy = about_all("Admin", 1, rules, json!([]));
        reading(&policy).policies[0].ingress.as_ref().unwrap().rules[0].traffic.clone()
    };
    let tcp = json!([{"tcp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}}]);
    assert_eq!(traffic(rule(tcp.clone()))[0].protocol, Some(Protocol::TCP));
    assert_eq!(traffic(rule(json!([{"tcp": 80}]))), [Traffic::any()]);
    let mut unknown = rule(tcp);
    unknown[0]["sourcePorts"] = json!([]);
    assert_eq!(traffic(unknown), [Traffic::any()]);
}

#[test]
fn an_action_that_is_not_known_denies() {
    for action in [json!("Allow"), json!("accept"), json!(1), json!(null)] {
        let policy = about_all("Baseline", 1, json!([{"action": action, "from": any_pod()}]), json!([]));
        assert_eq!(problems(&policy), [("spec.ingress[0].action".to_owned(), Effect::RuleClosed)]);
        assert_verdicts(&[policy], "b/x > a/x 80 no\n 203.0.113.9 > a/x 80 no");
    }
    let pass = baseline(json!({"subject": {"namespaces": {}}, "ingress": [{"action": "Pass", "from": any_pod()}]}));
    assert_eq!(problems(&pass), [("spec.ingress[0].action".to_owned(), Effect::RuleClosed)]);
    assert_verdicts(&[about_all("Admin", 1, json!(["what"]), json!([]))], "b/x > a/x 80 no");
}

#[test]
fn domain_names_stand_in_rules_that_accept_egress() {
    let names = |names: Value| json!([{"domainNames": names}]);
    let path = |policy: &Value| problems(policy).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    let good = names(json!(["example.org"]));
    let deny = about_all("Admin", 1, json!([]), json!([{"action": "Deny", "to": good}]));
    assert_eq!(path(&deny), ["spec.egress[0].to[0].domainNames"]);
    assert_verdicts(&[deny], "a/x > 203.0.113.9 80 no\n a/x > b/x 80 no");
    let ingress = about_all("Admin", 1, json!([{"action": "Accept", "from": good}]), json!([]));
    assert_eq!(path(&ingress), ["spec.ingress[0].from[0].domainNames"]);
    for bad in ["org", "*.org", "*", "a.*.org", "a..org", "-a.org", "a b.org", ""] {
        let policy = about_all("Admin", 1, json!([]), json!([{"action": "Accept", "to": names(json!([bad]))}]));
        assert_eq!(path(&policy), ["spec.egress[0].to[0].domainNames[0]"], "{bad}");
    }
}

#[test]
fn a_spec_that_cannot_be_read_closes_its_subject_and_says_where() {
    let red = || json!({"namespaces": {"matchLabels": {"team": "red"}}});
    let with = |key: &str, value: Value| {
        let mut spec = json!({"tier": "Admin", "priority": 1, "subject": red()});
        spec[key] = value;
        cluster(spec)
    };
    let closes_red = "b/x > a/x 80 no\n a/x > b/x 80 no\n b/x > b/y 80 yes";
    let closes_all = "b/x > a/x 80 no\n b/x > b/y 80 no";
    let rule = json!({"action": "Pass", "from": any_pod()});
    let cases = [
        (with("tier", json!("admin")), "spec.tier", closes_red),
        (with("tier", json!(null)), "spec.tier", closes_red),
        (with("priority", json!(1_001)), "spec.priority", closes_red),
        (with("priority", json!(-1)), "spec.priority", closes_red),
        (with("priority", json!("1")), "spec.priority", closes_red),
        (with("rules", json!([])), "spec.rules", closes_red),
        (with("ingress", json!({})), "spec.ingress", closes_red),
        (with("ingress", json!(vec![rule.clone(); 26])), "spec.ingress", closes_red),
        (with("subject", json!(null)), "spec.subject", closes_all),
        (with("subject", json!({})), "spec.subject", closes_all),
        (with("subject", json!({"namespaces": {}, "pods": {"podSelector": {}}})), "spec.subject", closes_all),
        (with("subject", json!({"namespaces": {"match": {}}})), "spec.subject.namespaces.match", closes_all),
        (cluster(json!("all")), "spec", closes_all),
        (cluster(json!(null)), "spec", closes_all),
        (admin(json!({"subject": red()})), "spec.priority", closes_red),
        (admin(json!({"subject": red(), "priority": 1, "tier": "Admin"})), "spec.tier", closes_red),
        (admin(json!({"subject": red(), "priority": 1, "egress": vec![rule; 101]})), "spec.egress", closes_red),
        (named(baseline(json!({"subject": red()})), "other"), "metadata.name", closes_red),
    ];
    for (policy, path, lines) in cases {
        let found: Vec<_> =
            problems(&policy).into_iter().filter(|(_, effect)| *effect == Effect::SubjectClosed).collect();
        assert_eq!(found, [(path.to_owned(), Effect::SubjectClosed)], "{policy}");
        assert_verdicts(&[policy], lines);
    }
    let mut other = about_all("Admin", 1, json!([]), json!([]));
    other["apiVersion"] = "policy.networking.k8s.io/v1alpha3".into();
    assert_eq!(problems(&other), [("apiVersion".to_owned(), Effect::SubjectClosed)]);
}

#[test]
fn a_port_name_with_who_names_no_ports_accepts_less_and_denies_everybody() {
    let rule = |action: &str| {
        let to = json!([{"networks": ["0.0.0.0/0"]}]);
        let policy = json!({"action": action, "to": to, "ports": [{"namedPort": "web"}, {"portNumber": {"port": 80}}]});
        admin_about_all(json!([]), json!([policy]))
    };
    let path = || "spec.egress[0].ports[0].namedPort".to_owned();
    let close = network_policy(json!({"policyTypes": ["Egress"]}));
    assert_eq!(problems(&rule("Allow")), [(path(), Effect::Warning)]);
    let expect = "a/x > 203.0.113.9 80 yes\n a/x > 203.0.113.9 8080 no\n a/x > b/x 8080 yes";
    assert_verdicts(&[rule("Allow"), close], expect);
    for action in ["Deny", "Pass"] {
        assert_eq!(problems(&rule(action)), [(path(), Effect::RuleClosed)]);
        assert_verdicts(&[rule(action)], "a/x > 203.0.113.9 80 no\n a/x > b/x 8080 no\n a/x > 203.0.113.9 UDP 5 yes");
    }
}

#[test]
fn a_missing_selector_in_pods_selects_all_and_is_warned_of() {
    let pods = json!([{"pods": {"namespaceSelector": {"matchLabels": {"team": "blue"}}}}]);
    let policy = admin_about_all(json!([{"action": "Deny", "from": pods}]), json!([]));
    assert_eq!(problems(&policy), [("spec.ingress[0].from[0].pods.podSelector".to_owned(), Effect::Warning)]);
    assert_verdicts(&[policy], "b/x > a/x 80 no\n b/y > a/x 80 no\n a/y > a/x 80 yes");
}

#[test]
fn rules_of_v1alpha1_that_cannot_be_read_say_where() {
    let ports = |port: Value| json!({"action": "Deny", "to": any_pod(), "ports": [port]});
    let cases = [
        (ports(json!({})), ".ports[0]"),
        (ports(json!({"portNumber": {"protocol": "TCP"}})), ".ports[0].portNumber.port"),
        (ports(json!({"portNumber": {"protocol": "tcp", "port": 1}})), ".ports[0].portNumber.protocol"),
        (ports(json!({"portRange": {"start": 2, "end": 1}})), ".ports[0].portRange.end"),
        (ports(json!({"namedPort": "80"})), ".ports[0].namedPort"),
        (json!({"action": "Deny", "to": any_pod(), "ports": []}), ".ports"),
        (json!({"action": "Accept", "to": any_pod()}), ".action"),
    ];
    for (rule, path) in cases {
        let policy = admin_about_all(json!([]), json!([rule]));
        assert_eq!(problems(&policy), [(format!("spec.egress[0]{path}"), Effect::RuleClosed)]);
        assert_verdicts(&[policy], "a/x > b/x 1 no");
    }
}

const WORDS: &[&str] = &[
    "tier",
    "priority",
    "subject",
    "ingress",
    "egress",
    "namespaces",
    "pods",
    "nodes",
    "networks",
    "domainNames",
    "from",
    "to",
    "action",
    "name",
    "protocols",
    "ports",
    "tcp",
    "udp",
    "destinationPort",
    "number",
    "range",
    "start",
    "end",
    "portNumber",
    "portRange",
    "namedPort",
    "destinationNamedPort",
    "matchLabels",
    "podSelector",
    "namespaceSelector",
    "Admin",
    "Baseline",
    "Accept",
    "Allow",
    "Deny",
    "Pass",
    "10.0.0.0/8",
    "a.example.org",
    "web",
    "TCP",
];

fn labels(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let some = proptest::sample::select(values).prop_map(move |value| json!({"matchLabels": {key: value}}));
    prop_oneof![Just(json!({})), some]
}

fn pods() -> impl Strategy<Value = Value> {
    let (namespaces, pods) = (labels("team", &["red", "blue"]), labels("app", &["x", "y"]));
    (namespaces, pods, any::<bool>()).prop_map(|(namespaces, pods, with_pods)| match with_pods {
        true => json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}}),
        false => json!({"namespaces": namespaces}),
    })
}

fn rules(direction: &'static str) -> impl Strategy<Value = Value> {
    let outside = prop_oneof![
        Just(json!({"networks": ["203.0.113.0/26", "::/0"]})),
        Just(json!({"networks": ["10.0.1.0/24"]})),
        Just(json!({"nodes": {}})),
    ];
    let peer = if direction == "to" { prop_oneof![pods(), outside].boxed() } else { pods().boxed() };
    let port = prop_oneof![
        Just(json!({"tcp": {"destinationPort": {"number": 80}}})),
        Just(json!({"udp": {"destinationPort": {"range": {"start": 80, "end": 6_000}}}})),
    ];
    let action = proptest::sample::select(&["Accept", "Deny", "Pass"]);
    let peers = proptest::collection::vec(peer, 1..3);
    let rule = (action, peers, proptest::collection::vec(port, 0..3)).prop_map(move |(action, peers, protocols)| {
        let mut rule = json!({"action": action, direction: peers});
        if !protocols.is_empty() {
            rule["protocols"] = protocols.into();
        }
        rule
    });
    proptest::collection::vec(rule, 0..4).prop_map(Value::from)
}

fn spec() -> impl Strategy<Value = Value> {
    let tier = proptest::sample::select(&["Admin", "Baseline"]);
    (tier, 0..=1_000, pods(), rules("from"), rules("to")).prop_map(|(tier, priority, subject, ingress, egress)| {
        json!({"tier": tier, "priority": priority, "subject": subject, "ingress": ingress, "egress": egress})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn reading_never_panics_and_what_is_wrong_at_the_spec_closes_it(spec in any_json(WORDS)) {
        read_any("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", spec.clone());
        read_any("policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", spec.clone());
        read_any("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", spec);
    }

    #[test]
    fn a_good_policy_has_no_problem_and_what_is_spoilt_allows_no_more(spec in spec(), which: usize, unknown_key: bool) {
        let good = cluster(spec);
        prop_assert_eq!(problems(&good), []);
        let spoilt = spoilt(&good, which, unknown_key);
        let found = problems(&spoilt);
        prop_assert!(found.iter().any(|(_, effect)| *effect < Effect::LeftOut), "{found:?}");
        assert_allows_no_more(&spoilt, &good);
    }
}
