//! What a node's parts drop, and how full their tables are, as monitors and operators see it: a real agent. Never why a packet
//! is dropped.

use crate::flows::scrape;
use crate::policy::{Member, PORT, join, only, put, resync, voice};
use crate::world::{World, until};
use serde_json::{Value, json};

fn started(engine: &Value) -> World {
    let mut world = World::new();
    let mut config = world.config();
    config["metrics"] = json!({"address": "127.0.0.1:9402"});
    config["policy"] = engine.clone();
    world.start_with(&config);
    world
}

/// A pod that nobody but `friend` may talk to, and somebody else who does.
fn denied(world: &World) -> [Member; 2] {
    let members = ["server", "stranger"].map(|name| join(world, "shop", name));
    put(world, "only", &only("shop", "server", "friend"));
    resync(world);
    for _ in 0..3 {
        voice(&members[1].pod.netns).send_to(b"one", (members[0].address, PORT)).unwrap();
    }
    members
}

/// The value of a metric with all of these labels.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let of_name = |line: &&str| line.split_once('{').is_some_and(|(found, _)| found == name);
    let mut lines = text.lines().filter(of_name).filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.next().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn drops_are_counted(engine: &str) {
    let world = started(&json!({ "engine": engine }));
    let _members = denied(&world);
    let labels = ["part=\"policy\"", "reason=\"policy\"", "direction=\"ingress\""];
    assert_eq!(value(&scrape(&world), "cnidarian_packets_dropped_total", &labels), Some(3.0), "{}", scrape(&world));
}

#[test]
fn what_policy_drops_is_counted_for_monitors() {
    drops_are_counted("nftables");
}

#[test]
fn what_policy_drops_is_counted_for_monitors_in_ebpf() {
    drops_are_counted("ebpf");
}

fn problems(world: &World) -> Vec<Value> {
    let (_, text) = world.ask(&["status", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    status["problems"].as_array().unwrap().clone()
}

#[test]
fn a_table_that_is_nearly_full_is_a_problem_and_in_the_log_until_it_has_room_again() {
    // Room for two pods with an address each.
    let world = started(&json!({ "engine": "ebpf", "maps": { "endpoints": 2 } }));
    let [_server, stranger] = denied(&world);
    let full = |problem: &Value| problem["object"] == "table ENDPOINTS of policy" && problem["state"] == "nearly full";
    let told = until("the table is said to be full", || {
        let problems = problems(&world);
        problems.iter().find(|problem| full(problem)).cloned().ok_or_else(|| format!("{problems:?}"))
    });
    assert!(told["error"].as_str().unwrap().starts_with("2 of 2 entries are used"), "{told}");
    assert!(world.log().contains("a table is nearly full"));
    let table = ["part=\"policy\"", "table=\"ENDPOINTS\""];
    let of_table = |name: &str| value(&scrape(&world), name, &table);
    assert_eq!((of_table("cnidarian_table_entries"), of_table("cnidarian_table_room")), (Some(2.0), Some(2.0)));
    world.cni("DEL", &stranger.pod).ok();
    until("there is room again", || {
        let problems = problems(&world);
        if problems.iter().any(full) { Err(format!("{problems:?}")) } else { Ok(()) }
    });
    assert_eq!(of_table("cnidarian_table_entries"), Some(1.0));
    assert!(world.log().contains("a table has room again"));
}
