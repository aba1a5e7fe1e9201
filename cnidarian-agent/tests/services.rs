//! Services in eBPF as an operator has them: two nodes with real agents under one cgroup, pods attached by the real plugin, and
//! manifests. Never a cgroup or a namespace that was there before. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testlab::bed::{Cgroup, Client, answer_a_client, serve_named};
use testlab::lab::{Lab, Pod, Programs};
use testlab::probe::{PORT, Responder, seen_as};
use testlab::registry::Registry;
use testlab::scenario::{PodSpec, Scenario};

const SCENARIO: &str = "
name: services
nodes: [{name: node-1}, {name: node-2}]
pods:
  - {name: one, node: node-1}
  - {name: two, node: node-2}
  - {name: client, node: node-1}
  - {name: stranger, node: node-2}
";
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_client_that_is_asked() {
    answer_a_client();
}

fn client(cgroup: &Cgroup, pod: &Pod) -> Client {
    Client::new("a_client_that_is_asked", &cgroup.0, &pod.namespace)
}

/// With a backend, its own section, and a policy engine.
fn lab(cgroup: &Cgroup, (backend, config, policy): (&str, Value, &str)) -> Lab {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    let (programs, registry) = (Programs { cnidarian, plugin }, Registry::open().unwrap());
    let services = json!({"engine": "ebpf", "cgroup": cgroup.0, "externalIPs": ["203.0.113.0/24"]});
    let (backend, policy) = (backend.to_owned(), Some(policy.to_owned()));
    let scenario = Scenario { services, backend, backend_config: config, policy, ..Scenario::parse(SCENARIO).unwrap() };
    Lab::start(scenario, &programs, &registry, false, &AtomicBool::new(false)).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A service with slices of these pods, of the family of their first address.
fn put(lab: &Lab, name: &str, spec: &Value, pods: &[&Pod]) {
    let metadata = json!({"name": name, "namespace": "shop"});
    lab.manifests
        .put(
            &format!("service-{name}"),
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}),
        )
        .unwrap();
    let endpoints: Vec<Value> =
        pods.iter().map(|pod| json!({"addresses": [pod.addresses[0]], "nodeName": lab.nodes[pod.node].name})).collect();
    let metadata = json!({"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}});
    let written = &spec["ports"][0];
    let port = json!({"port": written["targetPort"].as_u64().unwrap_or(8080),
        "protocol": written["protocol"].as_str().unwrap_or("TCP")});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": metadata, "ports": [port], "endpoints": endpoints});
    lab.manifests.put(&format!("slice-{name}"), &slice).unwrap();
}

/// Who answered, how often.
fn spread(client: &mut Client, how: &str, to: &str, rounds: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let (server, peer) = client.ask(how, to).unwrap_or_else(|error| panic!("{how} {to}: {error}"));
        assert_eq!(peer, to, "the socket shows the service");
        *counts.entry(server).or_default() += 1;
    }
    counts
}

/// Who answers now, where not everything is in force yet.
fn answers(client: &mut Client, to: &str) -> BTreeSet<String> {
    (0..20).filter_map(|_| client.ask("tcp", to).ok()).map(|(server, _)| server).collect()
}

