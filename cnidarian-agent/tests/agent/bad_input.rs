//! Bad input gets a clear error with the right code that names object and field, and nothing is changed.

use crate::world::{Pod, World};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const GOOD: [(&str, &str); 3] = [("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/usr/lib/cni")];

#[test]
fn a_hostile_environment_is_refused_by_name() {
    let world = World::started();
    let pod = Pod::new("a");
    let netns = pod.path();
    let conf = world.conf().to_string();
    for (variable, value) in [
        ("CNI_COMMAND", "EXPLODE"),
        ("CNI_CONTAINERID", "../../etc/passwd"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "-a"),
        ("CNI_IFNAME", "../eth0"),
        ("CNI_IFNAME", "eth0 "),
        ("CNI_IFNAME", "a-name-with-sixteen"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "eth%d"),
        ("CNI_IFNAME", "all"),
        ("CNI_NETNS", "relative"),
        ("CNI_NETNS", "/run/netns/../../etc/passwd"),
        ("CNI_NETNS", "/etc/passwd"),
        ("CNI_NETNS", "/nowhere"),
        ("CNI_NETNS", "/proc/self/ns/mnt"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_ARGS", "IP"),
        ("CNI_ARGS", "COLOUR=red"),
        ("CNI_ARGS", "IP=10.42.0"),
    ] {
        let mut env = vec![("CNI_COMMAND", "ADD"), ("CNI_NETNS", netns.as_str())];
        env.extend(GOOD);
        env.retain(|(name, _)| *name != variable);
        env.push((variable, value));
        let answer = world.run(&env, &conf);
        assert_eq!(answer.code(), 4, "{variable}={value}: {}", answer.text());
        assert!(answer.text().contains(variable), "{variable}={value}: {}", answer.text());
        env.pop();
        if variable != "CNI_ARGS" {
            let missing = world.run(&env, &conf);
            assert_eq!(missing.code(), 4, "without {variable}: {}", missing.text());
        }
    }
    world.assert_empty();
}

#[test]
fn a_wrong_configuration_is_refused_with_its_field() {
    let world = World::started();
    let pod = Pod::new("a");
    let with = |key: &str, value: Value| {
        let mut conf = world.conf();
        conf[key] = value;
        world.cni_with("ADD", &pod, &conf, &[])
    };
    for (key, value, code) in [
        ("cniVersion", json!("9.9.9"), 1),
        ("cniVersion", json!(1), 6),
        ("name", json!("../x"), 7),
        ("type", json!("../cnidarian-cni"), 7),
        ("agentSockt", json!("/x"), 2),
        ("mtu", json!(60), 7),
        ("ipam", json!({"type": "../../bin/sh"}), 7),
        ("ipam", json!({"type": "no-such-plugin"}), 7),
        ("prevResult", json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.300/24"}]}), 6),
        ("prevResult", json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.3/24", "interface": 1}]}), 7),
    ] {
        let answer = with(key, value.clone());
        assert_eq!(answer.code(), code, "{key}: {value}: {}", answer.text());
        let name =
            if value.get("type").is_some() { value["type"].as_str().unwrap().rsplit('/').next().unwrap() } else { key };
        assert!(answer.text().contains(name), "{key}: {value}: {}", answer.text());
    }
    for text in ["", "{", "[]", "null", "\u{0}"] {
        let path = pod.path();
        let mut env = vec![("CNI_COMMAND", "ADD"), ("CNI_NETNS", path.as_str())];
        env.extend(GOOD);
        let answer = world.run(&env, text);
        assert!([6, 7].contains(&answer.code()), "{text:?}: {}", answer.text());
    }
    world.assert_empty();
}

#[test]
fn an_interface_that_is_there_already_is_refused_and_stays() {
    use net_linux::link::{Link, LinkId, NewLink, NewLinkKind, VethPeer};
    use net_linux::netlink::Socket;
    let world = World::started();
    let pod = Pod::new("a");
    let foreign = || {
        let peer = VethPeer { name: "other", mac: None, namespace: None };
        NewLink::new("eth0", NewLinkKind::Veth(peer)).create(&mut Socket::route().unwrap()).unwrap();
    };
    pod.netns.run(foreign).unwrap();
    let answer = world.cni("ADD", &pod);
    assert_eq!(answer.code(), 4, "{}", answer.text());
    assert!(answer.text().contains("eth0"), "{}", answer.text());
    let there = pod.netns.run(|| Link::get(&mut Socket::route().unwrap(), &LinkId::Name("eth0")).unwrap()).unwrap();
    assert!(there.is_some());
    world.assert_empty();
}

#[test]
fn clients_that_stay_silent_keep_nobody_out_for_long_and_do_not_hold_up_the_end() {
    let mut world = World::started();
    let connect = || std::os::unix::net::UnixStream::connect(world.socket()).unwrap();
    // More than are worked on at once.
    let silent: Vec<_> = (0..300).map(|_| connect()).collect();
    let pod = Pod::new("a");
    let added = world.cni("ADD", &pod).ok();
    assert!(world.check(&pod, &added).success);
    let again: Vec<_> = (0..300).map(|_| connect()).collect();
    let asked = Instant::now();
    assert_eq!(world.stop().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(30), "{:?}", asked.elapsed());
    drop((silent, again));
}

/// What an operator may get wrong: the agent does not start, and says which key.
#[test]
fn a_wrong_agent_configuration_is_refused_with_its_key() {
    let mut world = World::new();
    let good = world.config();
    let occupied = world.dir.path().join("precious");
    std::fs::write(&occupied, "keep").unwrap();
    for (path, value, said) in [
        ("/bakend", json!("vxlan"), "did you mean `backend`?"),
        ("/backend", json!("vxlam"), "did you mean `vxlan`?"),
        ("/ipam/coolDownSecond", json!(1), "ipam.coolDownSecond"),
        ("/ipam/pools/0/cidr", json!("10.42.0.1/24"), "ipam.pools[0].cidr"),
        ("/ipam/pools/0/blockSize", json!(20), "ipam.pools[0].blockSize"),
        ("/ipam/pools/1", json!({"name": "b", "cidr": "10.42.0.0/25"}), "overlaps"),
        ("/vxlan", json!({"vni": 16_777_216}), "vni"),
        ("/vxlan", json!({"vni": 0}), "vni"),
        ("/vxlan", json!({"port": 65_536}), "port"),
        ("/underlay/interface", json!("nope0"), "nope0"),
        ("/underlay/v4", json!("203.0.113.7/24"), "underlay: v4: no interface has 203.0.113.7"),
        ("/ipam/pools/0/cidr", json!("10.42.0.0/28"), "ipam.pools[0].blockSize"),
        ("/socket", json!(occupied), "this is no socket"),
        ("/metrics", json!({"address": "x"}), "metrics.address"),
        ("/mtu", json!(3), "mtu"),
    ] {
        let mut config = good.clone();
        set(&mut config, path, value.clone());
        world.spawn(&config);
        let status = world.wait_for_end();
        assert_eq!(status.code(), Some(1), "{path} {value}");
        let log = world.log();
        assert!(log.contains(said), "{path} {value}: {log}");
        std::fs::remove_file(world.dir.path().join("log")).unwrap();
    }
    assert_eq!(std::fs::read_to_string(occupied).unwrap(), "keep");
}

#[test]
fn a_check_of_the_configuration_reads_the_filter_of_the_log_as_a_start_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    for (log, code) in [("debug", 0), ("info,=[[[", 1)] {
        std::fs::write(&file, json!({"backend": "vxlan", "log": log}).to_string()).unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cnidarian"));
        let output = command.args(["agent", "--check", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.contains("agent.yaml: log: ")), (Some(code), code == 1), "{said}");
    }
}

fn set(config: &mut Value, path: &str, value: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = config.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => match key.parse::<usize>().unwrap() {
            index if index < list.len() => list[index] = value,
            _ => list.push(value),
        },
        _ => parent[key] = value,
    }
}

/// Two nodes with one podCIDR, a node with our address: the rest works on, and the problem is shown.
#[test]
fn a_cluster_that_contradicts_itself_is_shown_and_does_not_stop_us() {
    let world = World::started();
    let node = |name: &str, address: &str, cidr: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "annotations": {"cnidarian.io/v4-address": address}},
            "spec": {"podCIDRs": [cidr]}});
        let file = world.dir.path().join("cluster").join(format!("{name}.json"));
        std::fs::write(file, manifest.to_string()).unwrap();
    };
    node("liar", "192.0.2.1", "10.44.1.0/24");
    crate::world::until("the problem is shown", || {
        let (_, text) = world.ask(&["status"]);
        if text.contains("liar") && text.contains("192.0.2.1") { Ok(()) } else { Err(text) }
    });
    world.cni("ADD", &Pod::new("a")).ok();
}
