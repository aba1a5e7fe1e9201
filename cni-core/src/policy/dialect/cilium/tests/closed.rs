//! What cannot be read of Cilium's policies. Never what can.

use super::{app_x, assert_allows, from, policy};
use crate::policy::dialect::testing::{
    any_json, assert_allows_no_more, assert_verdicts, problems, read_any, reading, spoilt,
};
use crate::policy::model::{Effect, Tier};
use proptest::prelude::*;
use serde_json::{Value, json};

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
