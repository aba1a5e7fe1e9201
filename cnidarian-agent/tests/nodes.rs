//! Two nodes, one directory of manifests in which nobody writes the addresses of pods: policies of one node about pods of
//! the other. Never a status that a test wrote, unless it is a lie.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::store::Object;
use cni_core::store::resources::{NodeEndpoints, PodAddresses};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use testlab::lab::{Lab, Pod, Programs};
use testlab::probe::{PORT, Responder};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

const SCENARIO: &str = "
name: nodes
nodes: [{name: node-1}, {name: node-2}]
pods:
  - {name: server, node: node-2}
  - {name: friend, node: node-1}
  - {name: other, node: node-1}
";
const DEADLINE: Duration = Duration::from_secs(20);

fn lab() -> Lab {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    let (programs, registry) = (Programs { cnidarian, plugin }, Registry::open().unwrap());
    let lab = Lab::start(Scenario::parse(SCENARIO).unwrap(), &programs, &registry, false, &AtomicBool::new(false));
    lab.unwrap()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn label(lab: &Lab, pod: &str, node: &str, status: &Value) {
    let metadata = json!({"name": pod, "namespace": "default", "labels": {"app": pod}});
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": node},
        "status": status});
    lab.manifests.put(&format!("pod-default-{pod}"), &object).unwrap();
}

fn policy(kind: &str, spec: &Value) -> Value {
    let api = if kind == "NetworkPolicy" { "networking.k8s.io/v1" } else { "policy.networking.k8s.io/v1alpha2" };
    json!({"apiVersion": api, "kind": kind, "metadata": {"name": "server"}, "spec": spec})
}

fn reaches(from: &Pod, to: &Pod) -> bool {
    let connect = |to: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(to, PORT), Duration::from_millis(500));
    let answers: Vec<bool> =
        to.addresses.iter().map(|to| from.namespace.run(|| connect(*to).is_ok()).unwrap()).collect();
    answers.iter().all(|one| *one)
}

/// Not over any family.
fn is_cut_off(from: &Pod, to: &Pod) -> bool {
    let connect = |to: IpAddr| TcpStream::connect_timeout(&SocketAddr::new(to, PORT), Duration::from_millis(300));
    to.addresses.iter().all(|to| from.namespace.run(|| connect(*to).is_err()).unwrap())
}

/// What the node tells of its pods; `None` before it tells.
fn told(lab: &Lab, node: &str) -> Option<Vec<PodAddresses>> {
    let path = lab.manifests.path().join(format!("nodeendpoints.cnidarian.io__{node}.json"));
    let object = Object::from_value(serde_json::from_slice(&std::fs::read(path).ok()?).ok()?).ok()?;
    Some(NodeEndpoints::try_from(&object).ok()?.pods)
}

fn problems(lab: &Lab, node: usize) -> Vec<Value> {
    let mut ask = Command::new(&lab.programs().cnidarian);
    let answer = ask.args(["status", "--json", "--socket"]).arg(&lab.nodes[node].socket).output().unwrap();
    let status: Value = serde_json::from_slice(&answer.stdout).unwrap();
    status["problems"].as_array().unwrap().clone()
}

fn counters(lab: &Lab, node: usize) -> Vec<Value> {
    let ask = |more: &[&str]| {
        let mut ask = Command::new(&lab.programs().cnidarian);
        ask.args(["policy", "counters", "--socket"]).arg(&lab.nodes[node].socket).args(more).output().unwrap()
    };
    let table = String::from_utf8(ask(&[]).stdout).unwrap();
    assert!(table.starts_with(" TIER") && table.contains("NetworkPolicy default/server"), "{table}");
    serde_json::from_slice(&ask(&["--json"]).stdout).unwrap()
}

#[test]
fn policies_of_one_node_know_the_pods_of_another_whose_addresses_nobody_wrote() {
    let mut lab = lab();
    let _responder = Responder::start(&lab.pods[0].namespace).unwrap();
    for (pod, node) in [("server", "node-2"), ("friend", "node-1"), ("other", "node-1")] {
        label(&lab, pod, node, &Value::Null);
    }
    let [server, friend, other] = &lab.pods[..] else { panic!("three pods") };
    until("everybody reaches the server at first", || reaches(friend, server) && reaches(other, server));
    let subject = json!({"matchLabels": {"app": "server"}});
    let from = json!([{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}]);
    lab.manifests.put("allow", &policy("NetworkPolicy", &json!({"podSelector": subject, "ingress": from}))).unwrap();
    until("only the friend reaches it", || is_cut_off(other, server) && reaches(friend, server));
    // What decided was counted, and is called as people call it.
    let counted = |what: &str| counters(&lab, 1).into_iter().filter(|one| one["rule"] == what).collect::<Vec<_>>();
    let allowed = counted("spec.ingress[0]");
    assert_eq!(allowed.len(), 1, "{allowed:?}");
    let names = [&allowed[0]["tier"], &allowed[0]["policy"], &allowed[0]["direction"], &allowed[0]["action"]];
    assert_eq!(names, ["default", "NetworkPolicy default/server", "ingress", "allow"]);
    assert!(allowed[0]["packets"].as_u64() > Some(0) && allowed[0]["staged"] == false, "{allowed:?}");
    let denied = counted("end of tier");
    assert!(denied.len() == 1 && denied[0]["action"] == "deny" && denied[0]["pod"] == "default/server", "{denied:?}");
    // A rule that denies by label misses nobody either.
    let deny = json!([{"action": "Deny", "from": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "friend"}}}}]}]);
    let pods = json!({"pods": {"namespaceSelector": {}, "podSelector": subject}});
    let deny = json!({"tier": "Admin", "priority": 1, "subject": pods, "ingress": deny});
    lab.manifests.put("deny", &policy("ClusterNetworkPolicy", &deny)).unwrap();
    until("the friend is denied", || is_cut_off(friend, server));
    lab.manifests.remove("deny").unwrap();
    until("the friend is allowed again", || reaches(friend, server));

    // Somebody else's object with the address of a pod of this node: that pod keeps it for itself. With another's: both.
    let claims = |pod: &Pod| json!({"podIPs": pod.addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>()});
    assert!(problems(&lab, 1).is_empty(), "{:?}", problems(&lab, 1));
    label(&lab, "liar", "node-1", &claims(server));
    until("the lie is told of", || {
        let problems = problems(&lab, 1);
        problems.iter().any(|problem| {
            let text = problem.to_string();
            text.contains("Pod default/liar") && text.contains("attached to this node") && text.contains("left out")
        })
    });
    lab.manifests.remove("pod-default-liar").unwrap();
    until("it is over", || problems(&lab, 1).is_empty());

    // What is detached is told of no more; also what was detached while the agent was away.
    let names =
        |pods: Option<Vec<PodAddresses>>| -> Vec<String> { pods.into_iter().flatten().map(|pod| pod.name).collect() };
    assert_eq!(names(told(&lab, "node-1")), ["friend", "other"]);
    let other = lab.pods.remove(2);
    lab.detach(&other).unwrap();
    until("node-1 forgets the other", || names(told(&lab, "node-1")) == ["friend"]);
    lab.nodes[0].kill_agent();
    let friend = lab.pods.remove(1);
    lab.detach(&friend).unwrap();
    assert_eq!(names(told(&lab, "node-1")), ["friend"], "nobody is there to write");
    let programs = lab.programs().clone();
    lab.nodes[0].start_agent(&programs).unwrap();
    lab.nodes[0].wait_ready(&AtomicBool::new(false)).unwrap();
    until("node-1 forgets the friend", || told(&lab, "node-1") == Some(Vec::new()));
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
