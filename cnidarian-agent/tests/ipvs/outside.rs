//! Addresses of services announced by BGP to a router outside (BIRD), and reached through it by clients behind. The nodes are on
//! two segments, and the router knows no pods: what goes from one node to another is in a tunnel. Never a node port.

use crate::bed::{Load, NEVER, assert_even, has_ipvs, lab, open, serve, service, shell, slice, v4};
use net_linux::netns::NetNs;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use tempfile::TempDir;
use testlab::bed::{Daemon, wait_for};
use testlab::lab::{Lab, Node};

const SCENARIO: &str = "
name: ipvs-outside
subnets:
  - {name: left, v4: 172.31.1.0/24, v6: 'fd31:1::/64'}
  - {name: right, v4: 172.31.2.0/24, v6: 'fd31:2::/64'}
nodes: [{name: node-1, subnet: left}, {name: node-2, subnet: right}]
backend: ipvs
backendConfig:
  peers: [{name: router, address: 172.31.1.1, asn: 65001, session: {multihop: 2}}]
services: {announce: [ClusterIP, ExternalIP, LoadBalancer], externalIPs: [203.0.113.0/24]}
pods:
  - {name: one, node: node-1}
  - {name: two, node: node-2}
  - {name: three, node: node-2}
";
/// The nodes, as the router reaches them.
const NODES: [&str; 2] = ["172.31.1.10", "172.31.2.11"];
const CLUSTER_IP: &str = "10.96.0.20";
const EXTERNAL_IP: &str = "203.0.113.20";
const EXTERNAL: &str = "203.0.113.20:80";
const BALANCER: &str = "203.0.113.21";
const LOCAL: &str = "203.0.113.22";
/// The host beyond the router.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));
const PATIENCE: Duration = Duration::from_secs(30);

/// Takes addresses of services from the nodes, and nothing else; several ways to one are used at the same time.
const BIRD: &str = "
log stderr all;
router id 172.31.1.1;
protocol device { scan time 1; }
protocol direct { ipv4; interface \"segment*\"; }
protocol kernel { merge paths on; ipv4 { import none; export where source = RTS_BGP; }; }
template bgp node {
    local 172.31.1.1 as 65001; multihop 2; connect delay time 1; connect retry time 1; error wait time 1, 2;
    ipv4 { import where net ~ [ 10.96.0.0/12{32,32}, 203.0.113.0/24{32,32} ]; export none; };
}
protocol bgp node1 from node { neighbor 172.31.1.10 as 64512; }
protocol bgp node2 from node { neighbor 172.31.2.11 as 64512; }
";

/// BIRD on the router between the segments, with a folder of its own.
struct Router {
    namespace: NetNs,
    bird: Daemon,
    _folder: TempDir,
}

impl Router {
    fn start(lab: &Lab) -> Self {
        let (namespace, folder) = (lab.fabric().router().clone(), tempfile::tempdir().unwrap());
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(file("conf"), BIRD).unwrap();
        // By ports too, so that clients of one address come by all ways.
        let hash = || fs::write("/proc/sys/net/ipv4/fib_multipath_hash_policy", "1");
        namespace.run(hash).unwrap().unwrap();
        let bird = Daemon::start(
            &namespace,
            ("bird2", "/usr/sbin/bird"),
            &["-f", "-c", &file("conf"), "-s", &file("ctl")],
            &folder.path().join("log"),
        );
        Self { namespace, bird, _folder: folder }
    }

    /// Nodes that the router sends packets for an address to.
    fn ways(&self, address: &str) -> Vec<&'static str> {
        let shown = shell(&self.namespace, &["ip", "-4", "route", "show", address]);
        NODES.into_iter().filter(|node| shown.contains(&format!("via {node} "))).collect()
    }

    fn wait(&self, address: &str, ways: &[&str]) {
        wait_for(&format!("{address} is by {ways:?}"), PATIENCE, || self.ways(address) == ways);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("BIRD said:\n{}", self.bird.log());
            eprintln!("The router's ways:\n{}", shell(&self.namespace, &["ip", "route"]));
        }
    }
}

/// One service with an address of each kind, on all pods.
fn balanced(lab: &Lab) {
    let spec =
        json!({"type": "LoadBalancer", "clusterIP": CLUSTER_IP, "ports": [{"port": 80}], "externalIPs": [EXTERNAL_IP]});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "balanced"}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCER}]}}});
    lab.manifests.put("service-balanced", &object).unwrap();
    slice(lab, "balanced", &lab.pods.iter().collect::<Vec<_>>());
}

