//! Another configuration for an agent that runs: what may change does, the rest is refused by its key.

use crate::world::{Pod, World, until};
use serde_json::{Value, json};

fn write(world: &World, config: &Value) {
    std::fs::write(world.dir.path().join("agent.yaml"), config.to_string()).unwrap();
}

fn with(world: &World, key: &str, value: Value) -> Value {
    let mut config = world.config();
    config[key] = value;
    config
}

/// What another configuration would write.
fn steps(world: &World, config: &Value) -> Vec<String> {
    let file = world.dir.path().join("other.yaml");
    std::fs::write(&file, config.to_string()).unwrap();
    let (done, text) = world.ask(&["plan", "--json", "--config", file.to_str().unwrap()]);
    assert!(done, "{text}");
    let plan: Value = serde_json::from_str(&text).unwrap();
    plan["steps"].as_array().unwrap().iter().map(|step| step["object"].as_str().unwrap().to_owned()).collect()
}

/// Waits until a configuration leaves nothing to be written. A device that takes the place of another may need a second try.
fn is_in_force(world: &World, config: &Value) {
    until("the configuration is in force", || {
        let left = steps(world, config);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", world.log())) }
    });
}

fn hang_up(world: &World) {
    let pid = rustix::process::Pid::from_raw(world.pid().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
}

#[test]
fn another_section_is_said_before_and_in_force_after_and_pods_keep_their_network() {
    let world = World::started();
    let pod = Pod::new("a");
    world.cni("ADD", &pod).ok();
    let (veths, routes) = (world.veths(), world.routes());
    let other = with(&world, "vxlan", json!({"deviceName": "overlay"}));
    assert!(steps(&world, &other).iter().any(|object| object.contains("overlay")));
    assert_eq!(steps(&world, &world.config()), [""; 0], "a dry run changes nothing");
    write(&world, &other);
    let (done, text) = world.ask(&["reload"]);
    assert!(done, "{text}");
    is_in_force(&world, &other);
    // As a service manager asks for it.
    write(&world, &world.config());
    hang_up(&world);
    is_in_force(&world, &world.config());
    assert_eq!((world.veths(), world.routes()), (veths, routes));
}

#[test]
fn what_needs_a_new_start_is_refused_by_its_key_and_nothing_changes() {
    let world = World::started();
    let before = world.config();
    for (key, value, named) in [
        ("nodeName", json!("node-2"), "nodeName"),
        ("mtu", json!(1300), "mtu"),
        ("policy", json!("none"), "policy.engine"),
        ("resyncSeconds", json!(7), "resyncSeconds"),
        ("log", json!("info"), "log"),
        ("vxlan", json!({"mode": "host-gw"}), "mode"),
        ("vxlan", json!({"vni": 7}), "vni"),
        ("vxlan", json!({"vni": 0}), "vxlan.vni"),
        ("bgp", json!({"asn": 0}), "bgp.asn"),
    ] {
        write(&world, &with(&world, key, value));
        let (done, text) = world.ask(&["reload"]);
        assert!(!done && text.contains(named), "{key}: {text}");
    }
    write(&world, &json!("no configuration"));
    hang_up(&world);
    until("the refusal is in the log", || {
        let log = world.log();
        if log.contains("is refused") { Ok(()) } else { Err(log) }
    });
    assert_eq!(steps(&world, &before), [""; 0]);
}

#[test]
fn peers_of_a_bgp_node_change_without_a_start_and_the_plan_says_which_sessions_end() {
    let mut world = World::new();
    let peer = |name: &str, address: &str| json!({"name": name, "address": address, "asn": 65001});
    let section = |peers: Vec<Value>| json!({"asn": 64512, "peers": peers});
    let mut config = world.config();
    config["backend"] = "bgp".into();
    config["bgp"] = section(vec![peer("tor-a", "192.0.2.254")]);
    world.start_with(&config);
    let peers = |world: &World| {
        let (done, text) = world.ask(&["bgp", "peers"]);
        assert!(done, "{text}");
        text
    };
    until("the first peer is there", || {
        let text = world.ask(&["bgp", "peers"]).1;
        if text.contains("tor-a") { Ok(()) } else { Err(text) }
    });
    config["bgp"] = section(vec![peer("tor-b", "192.0.2.253")]);
    write(&world, &config);
    let file = world.dir.path().join("agent.yaml");
    let (done, text) = world.ask(&["bgp", "plan", file.to_str().unwrap()]);
    assert!(done && text.contains("tor-a") && text.contains("tor-b"), "{text}");
    assert!(peers(&world).contains("tor-a"), "a plan changes nothing");
    let (done, text) = world.ask(&["reload"]);
    assert!(done, "{text}");
    until("the second peer has taken the place of the first", || {
        let text = peers(&world);
        if text.contains("tor-b") && !text.contains("tor-a") { Ok(()) } else { Err(text) }
    });
}
