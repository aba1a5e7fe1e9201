//! Two agents and one record of who has which address of a load balancer (ADR 0014): started at once, frozen and killed while they write
//! it. Never a packet. Needs root and cgroup v2.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::service::BalancerRecord;
use cni_core::store::Object;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testlab::bed::Cgroup;
use testlab::lab::{Lab, Programs};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

const SCENARIO: &str = "
name: balancers
nodes: [{name: node-1}, {name: node-2}]
policy: none
";
/// Where agents keep the record, in the directory of manifests.
const RECORD: &str = "loadbalanceraddresses.cnidarian.io__services.json";
const DEADLINE: Duration = Duration::from_secs(60);
/// Services from the beginning, and those that come later, two in a round.
const FIRST: usize = 48;
const ROUNDS: usize = 22;
const ALL: usize = FIRST + 2 * ROUNDS;
/// Addresses of IPv4 for exactly so many.
const POOLS: [(&str, &str); 3] = [("a", "198.51.100.0/26"), ("b", "198.51.100.64/27"), ("c", "2001:db8:51::/64")];

fn lab(cgroup: &Cgroup) -> Lab {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    let (programs, registry) = (Programs { cnidarian, plugin }, Registry::open().unwrap());
    let services = json!({"engine": "ebpf", "cgroup": cgroup.0});
    let scenario = Scenario { services, ..Scenario::parse(SCENARIO).unwrap() };
    Lab::start(scenario, &programs, &registry, false, &AtomicBool::new(false)).unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn name(number: usize) -> String {
    format!("s{number:02}")
}

/// One in three wants an address of each family.
fn put(lab: &Lab, name: &str, number: usize) {
    let families = if number.is_multiple_of(3) { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
    let spec = json!({"type": "LoadBalancer", "ipFamilies": families, "ports": [{"port": 80}]});
    let metadata = json!({"name": name, "namespace": "shop"});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
    lab.manifests.put(&format!("service-{name}"), &service).unwrap();
}

/// Who has which addresses.
type Given = BTreeMap<String, Vec<IpAddr>>;

/// What the record says; nothing before there is one. It is there whole, or not at all.
fn recorded(manifests: &Path) -> Given {
    let Ok(text) = std::fs::read(manifests.join(RECORD)) else { return Given::new() };
    let object = Object::from_value(serde_json::from_slice(&text).unwrap()).unwrap();
    let record = BalancerRecord::try_from(&object).unwrap();
    record.services.into_iter().map(|(service, addresses)| (service.name.to_string(), addresses.to_vec())).collect()
}

/// What a node serves, by service; `None` while it does not answer.
fn served(lab: &Lab, node: usize) -> Option<Given> {
    let mut ask = Command::new(&lab.programs().cnidarian);
    let answer = ask.args(["services", "--json", "--socket"]).arg(&lab.nodes[node].socket).output().unwrap();
    let shown: Vec<Value> = serde_json::from_slice(&answer.stdout).ok()?;
    let mut all = Given::new();
    for one in shown.iter().filter(|one| one["kind"] == "LoadBalancer") {
        let service = one["service"].as_str().unwrap().strip_prefix("shop/").unwrap();
        let frontend: std::net::SocketAddr = one["frontend"].as_str().unwrap().parse().unwrap();
        all.entry(service.to_owned()).or_default().push(frontend.ip());
    }
    all.values_mut().for_each(|addresses| addresses.sort());
    Some(all)
}

/// Reads the record all the time: whoever has an address keeps it, and no other service gets it.
fn watch(manifests: &Path, done: &AtomicBool) -> usize {
    let (mut known, mut versions) = (Given::new(), 0);
    while !done.load(Ordering::Acquire) {
        let now = recorded(manifests);
        if now != known {
            for (service, addresses) in &known {
                assert_eq!(now.get(service), Some(addresses), "{service} had {addresses:?}");
            }
            let distinct: BTreeSet<IpAddr> = now.values().flatten().copied().collect();
            assert_eq!(distinct.len(), now.values().map(Vec::len).sum::<usize>(), "one of two services: {now:?}");
            (known, versions) = (now, versions + 1);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    versions
}

fn start(lab: &mut Lab, nodes: &[usize]) {
    let programs = lab.programs().clone();
    nodes.iter().for_each(|node| lab.nodes[*node].start_agent(&programs).unwrap());
    nodes.iter().for_each(|node| lab.nodes[*node].wait_ready(&AtomicBool::new(false)).unwrap());
}

fn signal(lab: &Lab, node: usize, signal: &str) {
    let agent = lab.nodes[node].agent_pid().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &agent]).status().unwrap().success());
}

/// Both nodes serve what the record says, which is something for all.
fn until_all_are_served(lab: &Lab, services: usize) -> Given {
    let mut last = Given::new();
    until("both nodes serve all services", || {
        let mut said = recorded(lab.manifests.path());
        said.values_mut().for_each(|addresses| addresses.sort());
        last = said;
        last.len() == services && [0, 1].iter().all(|node| served(lab, *node).as_ref() == Some(&last))
    });
    last
}

/// Sets it when it goes, also when the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn agents_that_write_at_once_take_no_address_back_and_give_none_twice() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut lab = lab(&cgroup);
    lab.nodes.iter_mut().for_each(|node| node.kill_agent());
    for (name, prefix) in POOLS {
        let pool = json!({"apiVersion": "cnidarian.io/v1", "kind": "LoadBalancerPool", "metadata": {"name": name},
            "spec": {"prefixes": [prefix]}});
        lab.manifests.put(&format!("pool-{name}"), &pool).unwrap();
    }
    (0..FIRST).for_each(|number| put(&lab, &name(number), number));
    let done = AtomicBool::new(false);
    let manifests = lab.manifests.path().to_owned();
    let versions = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&manifests, &done));
        let ended = SetAtEnd(&done);
        start(&mut lab, &[0, 1]);
        until_all_are_served(&lab, FIRST);
        for round in 0..ROUNDS {
            let numbers = [FIRST + 2 * round, FIRST + 2 * round + 1];
            put(&lab, &name(numbers[0]), numbers[0]);
            // The first node looks at it 20 ms later. In some rounds it stands between what it has read and what it writes then.
            std::thread::sleep(Duration::from_millis(18 + 2 * (round as u64 % 11)));
            signal(&lab, 0, "-STOP");
            put(&lab, &name(numbers[1]), numbers[1]);
            let both = || {
                let given = recorded(&manifests);
                numbers.iter().all(|number| given.contains_key(&name(*number)))
            };
            // Where the first one stands with the store's lock, the other one waits for it.
            let frozen = Instant::now();
            while !both() && frozen.elapsed() < Duration::from_millis(500) {
                std::thread::sleep(Duration::from_millis(1));
            }
            if round % 6 == 5 {
                lab.nodes[0].kill_agent();
                start(&mut lab, &[0]);
            } else {
                signal(&lab, 0, "-CONT");
            }
            until("both have an address", both);
        }
        until_all_are_served(&lab, ALL);
        drop(ended);
        watching.join().unwrap()
    });
    println!("the record had {versions} versions");

    // One went and one came while nobody looked, and the pool is full: the newcomer has what is free, and nobody moves for it.
    lab.nodes.iter_mut().for_each(|node| node.kill_agent());
    let mut before = recorded(&manifests);
    let gone = before.remove(&name(31)).unwrap();
    lab.manifests.remove(&format!("service-{}", name(31))).unwrap();
    put(&lab, "later", 31);
    start(&mut lab, &[0, 1]);
    until("the newcomer has an address", || recorded(&manifests).contains_key("later"));
    before.insert("later".to_owned(), gone);
    before.values_mut().for_each(|addresses| addresses.sort());
    assert_eq!(until_all_are_served(&lab, ALL), before);
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