fn ask(lab: &Lab, node: usize, words: &[&str]) -> String {
    let mut command = Command::new(&lab.programs().cnidarian);
    let output = command.args(words).arg("--socket").arg(&lab.nodes[node].socket).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn services_of_two_nodes_lead_to_pods_of_both_and_a_restart_of_the_agent_loses_no_connection() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut lab = lab(&cgroup, ("vxlan", Value::Null, "nftables"));
    for (index, name) in [(0, "one"), (1, "two")] {
        let address = lab.pods[index].addresses[0];
        lab.pods[index].namespace.run(|| serve_named(address, name)).unwrap();
    }
    let [one, two, pod, stranger] = &lab.pods[..] else { panic!("four pods") };
    let tcp = |address: &str| json!({"clusterIP": address, "ports": [{"port": 80}]});
    put(&lab, "spread", &tcp("10.96.0.10"), &[one, two]);
    let udp = json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]});
    put(&lab, "datagrams", &udp, &[one, two]);
    let mut affine = tcp("10.96.0.11");
    affine["sessionAffinity"] = "ClientIP".into();
    put(&lab, "affine", &affine, &[one, two]);
    put(&lab, "empty", &tcp("10.96.0.12"), &[]);
    put(
        &lab,
        "ports",
        &json!({"type": "NodePort", "clusterIP": "10.96.0.13", "ports": [{"port": 80, "nodePort": 30080}]}),
        &[two],
    );
    let mut client = self::client(&cgroup, pod);
    let mut other = self::client(&cgroup, stranger);
    let refused = Err("ConnectionRefused".to_owned());
    until("the last service is known on both nodes", || {
        [&mut client, &mut other].into_iter().all(|client| client.ask("tcp", "10.96.0.13:80").is_ok())
            && [&mut client, &mut other].into_iter().all(|client| client.ask("tcp", "10.96.0.12:80") == refused)
    });
    until("all endpoints of the first ones are known", || {
        ["10.96.0.10:80", "10.96.0.11:80"]
            .iter()
            .all(|to| client.ask("tcp", to).is_ok() && other.ask("tcp", to).is_ok())
            && answers(&mut client, "10.96.0.10:80").len() == 2
            && answers(&mut other, "10.96.0.10:80").len() == 2
    });

    // One after the other: half and half, but for what begins and ends a round.
    for client in [&mut client, &mut other] {
        let counts = spread(client, "tcp", "10.96.0.10:80", 100);
        assert!(counts.len() == 2 && counts.values().all(|count| (45..=55).contains(count)), "{counts:?}");
    }
    assert_eq!(spread(&mut client, "udp", "10.96.0.10:53", 20).len(), 2, "datagrams too");
    assert_eq!(spread(&mut client, "tcp", "10.96.0.11:80", 40).len(), 1, "a client stays with its backend");
    assert_eq!(client.ask("tcp", "10.96.0.12:80"), refused);
    let (v4, _) = lab.scenario.node_addresses(0);
    assert_eq!(spread(&mut client, "tcp", &format!("{v4}:30080"), 3).into_keys().collect::<Vec<_>>(), ["two"]);

    // A pod is served when its ADD has answered.
    let spec = PodSpec { name: "late".into(), namespace: "default".into(), node: 0, annotations: Vec::new() };
    let late = lab.attach(&spec).unwrap();
    assert_eq!(spread(&mut self::client(&cgroup, &late), "tcp", "10.96.0.10:80", 10).len(), 2);
    lab.detach(&late).unwrap();

    let status = ask(&lab, 0, &["status"]);
    assert!(status.contains("services  ebpf"), "{status}");
    assert!(status.contains("can       services, outside-clients: yes"), "{status}");
    let shown = ask(&lab, 0, &["services"]);
    assert!(shown.contains("shop/empty") && shown.contains("none: refused"), "{shown}");

    // While the agent is killed, away and started again, every connection succeeds, over both nodes.
    let ended = Arc::new(AtomicBool::new(false));
    let stream = {
        let (ended, mut client) = (ended.clone(), client);
        std::thread::spawn(move || {
            let mut counts = BTreeMap::<String, usize>::new();
            while !ended.load(Ordering::SeqCst) {
                let said = client.ask("tcp", "10.96.0.10:80").map_or_else(|error| error, |(server, _)| server);
                *counts.entry(said).or_default() += 1;
            }
            (client, counts)
        })
    };
    let programs = lab.programs().clone();
    for _ in 0..3 {
        lab.nodes[0].kill_agent();
        lab.nodes[0].start_agent(&programs).unwrap();
        lab.nodes[0].wait_ready(&AtomicBool::new(false)).unwrap();
    }
    ended.store(true, Ordering::SeqCst);
    let (mut client, counts) = stream.join().unwrap();
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["one", "two"], "{counts:?}");
    assert!(counts.values().sum::<usize>() > 30, "{counts:?}");
    let plan: Value = serde_json::from_str(&ask(&lab, 0, &["plan", "--json"])).unwrap();
    assert_eq!(plan["steps"], json!([]), "nothing is left to write");

    // What is done after the restart is in force as before.
    put(&lab, "spread", &tcp("10.96.0.10"), &[&lab.pods[1]]);
    until("a backend that went gets no connection", || {
        answers(&mut client, "10.96.0.10:80").into_iter().collect::<Vec<_>>() == ["two"]
    });
    drop((client, other));
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}

#[test]
fn clients_outside_reach_services_and_are_seen_as_the_traffic_policy_says() {
    outside(("vxlan", Value::Null, "nftables"));
}

/// Packets between pods skip the host's stack there; those of clients outside do not.
#[test]
fn clients_outside_reach_services_past_a_fast_path_and_policy_in_ebpf() {
    if std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_none() {
        outside(("ebpf", json!({"mode": "native", "fastPath": true}), "ebpf"));
    }
}

