//! What becomes of packets to services. Never the laws of the engine: `conformance` has them.

use crate::bed::{Bed, block_on, has_ipvs};
use crate::items::{PODS, PODS6, backend, item, over};
use backend_ipvs::config::Config;
use cni_core::backend::{Change, CommitReport, ServiceProxy};
use cni_core::model::{FrontendKind, Scheduler, ServiceBackend, ServiceItem, TrafficScope};
use cni_core::policy::model::Protocol;
use net_linux::ipvs::{Ipvs, ServiceId};
use net_linux::netns::NetNs;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::Duration;
use testlab::bed::{run, try_run, wait_for};

/// An engine in a namespace, as an agent would have it.
pub(crate) fn engine(netns: &NetNs) -> Box<dyn ServiceProxy> {
    let mut engine = netns.run(|| backend_ipvs::open(&Config::default()).unwrap()).unwrap();
    engine.stage(Change::InSync).unwrap();
    engine
}

/// Stages and commits what has to get through whole.
pub(crate) fn put(engine: &mut dyn ServiceProxy, items: impl IntoIterator<Item = ServiceItem>) {
    items.into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
    let report: CommitReport = block_on(engine.commit());
    assert!(report.is_complete(), "{report:#?}");
}

/// Ten of thirty each, as turns are taken; somebody else's packets may have taken some.
fn is_even(counts: [usize; 3]) -> bool {
    counts.iter().all(|count| (8..=12).contains(count))
}

#[test]
fn a_cluster_ip_is_spread_over_its_backends_for_pods_for_the_node_and_for_others() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let web = item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS);
    let dns = over(Protocol::UDP, item(FrontendKind::ClusterIp, "10.96.0.10:53", &PODS));
    let web6 = item(FrontendKind::ClusterIp, "[fd00:96::10]:80", &PODS6);
    put(&mut *engine, [web, dns, web6]);
    for (who, place) in [("a pod", &bed.pods[3]), ("the node", &bed.node), ("another host", &bed.client)] {
        for to in ["10.96.0.10:80", "[fd00:96::10]:80"] {
            let counts = place.count(to, 30);
            assert!(is_even(counts), "{who} to {to}: {counts:?}");
        }
        let mut heard = [0; 3];
        for _ in 0..9 {
            let (name, _) = place.ask_by_datagram("10.96.0.10:53").unwrap_or_else(|error| panic!("{who}: {error}"));
            heard[usize::from(name) - 1] += 1;
        }
        assert!(heard.iter().all(|count| *count > 0), "{who} by datagrams: {heard:?}");
    }
    let (_, seen) = bed.pods[3].ask("10.96.0.10:80").unwrap();
    assert_eq!(seen.to_string(), "10.244.1.4", "a pod's own address is kept");
    // A backend is a client of its own service too.
    let counts = bed.pods[0].count("10.96.0.10:80", 30);
    assert!(is_even(counts), "a backend to itself too: {counts:?}");
}

#[test]
fn a_node_port_is_spread_and_answers_come_back_from_other_nodes_and_local_ones_see_the_client() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    // The third one is on another host, whose answers would go to the client directly.
    let mut spread = item(FrontendKind::NodePort, "192.0.2.1:30080", &[PODS[0], PODS[1]]);
    let mut far = backend("192.0.2.3:8080");
    (far.local, far.node) = (false, Some("node-3".into()));
    spread.backends = spread.backends.iter().cloned().chain([far]).collect();
    let mut local = item(FrontendKind::NodePort, "192.0.2.1:30081", &PODS[..1]);
    local.scope = TrafficScope::Local;
    put(&mut *engine, [spread, local]);
    let counts = bed.client.count("192.0.2.1:30080", 30);
    assert!(is_even(counts), "{counts:?}");
    let (_, seen) = bed.client.ask("192.0.2.1:30081").unwrap();
    assert_eq!(seen.to_string(), "192.0.2.2", "with Local the client's address is kept");
}

