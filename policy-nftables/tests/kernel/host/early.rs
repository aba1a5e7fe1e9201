//! Policies that decide before connections are tracked or destinations translated. Never the usual stage alone.

use super::fixed::{HOSTS, all_pass, named};
use super::{Cluster, host_endpoint, policy};
use cni_core::policy::model::{Action, Peer, Policy, PortRange, Ports, Protocol, Rule, Rules, Stage, Traffic};
use net_linux::conntrack::Conntrack;

fn one(port: u16) -> Option<Ports> {
    Some(Ports { ranges: vec![PortRange::one(port)], ..Ports::default() })
}

fn to_port(action: Action, protocol: Protocol, port: u16) -> Rule {
    let traffic = vec![Traffic { destination_ports: one(port), ..Traffic::of(protocol) }];
    Rule { traffic, ..Rule::new("spec.rules[0]", action) }
}

fn from_port(protocol: Protocol, port: u16) -> Rule {
    let traffic = vec![Traffic { source_ports: one(port), ..Traffic::of(protocol) }];
    Rule { traffic, ..Rule::new("spec.rules[0]", Action::Allow) }
}

fn rules(rule: Rule) -> Option<Rules> {
    Some(Rules { rules: vec![rule], isolates: true })
}

fn early(stage: Stage, name: &str, ingress: Option<Rules>, egress: Option<Rules>) -> Policy {
    Policy { stage, on_forward: true, ..policy(name, HOSTS, ingress, egress) }
}

/// A policy that allows everything in and out of the host.
fn allow_all(name: &str) -> Policy {
    let all = || rules(Rule::new("spec.rules[0]", Action::Allow));
    policy(name, HOSTS, all(), all())
}

#[test]
fn what_is_allowed_untracked_is_not_tracked_and_answers_need_a_rule_of_their_own() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), false, &[]));
    let ingress = rules(to_port(Action::Allow, Protocol::UDP, 80));
    cluster.put_policy(early(Stage::Untracked, "fast", ingress.clone(), None));
    cluster.commit();
    let to = cluster.node.node.addresses;
    assert!(to.iter().all(|address| !cluster.node.outside.udp(*address, 80)), "the answer is a new packet");
    cluster.put_policy(early(Stage::Untracked, "fast", ingress, rules(from_port(Protocol::UDP, 80))));
    cluster.commit();
    let node = &cluster.node;
    for address in to {
        assert!(node.outside.udp(address, 80) && !node.outside.udp(address, 81) && !node.outside.tcp(address, 80));
        assert!(node.outside.tcp(address, 81), "a failsafe port is tracked and open");
    }
    let flows = node.node.netns.run(|| Conntrack::open().unwrap().list().unwrap()).unwrap();
    let is_it = |flow: &&net_linux::conntrack::Flow| {
        flow.original.protocol == Protocol::UDP.0 && flow.original.ports.is_some_and(|(_, port)| port == 80)
    };
    assert_eq!(flows.iter().find(is_it), None);
    assert!(all_pass(&node.outside, &node.a) && all_pass(&node.a, &node.node), "what it does not decide goes on");
    // A denial holds, whatever later stages allow.
    cluster.put_policy(allow_all("later"));
    cluster.put_policy(early(Stage::Untracked, "fast", rules(to_port(Action::Deny, Protocol::TCP, 80)), None));
    cluster.commit();
    let node = &cluster.node;
    assert!(to.iter().all(|address| !node.outside.tcp(*address, 80) && node.outside.udp(*address, 80)));
    assert!(!node.outside.tcp(node.a.addresses[0], 80), "of what passes through as well");
    assert!(node.b.tcp(node.a.addresses[0], 80), "pods are not its interface");
}

#[test]
fn before_translation_the_port_that_the_client_asked_for_counts_and_what_is_allowed_is_asked_no_more() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), true, &[]));
    cluster.node.nft(
        "add table ip svc; add chain ip svc pre { type nat hook prerouting priority -100; }; \
              add rule ip svc pre ip daddr 192.0.2.1 tcp dport 8080 dnat to 10.9.0.2:80",
    );
    let address = cluster.node.node.addresses[0];
    assert!(cluster.node.outside.tcp(address, 8080));
    cluster.put_policy(early(Stage::BeforeNat, "no-8080", rules(to_port(Action::Deny, Protocol::TCP, 8080)), None));
    cluster.commit();
    let node = &cluster.node;
    assert!(!node.outside.tcp(address, 8080) && node.outside.tcp(node.b.addresses[0], 80));
    assert!(node.counted("GlobalNetworkPolicy no-8080 ingress spec.rules[0]") >= 1);
    // Closed to what passes through, but for what was allowed before translation.
    cluster.remove_policies();
    let nobody = policy("closed", HOSTS, rules(Rule { source: Peer::Nothing, ..Rule::new("r", Action::Allow) }), None);
    cluster.put_policy(Policy { on_forward: true, ..nobody });
    cluster.commit();
    assert!(!cluster.node.outside.tcp(address, 8080));
    cluster.put_policy(early(Stage::BeforeNat, "8080", rules(to_port(Action::Allow, Protocol::TCP, 8080)), None));
    cluster.commit();
    let node = &cluster.node;
    let mut stream = node.outside.connect(address, 8080);
    assert!(stream.echoes() && !node.outside.tcp(node.b.addresses[0], 80) && !node.outside.tcp(address, 80));
    // A pod's own policies are asked all the same.
    let pods = cni_core::policy::model::Kinds::PODS;
    cluster.put_policy(policy("pods", pods, rules(to_port(Action::Allow, Protocol::TCP, 81)), None));
    cluster.commit();
    assert!(!cluster.node.outside.tcp(address, 8080));
}

#[test]
fn marks_of_early_stages_do_not_leave_the_filters() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), true, &[]));
    let both = || rules(Rule::new("spec.rules[0]", Action::Allow));
    cluster.put_policy(early(Stage::Untracked, "all", both(), both()));
    cluster.node.nft(
        "add table inet t; \
         add chain inet t in { type filter hook input priority 300; }; \
         add chain inet t out { type filter hook postrouting priority 300; }; \
         add rule inet t in meta mark & 0x700000 != 0 counter comment \"leaked\"; \
         add rule inet t out meta mark & 0x700000 != 0 counter comment \"leaked\"",
    );
    cluster.commit();
    let node = &cluster.node;
    assert!(all_pass(&node.outside, &node.node) && all_pass(&node.node, &node.outside));
    assert!(all_pass(&node.outside, &node.a));
    let listed = node.nft("list table inet t");
    assert_eq!(listed.matches("counter packets 0 bytes 0 comment \"leaked\"").count(), 2, "{listed}");
}