fn outside(parts: (&str, Value, &str)) {
    let Some(cgroup) = Cgroup::new() else { return };
    let lab = lab(&cgroup, parts);
    for (index, name) in [(0, "one"), (1, "two")] {
        let address = lab.pods[index].addresses[0];
        lab.pods[index].namespace.run(|| serve_named(address, name)).unwrap();
    }
    let _responders = [0, 1].map(|pod| Responder::start(&lab.pods[pod].namespace).unwrap());
    let [one, two, ..] = &lab.pods[..] else { panic!("four pods") };
    let port = |number: u16| json!([{"port": 80, "nodePort": number}]);
    put(&lab, "cluster", &json!({"type": "NodePort", "clusterIP": "10.96.0.20", "ports": port(30081)}), &[one, two]);
    let local =
        json!({"type": "NodePort", "clusterIP": "10.96.0.21", "externalTrafficPolicy": "Local", "ports": port(30082)});
    put(&lab, "local", &local, &[two]);
    put(&lab, "empty", &json!({"type": "NodePort", "clusterIP": "10.96.0.22", "ports": port(30083)}), &[]);
    // Who asks is told as whom it was seen.
    let seen = |address: &str, external: &str, policy: &str| {
        json!({"clusterIP": address, "externalIPs": [external], "externalTrafficPolicy": policy,
            "ports": [{"port": PORT, "targetPort": PORT, "protocol": "UDP"}]})
    };
    put(&lab, "seen-local", &seen("10.96.0.23", "203.0.113.23", "Local"), &[two]);
    put(&lab, "seen-cluster", &seen("10.96.0.24", "203.0.113.24", "Cluster"), &[two]);
    let (node_1, node_2) = (lab.scenario.node_addresses(0).0, lab.scenario.node_addresses(1).0);
    let [seen_local, seen_cluster]: [IpAddr; 2] = ["203.0.113.23", "203.0.113.24"].map(|one| one.parse().unwrap());
    let routes = [(seen_local, IpAddr::from(node_2)), (seen_cluster, IpAddr::from(node_1))];
    lab.fabric().open_outside(&[]).unwrap();
    lab.fabric().route_pods(&routes, true).unwrap();
    let mut client = Client::new("a_client_that_is_asked", &cgroup.0, lab.outside());
    let to = |node, port: u16| format!("{node}:{port}");
    let refused = Err("ConnectionRefused".to_owned());
    until("the services are there on both nodes", || {
        client.ask("tcp", &to(node_1, 30081)).is_ok()
            && client.ask("tcp", &to(node_2, 30082)).is_ok()
            && client.ask("tcp", &to(node_1, 30082)) == refused
            && client.ask("tcp", &to(node_1, 30083)) == refused
            && answers(&mut client, &to(node_1, 30081)).len() == 2
            && answers(&mut client, &to(node_2, 30081)).len() == 2
    });
    for node in [node_1, node_2] {
        // By chance, of which all forty go to one once in a million million times.
        let counts = spread(&mut client, "tcp", &to(node, 30081), 40);
        assert_eq!(counts.len(), 2, "pods of both nodes: {counts:?}");
    }
    assert_eq!(spread(&mut client, "tcp", &to(node_2, 30082), 4).into_keys().collect::<Vec<_>>(), ["two"]);
    assert_eq!(client.ask("tcp", &to(node_1, 30082)), refused, "no endpoint of this node");
    assert_eq!(client.ask("tcp", &to(node_1, 30083)), refused);
    let second = Duration::from_secs(5);
    let router = {
        let connect = || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((node_2, 9)).unwrap();
            socket.local_addr().unwrap().ip()
        };
        lab.outside().run(connect).unwrap()
    };
    assert_eq!(seen_as(lab.outside(), seen_local, second).unwrap(), router, "Local keeps the client");
    let masked = seen_as(lab.outside(), seen_cluster, second).unwrap();
    assert_ne!(masked, router, "answers of another node's pod come back by the node that was asked");

    // A backend reaches itself, too.
    let mut inside = self::client(&cgroup, one);
    assert_eq!(spread(&mut inside, "tcp", &to(node_1, 30081), 10).into_keys().collect::<Vec<_>>(), ["one", "two"]);
    drop(inside);

    // Nothing of it needs the agent.
    let mut lab = lab;
    lab.nodes[0].kill_agent();
    assert_eq!(spread(&mut client, "tcp", &to(node_1, 30081), 20).len(), 2);
    drop(client);
    let programs = lab.programs().clone();
    lab.nodes[0].start_agent(&programs).unwrap();
    lab.nodes[0].wait_ready(&AtomicBool::new(false)).unwrap();
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
