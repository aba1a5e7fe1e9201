//! Services on IPVS with real agents on two nodes, from manifests to packets. Needs a kernel with IPVS:
//! `cargo xtask vm test 'cnidarian-agent ipvs'`. Never a proxy alone: `backend-ipvs` tests that.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use net_linux::ipvs::Ipvs;
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::{Read, Result, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testlab::bed::wait_for;
use testlab::lab::{Lab, Pod, Programs};
use testlab::patience::stretched;
use testlab::registry::Registry;
use testlab::scenario::Scenario;

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
const PORT: u16 = 8080;
const CLUSTER: &str = "10.96.0.10:80";
const STICKY: &str = "10.96.0.11:80";
const SPREAD: u16 = 30080;
const LOCAL: u16 = 30082;
static NEVER: AtomicBool = AtomicBool::new(false);

fn lab() -> Lab {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    let (programs, registry) = (Programs { cnidarian, plugin }, Registry::open().unwrap());
    Lab::start(Scenario::parse(SCENARIO).unwrap(), &programs, &registry, false, &NEVER).unwrap()
}

/// Answers each client with a number and the client's address, and then echoes. Ends with the test's process.
fn serve(namespace: &NetNs, number: u8) {
    let listener = namespace.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream, number));
        }
    });
}

fn echo(mut stream: TcpStream, number: u8) -> Result<()> {
    let client = match stream.peer_addr()?.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    let mut greeting = [number; 17];
    greeting[1..].copy_from_slice(&client.octets());
    stream.write_all(&greeting)?;
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}

/// An open connection, who answers, and from where it sees the client.
fn open(from: &NetNs, to: &str) -> Result<(TcpStream, u8, IpAddr)> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, stretched(Duration::from_secs(2)))).unwrap()?;
    stream.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    let mut greeting = [0; 17];
    stream.read_exact(&mut greeting)?;
    let address: [u8; 16] = greeting[1..].try_into().unwrap();
    Ok((stream, greeting[0], Ipv6Addr::from(address).to_canonical()))
}

fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// How often each of three answers.
fn count(from: &NetNs, to: &str, clients: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..clients {
        counts[usize::from(open(from, to).unwrap_or_else(|error| panic!("{to}: {error}")).1) - 1] += 1;
    }
    counts
}

/// Ten of thirty each, as turns are taken.
fn assert_even(counts: [usize; 3], what: &str) {
    assert!(counts.iter().all(|count| (8..=12).contains(count)), "{what}: {counts:?}");
}

fn v4(pod: &Pod) -> IpAddr {
    *pod.addresses.iter().find(|address| address.is_ipv4()).unwrap()
}

fn service(lab: &Lab, name: &str, spec: &Value, backends: &[&Pod]) {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    lab.manifests.put(&format!("service-{name}"), &object).unwrap();
    slice(lab, name, backends);
}

fn slice(lab: &Lab, name: &str, backends: &[&Pod]) {
    let endpoint = |pod: &&Pod| json!({"addresses": [v4(pod)], "nodeName": lab.nodes[pod.node].name, "conditions": {"ready": true}});
    let endpoints: Vec<Value> = backends.iter().map(endpoint).collect();
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "ports": [{"port": PORT}],
        "endpoints": endpoints});
    lab.manifests.put(&format!("slice-{name}"), &object).unwrap();
}

fn shell(inside: &NetNs, words: &[&str]) -> String {
    let output = inside.run(|| Command::new(words[0]).args(&words[1..]).output().unwrap()).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A node's own address with a port.
fn at(lab: &Lab, node: usize, port: u16) -> String {
    let shown = shell(&lab.nodes[node].namespace, &["ip", "-4", "-o", "address", "show", "dev", "eth0"]);
    let address = shown.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap();
    format!("{}:{port}", address.split('/').next().unwrap())
}

/// Clients that connect one after the other until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(from: &NetNs, to: &'static str) -> Self {
        let (stop, done, from) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), from.clone());
        let (stopped, counted) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            let mut lost = Vec::new();
            while !stopped.load(Ordering::Acquire) {
                lost.extend(open(&from, to).err().map(|error| error.to_string()));
                counted.fetch_add(1, Ordering::AcqRel);
            }
            lost
        });
        Self { stop, done, thread }
    }

    /// Waits for so many more.
    fn more(&self, clients: usize) {
        let wanted = self.done.load(Ordering::Acquire) + clients;
        wait_for("clients go on", Duration::from_secs(60), || self.done.load(Ordering::Acquire) >= wanted);
    }

    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

#[test]
fn services_are_spread_keep_clients_and_connections_and_leave_nothing() {
    if let Err(error) = NetNs::new().unwrap().run(Ipvs::open_loading).unwrap() {
        assert!(std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_none(), "a stock kernel has IPVS: {error}");
        println!("skipped: {error}");
        return;
    }
    let mut lab = lab();
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