#[test]
fn a_client_with_affinity_stays_and_others_go_elsewhere() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let sticky =
        ServiceItem { affinity_seconds: NonZeroU32::new(600), ..item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS) };
    put(&mut *engine, [sticky]);
    let mut favourites = Vec::new();
    for place in [&bed.client, &bed.other, &bed.pods[3]] {
        let counts = place.count("10.96.0.10:80", 10);
        assert_eq!(counts.iter().max(), Some(&10), "{counts:?}");
        favourites.push(counts);
    }
    favourites.dedup();
    assert!(favourites.len() > 1, "all of them have the same one");
}

/// Connections that a backend has, established ones.
fn busy(netns: &NetNs, service: &str) -> usize {
    let id = ServiceId::address(6, service.parse().unwrap());
    let found = netns.run(|| Ipvs::open().unwrap().destinations(&id).unwrap()).unwrap();
    found.iter().filter(|(_, connections, _)| connections.active > 0).count()
}

#[test]
fn sed_and_nq_choose_the_backend_that_nobody_uses() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let service = "10.96.0.10:80";
    for scheduler in [Scheduler::ShortestExpectedDelay, Scheduler::NeverQueue] {
        put(&mut *engine, [ServiceItem { scheduler, ..item(FrontendKind::ClusterIp, service, &PODS) }]);
        wait_for("nobody is connected", Duration::from_secs(10), || busy(&bed.node.netns, service) == 0);
        let held = [bed.client.open(service), bed.other.open(service)];
        let idle = 6 - held.iter().map(|(_, name)| name).sum::<u8>();
        for _ in 0..6 {
            wait_for("two are connected", Duration::from_secs(10), || busy(&bed.node.netns, service) == 2);
            assert_eq!(bed.client.ask(service).unwrap().0, idle, "{scheduler}");
        }
    }
}

#[test]
fn with_wrr_backends_get_as_much_as_they_weigh_and_another_weight_counts_at_once() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    for weights in [[1, 2, 3], [4, 1, 1]] {
        let mut weighed = item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS);
        weighed.scheduler = Scheduler::WeightedRoundRobin;
        let backends = weighed.backends.iter().cloned().zip(weights);
        weighed.backends = backends.map(|(backend, weight)| ServiceBackend { weight, ..backend }).collect();
        put(&mut *engine, [weighed]);
        let counts = bed.client.count("10.96.0.10:80", 36);
        let fair = |(count, weight): (&usize, u16)| count.abs_diff(6 * usize::from(weight)) <= 3;
        assert!(counts.iter().zip(weights).all(fair), "{weights:?}: {counts:?}");
    }
}

#[test]
fn only_declared_ports_answer_and_only_chosen_clients_are_served() {
    if !has_ipvs() {
        return;
    }
    let mut bed = Bed::new();
    // A program of the node that listens everywhere.
    bed.node.serve(9, 81);
    let mut engine = engine(&bed.node.netns);
    let mut limited = item(FrontendKind::LoadBalancer, "203.0.113.7:80", &PODS);
    limited.sources = Some(["192.0.2.3/32".parse().unwrap()].into());
    put(&mut *engine, [item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS), limited]);
    assert_eq!(bed.client.ask("192.0.2.1:81").unwrap().0, 9, "at the node's own address");
    let error = bed.client.ask("10.96.0.10:81").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "at a service's address: {error}");
    bed.client.netns.run(|| run("ping -n -c 1 -W 5 10.96.0.10")).unwrap();
    bed.other.ask("203.0.113.7:80").unwrap();
    let error = bed.client.ask("203.0.113.7:80").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn a_service_without_endpoints_refuses_and_a_removed_one_leaves_nothing() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let web = item(FrontendKind::ClusterIp, "10.96.0.10:80", &[]);
    put(&mut *engine, [web.clone()]);
    let error = bed.client.ask("10.96.0.10:80").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    engine.stage(Change::Remove(web.key)).unwrap();
    let report = block_on(engine.commit());
    assert!(report.is_complete(), "{report:#?}");
    bed.node
        .netns
        .run(|| {
            assert_eq!(run("ip -o address show dev svc-cnidarian"), "");
            assert_eq!(std::fs::read_to_string("/proc/net/ip_vs").unwrap().lines().count(), 3, "only the title");
            assert!(try_run("nft list chain inet cnidarian svc-input").is_ok());
        })
        .unwrap();
}
