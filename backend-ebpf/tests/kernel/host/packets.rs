//! Host endpoints and policies about nodes on real packets, one law at a time. Never a random policy.

use super::node::{ECHO, HOSTS, Node, allow, connect, echoes, named, policy, tcp, udp};
use crate::conformance::config;
use crate::place::{block_on, index, run};
use backend_ebpf::engine::{self, Key};
use backend_ebpf::kernel::{Hook, Way};
use cni_core::policy::model::{HostInterfaces, Kinds, Mode, Peer, Policy, Protocol, Stage};
use std::net::IpAddr;

fn networks(addresses: &[IpAddr]) -> Peer {
    Peer::Networks(addresses.iter().map(|address| (*address).into()).collect())
}

/// Where the node is guarded, of what the kernel has.
fn guarded() -> Vec<String> {
    let objects = engine::observe().unwrap();
    let names =
        objects.into_keys().filter_map(|key| if let Key::Host(name) = key { Some(name.to_string()) } else { None });
    names.collect()
}

#[test]
fn a_host_endpoint_without_policy_closes_its_interface_but_for_failsafe_ports_and_opens_it_when_it_goes() {
    Node::run("7/TCP", |all| {
        assert_eq!(guarded(), [""; 0], "nothing for nothing");
        all.host_endpoint(Some((named(), false)));
        all.commit();
        assert_eq!(guarded(), ["eth0"]);
        let Node { node, pod, outside, .. } = &*all;
        assert!(!udp(outside, node) && !udp(node, outside), "closed both ways");
        assert!(tcp(outside, node) && tcp(node, outside), "failsafe ports");
        // Pods are not its interface; what passes through is not for the host; a host reaches itself.
        for (from, to) in [(pod, node), (node, pod), (outside, pod), (pod, outside), (node, node)] {
            assert!(udp(from, to) && tcp(from, to));
        }
        all.host_endpoint(None);
        all.commit();
        assert!(udp(&all.outside, &all.node) && udp(&all.node, &all.outside));
        assert_eq!(guarded(), [""; 0]);
        let mut hooks = Hook::probe().open().unwrap();
        for way in Way::HOST {
            assert!(!hooks.has_ours(way, index("eth0")).unwrap());
        }
    });
}

#[test]
fn policies_allow_by_port_and_by_source_and_answers_follow() {
    Node::run("22/TCP", |all| {
        all.host_endpoint(Some((named(), true)));
        let by_port = policy("in", HOSTS, allow(Peer::Anything, Some((Protocol::UDP, ECHO))), None);
        all.policy(by_port.clone());
        all.commit();
        assert!(udp(&all.outside, &all.node) && !tcp(&all.outside, &all.node));
        assert!(tcp(&all.node, &all.outside) && udp(&all.node, &all.outside), "answers are no new connections");
        assert!(tcp(&all.pod, &all.node), "host endpoints have no say between the node and its own pods");
        let others = networks(&["198.51.100.1".parse().unwrap()]);
        all.policy(policy("in", HOSTS, allow(others, None), None));
        all.commit();
        assert!(!udp(&all.outside, &all.node));
        let outside = networks(&all.outside.addresses);
        all.policy(policy("in", HOSTS, allow(outside, None), None));
        all.commit();
        assert!(udp(&all.outside, &all.node) && tcp(&all.outside, &all.node));
        let out = policy("in", HOSTS, None, allow(Peer::Anything, Some((Protocol::UDP, ECHO))));
        all.policy(out.clone());
        all.commit();
        assert!(udp(&all.node, &all.outside) && !tcp(&all.node, &all.outside) && tcp(&all.outside, &all.node));
        assert!(tcp(&all.pod, &all.outside), "what passes through is another matter");
        all.remove_policy(&out);
        all.commit();
        assert!(tcp(&all.node, &all.outside));
    });
}

#[test]
fn policies_about_nodes_decide_also_about_their_own_pods_and_know_no_failsafe_there() {
    Node::run("7/TCP", |all| {
        all.policy(policy("nodes", Kinds::NODES, allow(Peer::Nothing, None), None));
        all.commit();
        let Node { node, pod, outside, .. } = &*all;
        assert!(!udp(outside, node) && tcp(outside, node));
        assert!(!udp(pod, node) && !tcp(pod, node));
        assert!(udp(node, pod) && tcp(node, pod) && udp(node, outside), "answers");
        assert!(udp(outside, pod) && udp(pod, outside), "nothing that passes through");
        let from_pod = networks(&all.pod.addresses);
        all.policy(policy("nodes", Kinds::NODES, allow(from_pod, None), None));
        all.commit();
        assert!(udp(&all.pod, &all.node) && tcp(&all.pod, &all.node) && !udp(&all.outside, &all.node));
    });
}