/// Of clients outside, one after the other: how many each pod answered, and as whom each pod saw them.
fn clients(from: &NetNs, to: &str, clients: usize) -> ([usize; 3], BTreeSet<(u8, IpAddr)>) {
    let (mut counts, mut seen) = ([0; 3], BTreeSet::new());
    for _ in 0..clients {
        let (_, pod, client) = open(from, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        counts[usize::from(pod) - 1] += 1;
        seen.insert((pod, client));
    }
    (counts, seen)
}

/// The node that has an address.
fn owner(lab: &Lab, address: IpAddr) -> Option<usize> {
    let has = |node: &Node| {
        let shown = shell(&node.namespace, &["ip", "-4", "-o", "address"]);
        shown.contains(&format!(" {address}/"))
    };
    lab.nodes.iter().position(has)
}

#[test]
fn clients_behind_a_router_reach_pods_of_all_segments_by_announced_addresses() {
    if !has_ipvs() {
        return;
    }
    let mut lab = lab(SCENARIO);
    for (number, pod) in (1..).zip(&lab.pods) {
        serve(&pod.namespace, number);
    }
    lab.fabric().open_outside(&[]).unwrap();
    balanced(&lab);
    let router = Router::start(&lab);
    let outside = lab.outside().clone();
    for address in [CLUSTER_IP, EXTERNAL_IP, BALANCER] {
        router.wait(address, &NODES);
        let to = format!("{address}:80");
        wait_for("it is served", PATIENCE, || open(&outside, &to).is_ok());
        let (counts, seen) = clients(&outside, &to, 30);
        assert_even(counts, &to);
        // A client is seen as the node that it came by, so that answers go back by it.
        let by: BTreeSet<_> = seen.iter().map(|(pod, client)| (*pod, owner(&lab, *client))).collect();
        let all = [1, 2, 3].into_iter().flat_map(|pod| [(pod, Some(0)), (pod, Some(1))]).collect();
        assert_eq!(by, all, "{to}: every pod is reached by both nodes: {seen:?}");
    }
    let to_pod = ["ip", "route", "get", &v4(&lab.pods[1]).to_string()].map(str::to_owned);
    let way = shell(&lab.nodes[0].namespace, &to_pod.each_ref().map(String::as_str));
    assert!(way.contains("dev cnidarian.bgp"), "between segments pods are reached by the tunnel: {way}");
    let known = shell(&router.namespace, &["ip", "route", "get", &to_pod[3]]);
    assert!(!NODES.iter().any(|node| known.contains(node)), "the router knows no pods: {known}");

    // With Local only the node of an endpoint is a way, and the endpoint sees the client.
    let spec = json!({"clusterIP": "10.96.0.21", "ports": [{"port": 80}], "externalIPs": [LOCAL], "type": "LoadBalancer",
        "externalTrafficPolicy": "Local"});
    let to = format!("{LOCAL}:80");
    service(&lab, "local", &spec, &[&lab.pods[1]]);
    router.wait(LOCAL, &NODES[1..]);
    wait_for("it is served", PATIENCE, || open(&outside, &to).is_ok());
    assert_eq!(clients(&outside, &to, 4), ([0, 4, 0], BTreeSet::from([(2, CLIENT)])));
    slice(&lab, "local", &[&lab.pods[0]]);
    router.wait(LOCAL, &NODES[..1]);
    wait_for("the other endpoint answers", PATIENCE, || open(&outside, &to).is_ok_and(|(_, pod, _)| pod == 1));
    assert_eq!(clients(&outside, &to, 4), ([4, 0, 0], BTreeSet::from([(1, CLIENT)])));

    // While an agent is killed and comes back the router keeps its ways, and no client is lost.
    let load = Load::start(&outside, EXTERNAL);
    load.more(20);
    let programs = lab.programs().clone();
    lab.nodes[0].kill_agent();
    load.more(50);
    lab.nodes[0].start_agent(&programs).unwrap();
    lab.nodes[0].wait_ready(&NEVER).unwrap();
    load.more(50);
    assert_eq!(load.end(), Vec::<String>::new(), "connections that were lost");
    for service in ["balanced", "local"] {
        lab.manifests.remove(&format!("service-{service}")).unwrap();
    }
    for address in [CLUSTER_IP, EXTERNAL_IP, BALANCER, LOCAL] {
        router.wait(address, &[]);
    }
    drop(router);
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
