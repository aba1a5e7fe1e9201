//! Services on IPVS inside a cluster, and by node ports from outside of it. Never an announced address.

use crate::bed::{Load, NEVER, assert_even, at, count, echoes, has_ipvs, lab, open, serve, service, shell, slice};
use net_linux::ipvs::Ipvs;
use net_linux::netns::NetNs;
use serde_json::json;
use std::time::Duration;
use testlab::bed::wait_for;

const SCENARIO: &str = "
name: ipvs
nodes: [{name: node-1}, {name: node-2}]
backend: ipvs
services: {drainSeconds: 60}
pods:
  - {name: one, node: node-1}
  - {name: two, node: node-1}
  - {name: three, node: node-2}
  - {name: client, node: node-1}
";
const CLUSTER: &str = "10.96.0.10:80";
const STICKY: &str = "10.96.0.11:80";
const SPREAD: u16 = 30080;
const LOCAL: u16 = 30082;

#[test]
fn services_are_spread_keep_clients_and_connections_and_leave_nothing() {
    if !has_ipvs() {
        return;
    }
    let mut lab = lab(SCENARIO);
    let [one, two, three, client] = &lab.pods[..] else { panic!("four pods") };
    let backends = [one, two, three];
    for (number, pod) in (1..).zip(backends) {
        serve(&pod.namespace, number);
    }
    let (from, outside) = (client.namespace.clone(), lab.outside().clone());
    let ports = |node_port: u16| json!([{"port": 80, "nodePort": node_port}]);
    let spread = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "ports": ports(SPREAD)});
    let sticky = json!({"clusterIP": "10.96.0.11", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    let local =
        json!({"type": "NodePort", "clusterIP": "10.96.0.12", "externalTrafficPolicy": "Local", "ports": ports(LOCAL)});
    service(&lab, "spread", &spread, &backends);
    service(&lab, "sticky", &sticky, &backends);
    service(&lab, "local", &local, &backends);
    let ready = |from: &NetNs, to: &str| wait_for(to, Duration::from_secs(20), || open(from, to).is_ok());
    ready(&from, CLUSTER);
    ready(&from, STICKY);
    assert_even(count(&from, CLUSTER, 30), "a ClusterIP from a pod");
    for node in [0, 1] {
        let to = at(&lab, node, SPREAD);
        ready(&outside, &to);
        assert_even(count(&outside, &to, 30), "a NodePort from outside");
    }
    let counts = count(&from, STICKY, 9);
    assert!(counts.contains(&9), "a client stays: {counts:?}");
    let to = at(&lab, 1, LOCAL);
    ready(&outside, &to);
    let (stream, number, seen) = open(&outside, &to).unwrap();
    assert_eq!((number, seen), (3, stream.local_addr().unwrap().ip()), "the node's own endpoint sees the client");

    // The agent dies under load, and comes back.
    let (mut held, of_three) = (0..9).map(|_| open(&from, CLUSTER).unwrap()).fold(
        (Vec::new(), None),
        |(mut held, mut of_three), (stream, number, _)| {
            if number == 3 && of_three.is_none() {
                of_three = Some(stream)
            } else {
                held.push(stream)
            }
            (held, of_three)
        },
    );
    let mut of_three = of_three.expect("turns are taken");
    let load = Load::start(&from, CLUSTER);
    load.more(20);
    lab.nodes[0].kill_agent();
    load.more(50);
    let programs = lab.programs().clone();
    lab.nodes[0].start_agent(&programs).unwrap();
    lab.nodes[0].wait_ready(&NEVER).unwrap();
    load.more(50);
    held.iter_mut().chain([&mut of_three]).for_each(echoes);

    // A backend goes while it has a connection.
    let [one, two, ..] = &lab.pods[..] else { panic!("four pods") };
    slice(&lab, "spread", &[one, two]);
    wait_for("it gets no new connections", Duration::from_secs(20), || count(&from, CLUSTER, 6)[2] == 0);
    echoes(&mut of_three);
    assert_eq!(load.end(), Vec::<String>::new(), "connections that were lost");

    // A policy about a backend holds for clients of its service.
    let guarded = "10.96.0.13:80";
    service(&lab, "guarded", &json!({"clusterIP": "10.96.0.13", "ports": [{"port": 80}]}), &[one]);
    ready(&from, guarded);
    let metadata = json!({"name": "one", "namespace": "default", "labels": {"app": "one"}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node-1"}});
    lab.manifests.put("pod-default-one", &pod).unwrap();
    let closed = json!({"podSelector": {"matchLabels": {"app": "one"}}, "policyTypes": ["Ingress"]});
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"},
        "spec": closed});
    lab.manifests.put("policy", &policy).unwrap();
    wait_for("the policy holds", Duration::from_secs(30), || open(&from, guarded).is_err());
    lab.manifests.remove("policy").unwrap();
    ready(&from, guarded);

    // Without a proxy nothing of it stays.
    lab.nodes[0].stop_agent();
    lab.nodes[0].reconfigure(|config| config["services"] = "none".into()).unwrap();
    lab.nodes[0].start_agent(&programs).unwrap();
    lab.nodes[0].wait_ready(&NEVER).unwrap();
    let node = &lab.nodes[0].namespace;
    assert!(!shell(node, &["ip", "link"]).contains("svc-cnidarian"));
    let ruleset = shell(node, &["nft", "list", "ruleset"]);
    assert!(
        ruleset.contains("pol-egress") && !ruleset.contains("svc-") && !ruleset.contains("pol-proxied"),
        "{ruleset}"
    );
    assert!(node.run(|| Ipvs::open().unwrap().services().unwrap()).unwrap().is_empty());
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
