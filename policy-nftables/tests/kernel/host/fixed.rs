//! Host endpoints and policies about nodes, one law at a time. Never a random policy.

use super::{Cluster, host_endpoint, policy};
use crate::node::Host;
use cni_core::policy::model::{Action, HostInterfaces, Kinds, Mode, Peer, Policy, Rule, Rules, WorkloadKind};

pub(super) const HOSTS: Kinds = Kinds::of(WorkloadKind::HostEndpoint);

/// What arrives on port 80, over both protocols and families, and ICMP: all or nothing.
pub(super) fn all_pass(from: &Host, to: &Host) -> bool {
    let each = to.addresses.map(|address| [from.tcp(address, 80), from.udp(address, 80), from.ping(address)]);
    let all = each.concat();
    assert!(all.iter().all(|one| *one == all[0]), "TCP, UDP, ICMP over IPv4, then IPv6: {all:?}");
    all[0]
}

fn failsafe_passes(from: &Host, to: &Host) -> bool {
    to.addresses.iter().all(|address| from.tcp(*address, 81) && !from.udp(*address, 81))
}

pub(super) fn named() -> HostInterfaces {
    HostInterfaces::Named("eth0".into())
}

fn allow_from(peer: Peer) -> Option<Rules> {
    let rule = Rule { source: peer, ..Rule::new("spec.ingress[0]", Action::Allow) };
    Some(Rules { rules: vec![rule], isolates: true })
}

#[test]
fn a_host_endpoint_without_policy_and_profile_closes_its_interface_but_for_failsafe_ports() {
    let mut cluster = Cluster::new();
    assert!(!cluster.node.nft("list table inet cnidarian").contains("pol-host"), "nothing for nothing");
    cluster.put(host_endpoint("hep", named(), false, &[]));
    cluster.commit();
    let node = &cluster.node;
    assert!(!all_pass(&node.outside, &node.node) && !all_pass(&node.node, &node.outside));
    assert!(failsafe_passes(&node.outside, &node.node) && failsafe_passes(&node.node, &node.outside));
    // Pods are not its interface; what passes through is not for the host; a host reaches itself.
    for (from, to) in [(&node.a, &node.node), (&node.node, &node.a), (&node.outside, &node.a), (&node.a, &node.outside)]
    {
        assert!(all_pass(from, to));
    }
    assert!(all_pass(&node.node, &node.node));
    cluster.put(host_endpoint("hep", named(), true, &[]));
    cluster.commit();
    assert!(all_pass(&cluster.node.outside, &cluster.node.node) && all_pass(&cluster.node.node, &cluster.node.outside));
    assert!(!cluster.node.nft("list table inet cnidarian").contains("pol-hep"), "an open one is as none");
}

#[test]
fn one_that_names_its_interface_comes_before_that_of_all_and_one_by_address_is_found() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("all", HostInterfaces::All, false, &[]));
    cluster.commit();
    assert!(!all_pass(&cluster.node.outside, &cluster.node.node));
    cluster.put(host_endpoint("hep", named(), true, &[]));
    cluster.commit();
    assert!(all_pass(&cluster.node.outside, &cluster.node.node));
    cluster.remove_host_endpoints();
    let addresses = cluster.node.node.addresses;
    cluster.put(host_endpoint("by-address", HostInterfaces::ByAddress, false, &addresses[..1]));
    cluster.commit();
    assert!(!all_pass(&cluster.node.outside, &cluster.node.node), "all of the interface, also the other family");
}

#[test]
fn policies_of_host_endpoints_decide_about_the_host_and_answers_follow() {
    let mut cluster = Cluster::new();
    let outside = cluster.node.outside.addresses;
    cluster.put(host_endpoint("hep", named(), true, &[]));
    let from_outside = Peer::Networks(outside.iter().map(|address| (*address).into()).collect());
    cluster.put_policy(policy("in", HOSTS, allow_from(from_outside), None));
    cluster.commit();
    let node = &cluster.node;
    assert!(all_pass(&node.outside, &node.node) && all_pass(&node.node, &node.outside));
    cluster.put_policy(policy("in", HOSTS, allow_from(Peer::Nothing), None));
    cluster.commit();
    let node = &cluster.node;
    assert!(!all_pass(&node.outside, &node.node) && failsafe_passes(&node.outside, &node.node));
    assert!(all_pass(&node.node, &node.outside), "answers are no new connections");
    assert!(all_pass(&node.a, &node.node), "host endpoints have no say between the node and its own pods");
    assert!(node.counted("end of tier default ingress host endpoint hep") >= 6);
    cluster.remove_policies();
    cluster.commit();
    assert!(all_pass(&cluster.node.outside, &cluster.node.node));
}