#[test]
fn who_is_connected_before_the_first_policy_or_by_an_older_one_stays_connected() {
    Node::run("22/TCP", |all| {
        let [out, back] = [(&all.outside, &all.node), (&all.node, &all.outside)];
        let mut streams: Vec<_> = [out, back]
            .iter()
            .flat_map(|(from, to)| to.addresses.iter().map(|to| connect(from, *to).unwrap()))
            .collect();
        all.host_endpoint(Some((named(), false)));
        all.commit();
        assert!(!tcp(&all.outside, &all.node) && !tcp(&all.node, &all.outside));
        assert!(streams.iter_mut().all(echoes));
        let open = policy("in", HOSTS, allow(Peer::Anything, None), allow(Peer::Anything, None));
        all.policy(open.clone());
        all.commit();
        streams.push(connect(&all.outside, all.node.addresses[0]).unwrap());
        all.remove_policy(&open);
        all.commit();
        assert!(!tcp(&all.outside, &all.node), "nobody new");
        assert!(streams.iter_mut().all(echoes), "who was let in");
    });
}

#[test]
fn what_was_in_force_stays_so_without_an_engine_and_the_next_one_writes_nothing() {
    Node::run("22/TCP", |all| {
        let open = policy("in", HOSTS, allow(Peer::Anything, Some((Protocol::TCP, ECHO))), None);
        all.host_endpoint(Some((named(), true)));
        all.policy(open);
        all.commit();
        let mut stream = connect(&all.outside, all.node.addresses[0]).unwrap();
        // Nothing of the engine's is left but what is in the kernel.
        all.engine = engine::open(&config()).unwrap();
        assert!(!udp(&all.outside, &all.node) && tcp(&all.outside, &all.node) && echoes(&mut stream));
        all.successor();
        let report = all.report();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.written, 0);
        assert!(!udp(&all.outside, &all.node) && tcp(&all.outside, &all.node) && echoes(&mut stream));
        engine::clear().unwrap();
        assert!(udp(&all.outside, &all.node) && guarded().is_empty());
    });
}

#[test]
fn a_predecessors_guard_goes_when_all_is_known_and_not_before() {
    Node::run("22/TCP", |all| {
        all.host_endpoint(Some((named(), false)));
        all.commit();
        all.engine = engine::open(&config()).unwrap();
        assert!(block_on(all.engine.commit()).is_complete());
        assert!(!udp(&all.outside, &all.node), "nothing is known yet");
        all.engine.stage(cni_core::backend::Change::InSync).unwrap();
        assert!(block_on(all.engine.commit()).is_complete());
        assert!(udp(&all.outside, &all.node) && guarded().is_empty());
    });
}

#[test]
fn a_host_endpoint_of_all_interfaces_is_also_for_one_that_comes_later_and_for_one_that_lost_its_programs() {
    Node::run("22/TCP", |all| {
        all.host_endpoint(Some((HostInterfaces::All, false)));
        all.commit();
        assert!(!udp(&all.outside, &all.node) && udp(&all.pod, &all.node));
        run("ip link add eth1 type veth peer name far1");
        block_on(all.engine.resync()).unwrap();
        assert_eq!(guarded(), ["eth0", "eth1", "far1"]);
        run("ip link add br0 type bridge");
        run("ip link set eth1 master br0");
        block_on(all.engine.resync()).unwrap();
        assert_eq!(guarded(), ["br0", "eth0", "far1"], "packets of a bridge's port are the bridge's");
        let mut hooks = Hook::probe().open().unwrap();
        Way::HOST.into_iter().for_each(|way| hooks.take_off(way, index("eth0")).unwrap());
        assert!(udp(&all.outside, &all.node));
        let drift = block_on(all.engine.resync()).unwrap();
        assert!(drift.changed.iter().any(|object| object == "policy of the node at eth0"), "{drift:?}");
        assert!(!udp(&all.outside, &all.node));
    });
}

#[test]
fn what_is_not_enforced_of_a_policy_is_told_and_the_rest_is_in_force() {
    Node::run("22/TCP", |all| {
        all.host_endpoint(Some((named(), false)));
        let through = policy("through", HOSTS, allow(Peer::Nothing, None), None);
        all.policy(Policy { on_forward: true, ..through });
        let early = policy("early", HOSTS, allow(Peer::Nothing, None), None);
        all.policy(Policy { stage: Stage::BeforeNat, ..early });
        let raw = policy("raw", HOSTS, allow(Peer::Nothing, None), None);
        all.policy(Policy { stage: Stage::Untracked, ..raw });
        all.policy(policy("plain", HOSTS, allow(Peer::Nothing, None), None));
        let report = all.report();
        let told = format!("{:?}", report.blocked);
        for (word, name) in [("applyOnForward", "through"), ("doNotTrack", "raw"), ("preDNAT", "early")] {
            let named = format!("{word} of GlobalNetworkPolicy {name} at interface eth0: ");
            assert!(told.contains(&named), "{named:?} is not in {told}");
        }
        assert!(!told.contains("failsafe") && !told.contains("plain"), "{told}");
        assert!(!udp(&all.outside, &all.node) && udp(&all.outside, &all.pod));
    });
}

#[test]
fn a_staged_policy_about_hosts_closes_nothing() {
    Node::run("22/TCP", |all| {
        all.host_endpoint(Some((named(), true)));
        let strict = policy("strict", HOSTS, allow(Peer::Nothing, None), None);
        all.policy(Policy { mode: Mode::Staged, ..strict });
        all.commit();
        assert!(udp(&all.outside, &all.node));
    });
}
