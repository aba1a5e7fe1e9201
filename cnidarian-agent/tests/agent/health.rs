//! Health checks of services for balancers outside, from manifests to raw TCP: a real agent with services in eBPF.

use crate::services::put;
use crate::world::{World, until};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::Duration;
use testlab::bed::Cgroup;

/// What is asked from outside, and where.
const AT: &str = "192.0.2.1:31000";

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A balancer at the other end of the node's segment.
fn outside(world: &World) -> NetNs {
    let netns = NetNs::new().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    world.netns.run(|| ip(&format!("link set segment netns {path}"))).unwrap();
    let address = || {
        ip("address add 192.0.2.254/24 dev segment");
        ip("link set segment up");
    };
    netns.run(address).unwrap();
    netns
}

/// What is said to a balancer, or why it hears nothing.
fn ask(netns: &NetNs, at: &str) -> Result<String, String> {
    let at: SocketAddr = at.parse().unwrap();
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: node\r\nUser-Agent: balancer\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    netns.run(ask).unwrap().map_err(|error| error.kind().to_string())
}

fn service(port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "ports": [{"port": 80}],
            "externalTrafficPolicy": "Local", "healthCheckNodePort": port}})
}

fn slice(nodes: &[&str]) -> Value {
    let endpoints: Vec<Value> = nodes
        .iter()
        .enumerate()
        .map(|(index, node)| json!({"addresses": [format!("10.42.0.{}", index + 9)], "nodeName": node}))
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"port": 8080}], "endpoints": endpoints})
}

fn wait(world: &World, from: &NetNs, at: &str, words: &[&str]) {
    until("what a balancer hears", || {
        let heard = ask(from, at).unwrap_or_else(|error| error);
        if words.iter().all(|word| heard.contains(word)) { Ok(()) } else { Err(format!("{heard}\n{}", world.log())) }
    });
}

fn started(engine: Value) -> (World, NetNs) {
    let mut world = World::new();
    let balancer = outside(&world);
    put(&world, "web", &service(31_000));
    put(&world, "web-1", &slice(&["node-1", "node-1", "node-2"]));
    let mut config = world.config();
    config["services"] = engine;
    world.start_with(&config);
    (world, balancer)
}

#[test]
fn a_balancer_outside_hears_how_many_endpoints_this_node_has() {
    let Some(cgroup) = Cgroup::new() else { return };
    let (mut world, balancer) = started(json!({"engine": "ebpf", "cgroup": cgroup.0}));
    wait(&world, &balancer, AT, &["HTTP/1.1 200 OK", "Weight: 2", "\"localEndpoints\":2", "\"namespace\":\"shop\""]);
    let own = std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    // A port in hexadecimal, in state 0A, which is listening (proc_net_tcp of the kernel's documentation).
    assert!(
        !own.lines().any(|line| line.contains(":7918 ") && line.contains(" 0A ")),
        "the port is the node's alone: {own}"
    );
    put(&world, "web-1", &slice(&["node-2"]));
    wait(&world, &balancer, AT, &["HTTP/1.1 503", "Weight: 0", "\"localEndpoints\":0"]);
    put(&world, "web", &service(31_001));
    wait(&world, &balancer, "192.0.2.1:31001", &["HTTP/1.1 503"]);
    wait(&world, &balancer, AT, &["connection refused"]);
    // A new agent answers again, though connections of the old one have not ended for the kernel.
    world.kill();
    assert_eq!(ask(&balancer, "192.0.2.1:31001"), Err("connection refused".to_owned()));
    let mut config = world.config();
    config["services"] = json!({"engine": "ebpf", "cgroup": cgroup.0});
    world.start_with(&config);
    wait(&world, &balancer, "192.0.2.1:31001", &["HTTP/1.1 503"]);
    std::fs::remove_file(world.dir.path().join("cluster/web.json")).unwrap();
    wait(&world, &balancer, "192.0.2.1:31001", &["connection refused"]);
}

#[test]
fn a_policy_about_the_node_is_about_its_health_checks_too() {
    let Some(cgroup) = Cgroup::new() else { return };
    let (world, balancer) = started(json!({"engine": "ebpf", "cgroup": cgroup.0}));
    wait(&world, &balancer, AT, &["HTTP/1.1 200 OK"]);
    let calico = |kind: &str, spec: Value| {
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": {"name": "node", "labels": {"is": "node"}}, "spec": spec})
    };
    let policy = |port: u16| {
        let ingress = json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [port]}}]);
        calico("GlobalNetworkPolicy", json!({"selector": "is == 'node'", "types": ["Ingress"], "ingress": ingress}))
    };
    put(&world, "allow", &policy(9));
    put(&world, "host", &calico("HostEndpoint", json!({"node": "node-1", "interfaceName": "eth0"})));
    wait(&world, &balancer, AT, &["timed out"]);
    put(&world, "allow", &policy(31_000));
    wait(&world, &balancer, AT, &["HTTP/1.1 200 OK"]);
}

#[test]
fn where_nobody_translates_services_nobody_answers() {
    let (world, balancer) = started(Value::Null);
    let (done, text) = world.ask(&["status"]);
    assert!(done, "{text}");
    assert_eq!(ask(&balancer, AT), Err("connection refused".to_owned()));
}

#[test]
fn a_port_that_is_taken_is_told_in_status_until_it_is_free() {
    let Some(cgroup) = Cgroup::new() else { return };
    let (mut world, balancer) = started(Value::Null);
    world.kill();
    let holder = world.netns.run(|| std::net::TcpListener::bind("0.0.0.0:31000").unwrap()).unwrap();
    let mut config = world.config();
    config["services"] = json!({"engine": "ebpf", "cgroup": cgroup.0});
    world.start_with(&config);
    until("the problem is told", || {
        let (_, text) = world.ask(&["status", "--json"]);
        let status: Value = serde_json::from_str(&text).unwrap();
        let problems = status["problems"].to_string();
        let told = problems.contains("Service shop/web") && problems.contains("another process listens there");
        if told { Ok(()) } else { Err(problems) }
    });
    drop(holder);
    wait(&world, &balancer, AT, &["HTTP/1.1 200 OK"]);
    let (_, text) = world.ask(&["status", "--json"]);
    assert!(!text.contains("another process listens there"), "{text}");
}