#[test]
fn policies_about_nodes_decide_also_about_their_own_pods_and_know_no_failsafe_there() {
    let mut cluster = Cluster::new();
    let from_b = Peer::Networks(cluster.node.b.addresses.iter().map(|address| (*address).into()).collect());
    cluster.put_policy(policy("nodes", Kinds::NODES, allow_from(from_b), None));
    cluster.commit();
    let node = &cluster.node;
    assert!(!all_pass(&node.outside, &node.node) && failsafe_passes(&node.outside, &node.node));
    assert!(!all_pass(&node.a, &node.node) && !node.a.tcp(node.node.addresses[0], 81));
    assert!(all_pass(&node.b, &node.node) && all_pass(&node.node, &node.a) && all_pass(&node.node, &node.outside));
    assert!(all_pass(&node.outside, &node.a) && all_pass(&node.a, &node.b), "nothing that passes through");
}

#[test]
fn a_staged_policy_about_hosts_counts_and_closes_nothing() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), true, &[]));
    let strict = policy("strict", HOSTS, allow_from(Peer::Nothing), None);
    cluster.put_policy(Policy { mode: Mode::Staged, ..strict });
    cluster.commit();
    assert!(all_pass(&cluster.node.outside, &cluster.node.node));
    assert!(cluster.node.counted("end of tier default ingress host endpoint hep") >= 6);
}

#[test]
fn a_restart_writes_nothing_and_clearing_leaves_nothing() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), false, &[]));
    cluster.commit();
    let mut stream = cluster.node.outside.connect(cluster.node.node.addresses[0], 81);
    let mut again = Cluster { compiler: cluster.fresh(), ..cluster };
    again.node.restart();
    let changes = again.compiler.drain();
    assert_eq!(again.node.change(changes).written, 0);
    assert!(stream.echoes() && !all_pass(&again.node.outside, &again.node.node));
    again.node.node.netns.run(|| policy_nftables::clear().unwrap()).unwrap();
    assert!(!again.node.nft("list table inet cnidarian").contains("pol-"));
    assert!(all_pass(&again.node.outside, &again.node.node));
}

#[test]
fn what_passes_through_is_decided_by_policies_that_say_so_and_by_the_pods_own() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("hep", named(), false, &[]));
    let addresses = |host: &Host| Peer::Networks(host.addresses.iter().map(|address| (*address).into()).collect());
    let to = |peer: Peer| Rule { destination: peer, ..Rule::new("spec.rules[0]", Action::Allow) };
    let rules = |rule| Some(Rules { rules: vec![rule], isolates: true });
    let (a, b) = (addresses(&cluster.node.a), addresses(&cluster.node.b));
    let plain = policy("plain", HOSTS, rules(to(Peer::Nothing)), None);
    cluster.put_policy(plain);
    cluster.commit();
    assert!(all_pass(&cluster.node.outside, &cluster.node.a), "not without applyOnForward, nor for want of a profile");
    let through = policy("through", HOSTS, rules(to(a)), None);
    cluster.put_policy(Policy { on_forward: true, ..through });
    cluster.commit();
    let node = &cluster.node;
    assert!(
        all_pass(&node.outside, &node.a)
            && !all_pass(&node.outside, &node.b)
            && !node.outside.tcp(node.b.addresses[0], 81)
    );
    assert!(
        all_pass(&node.b, &node.outside) && all_pass(&node.a, &node.b),
        "answers pass, and pods are no host's interface"
    );
    assert!(node.counted("end of tier default ingress through host endpoint hep") >= 6);
    // Pods' own policies decide beside it.
    cluster.put_policy(policy("pods", Kinds::PODS, rules(to(b.clone())), None));
    cluster.commit();
    assert!(!all_pass(&cluster.node.outside, &cluster.node.a));
    // Out through the interface.
    cluster.remove_policies();
    let from_b = Rule { source: b, ..Rule::new("spec.rules[0]", Action::Allow) };
    let out = policy("out", HOSTS, None, rules(from_b));
    cluster.put_policy(Policy { on_forward: true, ..out });
    cluster.commit();
    let node = &cluster.node;
    assert!(all_pass(&node.b, &node.outside) && !all_pass(&node.a, &node.outside) && all_pass(&node.outside, &node.a));
}

#[test]
fn the_host_endpoint_of_all_interfaces_has_a_say_in_what_passes_through_but_not_between_pods() {
    let mut cluster = Cluster::new();
    cluster.put(host_endpoint("all", HostInterfaces::All, true, &[]));
    let through = policy("through", HOSTS, allow_from(Peer::Nothing), None);
    cluster.put_policy(Policy { on_forward: true, ..through });
    cluster.commit();
    let node = &cluster.node;
    assert!(!all_pass(&node.outside, &node.a) && !all_pass(&node.outside, &node.node));
    assert!(all_pass(&node.a, &node.b) && all_pass(&node.a, &node.outside) && all_pass(&node.a, &node.node));
}
