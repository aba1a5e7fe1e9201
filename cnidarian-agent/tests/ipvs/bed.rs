//! Agents on nodes of a lab, servers in its pods, clients, and objects of services. Never knows which test.

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

const PORT: u16 = 8080;
pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// Whether this kernel has IPVS. A stock kernel has.
pub(crate) fn has_ipvs() -> bool {
    let Err(error) = NetNs::new().unwrap().run(Ipvs::open_loading).unwrap() else { return true };
    assert!(std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_none(), "a stock kernel has IPVS: {error}");
    println!("skipped: {error}");
    false
}

pub(crate) fn lab(scenario: &str) -> Lab {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    let (programs, registry) = (Programs { cnidarian, plugin }, Registry::open().unwrap());
    Lab::start(Scenario::parse(scenario).unwrap(), &programs, &registry, false, &NEVER).unwrap()
}

/// Answers each client with a number and the client's address, and then echoes. Ends with the test's process.
pub(crate) fn serve(namespace: &NetNs, number: u8) {
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
pub(crate) fn open(from: &NetNs, to: &str) -> Result<(TcpStream, u8, IpAddr)> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, stretched(Duration::from_secs(2)))).unwrap()?;
    stream.set_read_timeout(Some(stretched(Duration::from_secs(5))))?;
    let mut greeting = [0; 17];
    stream.read_exact(&mut greeting)?;
    let address: [u8; 16] = greeting[1..].try_into().unwrap();
    Ok((stream, greeting[0], Ipv6Addr::from(address).to_canonical()))
}

pub(crate) fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

/// How often each of three answers.
pub(crate) fn count(from: &NetNs, to: &str, clients: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    for _ in 0..clients {
        counts[usize::from(open(from, to).unwrap_or_else(|error| panic!("{to}: {error}")).1) - 1] += 1;
    }
    counts
}

/// Ten of thirty each, as turns are taken.
pub(crate) fn assert_even(counts: [usize; 3], what: &str) {
    assert!(counts.iter().all(|count| (8..=12).contains(count)), "{what}: {counts:?}");
}

pub(crate) fn v4(pod: &Pod) -> IpAddr {
    *pod.addresses.iter().find(|address| address.is_ipv4()).unwrap()
}

pub(crate) fn service(lab: &Lab, name: &str, spec: &Value, backends: &[&Pod]) {
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    lab.manifests.put(&format!("service-{name}"), &object).unwrap();
    slice(lab, name, backends);
}

pub(crate) fn slice(lab: &Lab, name: &str, backends: &[&Pod]) {
    let endpoint = |pod: &&Pod| json!({"addresses": [v4(pod)], "nodeName": lab.nodes[pod.node].name, "conditions": {"ready": true}});
    let endpoints: Vec<Value> = backends.iter().map(endpoint).collect();
    let object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "ports": [{"port": PORT}],
        "endpoints": endpoints});
    lab.manifests.put(&format!("slice-{name}"), &object).unwrap();
}

pub(crate) fn shell(inside: &NetNs, words: &[&str]) -> String {
    let output = inside.run(|| Command::new(words[0]).args(&words[1..]).output().unwrap()).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A node's own address with a port.
pub(crate) fn at(lab: &Lab, node: usize, port: u16) -> String {
    let shown = shell(&lab.nodes[node].namespace, &["ip", "-4", "-o", "address", "show", "dev", "eth0"]);
    let address = shown.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap();
    format!("{}:{port}", address.split('/').next().unwrap())
}

/// Clients that connect one after the other until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Load {
    pub(crate) fn start(from: &NetNs, to: &'static str) -> Self {
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
    pub(crate) fn more(&self, clients: usize) {
        let wanted = self.done.load(Ordering::Acquire) + clients;
        wait_for("clients go on", Duration::from_secs(60), || self.done.load(Ordering::Acquire) >= wanted);
    }

    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}
