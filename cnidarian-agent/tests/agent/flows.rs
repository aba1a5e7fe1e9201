//! What was decided about traffic is told once, with who and why, or counted as lost: a real agent, seen by its program.

use crate::policy::{Member, PORT, join, only, put, resync, voice};
use crate::world::{World, until};
use net_linux::addr::Address;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::{Batch, Socket};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Datagrams of a flood: more than what the kernel holds back for the agent.
const FLOOD: usize = 100_000;

/// A node whose engine tells of these flows.
fn started(engine: &str, flows: Option<&str>) -> World {
    let mut world = World::new();
    let mut config = world.config();
    config["metrics"] = json!({"address": "127.0.0.1:9402"});
    config["policy"] = json!({"engine": engine});
    if let Some(flows) = flows {
        config["policy"]["flows"] = flows.into();
    }
    world.start_with(&config);
    world
}

/// The pod `server`, which only `friend` may talk to, and `enemy` less than anybody.
fn shop(world: &World) -> [Member; 4] {
    let members = ["server", "friend", "stranger", "enemy"].map(|name| join(world, "shop", name));
    put(world, "only", &only("shop", "server", "friend"));
    let enemy = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "enemy"}}}});
    let spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
        "ingress": [{"name": "no", "action": "Deny", "from": [enemy]}]});
    let metadata = json!({"name": "no-enemy"});
    let policy = json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": metadata, "spec": spec});
    put(world, "enemy", &policy);
    resync(world);
    members
}

fn send_one(from: &Member, to: &Member) {
    voice(&from.pod.netns).send_to(b"one", (to.address, PORT)).unwrap();
}

/// What `cnidarian flows` prints, without what was lost.
fn flows(world: &World, arguments: &[&str]) -> Vec<Value> {
    let (done, text) = world.ask(&[&["flows", "-o", "json"], arguments].concat());
    assert!(done, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A record in short: from whom, to whom, where and what was decided, why, and by what.
fn short(flow: &Value) -> Value {
    let (by, source, destination) = (&flow["by"], &flow["source"], &flow["destination"]);
    assert_eq!((&flow["node"], &flow["protocol"], &flow["packets"]), (&json!("node-1"), &json!("UDP"), &json!(1)));
    assert_eq!((&destination["namespace"], &destination["port"]), (&json!("shop"), &json!(PORT)), "{flow}");
    assert_eq!(source["labels"], json!({"app": source["name"]}), "{flow}");
    json!([
        source["name"],
        destination["name"],
        flow["direction"],
        flow["verdict"],
        flow["reason"],
        by["tier"],
        by["policy"],
        by["rule"]
    ])
}

fn sorted(flows: &[Value]) -> Vec<Value> {
    let mut short: Vec<Value> = flows.iter().map(short).collect();
    short.sort_by_key(ToString::to_string);
    short
}

#[test]
fn each_decision_is_told_once_with_both_pods_the_verdict_the_policy_and_the_rule() {
    tells_each_decision("nftables");
}

#[test]
fn each_decision_is_told_once_with_both_pods_the_verdict_the_policy_and_the_rule_in_ebpf() {
    tells_each_decision("ebpf");
}

fn tells_each_decision(engine: &str) {
    let world = started(engine, Some("all"));
    let [server, friend, stranger, enemy] = shop(&world);
    for from in [&friend, &stranger, &enemy] {
        send_one(from, &server);
    }
    let of_pods = ["--protocol", "udp", "--port", "7", "--to", "shop/server"];
    let all = until("six decisions are told", || {
        let flows = flows(&world, &of_pods);
        if flows.len() >= 6 { Ok(flows) } else { Err(format!("{flows:?}")) }
    });
    let left = |name: &str| json!([name, "server", "egress", "allowed", null, null, null, "no tier decides"]);
    let by_rule = |name: &str, verdict: &str, reason: Option<&str>, tier: &str, policy: &str| {
        json!([name, "server", "ingress", verdict, reason, tier, policy, "spec.ingress[0]"])
    };
    let end_of_tier = json!(["stranger", "server", "ingress", "denied", "end-of-tier", "default", null, "end of tier"]);
    let mut expected = vec![
        left("friend"),
        left("stranger"),
        left("enemy"),
        by_rule("friend", "allowed", None, "default", "NetworkPolicy shop/server"),
        by_rule("enemy", "denied", Some("rule"), "kube-admin", "ClusterNetworkPolicy no-enemy"),
        end_of_tier.clone(),
    ];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(sorted(&all), expected);
    // Each condition takes what it says.
    let some = |more: &[&str]| sorted(&flows(&world, &[&of_pods, more].concat()));
    assert_eq!(some(&["--from", "stranger", "--direction", "ingress"]), std::slice::from_ref(&end_of_tier));
    assert_eq!(some(&["--verdict", "denied"]).len(), 2);
    assert_eq!(some(&["--from", &friend.address.to_string()]).len(), 2);
    assert_eq!(some(&["--namespace", "other"]).len(), 0);
    let (done, text) = world.ask(&["flows", "--verdict", "denied", "--from", "enemy"]);
    let line = text.lines().last().unwrap();
    let ends = format!("shop/enemy {}:", enemy.address);
    let by = "; tier kube-admin, ClusterNetworkPolicy no-enemy spec.ingress[0]";
    assert!(done && line.contains("denied") && line.contains(&ends) && line.ends_with(by), "{text}");
}

#[test]
fn what_passed_in_a_connection_is_told_when_it_is_over_and_packets_in_it_by_chance() {
    let mut world = World::new();
    let mut config = world.config();
    config["policy"] = json!({"engine": "ebpf", "flows": "all", "sample": 1});
    world.start_with(&config);
    let [server, friend, ..] = shop(&world);
    let voice = voice(&friend.pod.netns);
    for _ in 0..3 {
        voice.send_to(b"one", (server.address, PORT)).unwrap();
    }
    let from = friend.address.to_string();
    let at_client = ["--from", from.as_str(), "--direction", "egress", "--protocol", "udp"];
    let chosen = until("the later packets are told", || {
        let chosen = flows(&world, &at_client).into_iter().filter(|flow| flow["sampled"] == json!(1));
        Some(chosen.collect::<Vec<_>>()).filter(|chosen| chosen.len() == 2).ok_or_else(|| "not yet".to_owned())
    });
    assert!(chosen.iter().all(|flow| flow["source"]["name"] == json!("friend")), "{chosen:?}");
    world.cni("DEL", &friend.pod).ok();
    let over = until("the connection's end is told", || {
        let flows = flows(&world, &at_client);
        flows.iter().find(|flow| flow["ended"].is_object()).cloned().ok_or_else(|| format!("{flows:?}"))
    });
    // IPv4's and UDP's headers are 28 bytes.
    let sent = json!({"packets": 3, "bytes": 3 * 31});
    assert_eq!((&over["ended"]["why"], &over["ended"]["sent"]), (&json!("endpoint-gone"), &sent), "{over}");
    assert_eq!((&over["verdict"], &over["packets"]), (&json!("allowed"), &json!(2)), "{over}");
    let (done, text) = world.ask(&["flows", "--from", &from, "--direction", "egress"]);
    assert!(done && text.contains("; endpoint-gone after ") && text.contains("; one of 1"), "{text}");
}

/// A child that ends with the test.
pub(crate) struct Following(pub(crate) Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn without_a_word_about_flows_only_what_is_denied_is_told_and_a_follower_hears_it_when_it_happens() {
    tells_what_is_denied("nftables");
}

#[test]
fn without_a_word_about_flows_only_what_is_denied_is_told_and_a_follower_hears_it_when_it_happens_in_ebpf() {
    tells_what_is_denied("ebpf");
}

fn tells_what_is_denied(engine: &str) {
    let world = started(engine, None);
    let [server, friend, stranger, _] = shop(&world);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
    // The host itself speaks to pods, too, of neighbours and groups.
    let wanted = ["--to", "server", "--protocol", "udp"];
    command.args(["flows", "--follow", "-o", "json"]).args(wanted).arg("--socket").arg(world.socket());
    let mut following = Following(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    send_one(&friend, &server);
    send_one(&stranger, &server);
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let denied = json!(["stranger", "server", "ingress", "denied", "end-of-tier", "default", null, "end of tier"]);
    assert_eq!(short(&first), denied);
    assert_eq!(sorted(&flows(&world, &wanted)), [denied]);
}

#[test]
fn a_follower_goes_on_with_an_agent_that_is_started_anew_and_says_so() {
    let mut world = started("nftables", None);
    let [server, _, stranger, _] = shop(&world);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
    let wanted = ["--to", "server", "--protocol", "udp"];
    command.args(["flows", "--follow", "-o", "json"]).args(wanted).arg("--socket").arg(world.socket());
    let mut following = Following(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    let mut told = BufReader::new(following.0.stderr.take().unwrap()).lines();
    send_one(&stranger, &server);
    assert!(lines.next().unwrap().unwrap().contains("\"denied\""));
    world.kill();
    assert!(told.next().unwrap().unwrap().ends_with("waiting for it"));
    let mut config = world.config();
    config["policy"] = json!({"engine": "nftables"});
    world.start_with(&config);
    let mut rest = told.by_ref().map(Result::unwrap);
    assert!(rest.any(|line| line.contains("the agent answers again")));
    assert!(rest.any(|line| line.contains("the agent was started anew")));
    send_one(&stranger, &server);
    assert!(lines.next().unwrap().unwrap().contains("\"denied\""));
}

#[test]
fn who_sends_from_an_address_that_is_not_its_own_is_told_by_its_interface() {
    let world = started("nftables", None);
    let [server, _, stranger, _] = shop(&world);
    let borrowed = "198.51.100.7";
    let take = || {
        let mut socket = Socket::route().unwrap();
        let index = Link::get(&mut socket, &LinkId::Name("eth0")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        Address::new(index, format!("{borrowed}/32").parse().unwrap()).create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        UdpSocket::bind((borrowed, 0)).unwrap()
    };
    let liar = stranger.pod.netns.run(take).unwrap();
    liar.send_to(b"one", (server.address, PORT)).unwrap();
    let told = until("the lie is told", || {
        flows(&world, &["--reason", "spoofed-source"]).pop().ok_or_else(|| "nothing".to_owned())
    });
    let source = &told["source"];
    assert_eq!((&source["name"], &source["address"]), (&json!("stranger"), &json!(borrowed)), "{told}");
    assert_eq!((&told["direction"], &told["destination"]["name"]), (&json!("egress"), &json!("server")), "{told}");
}

/// What a monitor reads.
pub(crate) fn scrape(world: &World) -> String {
    let connect = || TcpStream::connect("127.0.0.1:9402").unwrap();
    let mut client = world.netns.run(connect).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// The sum of a metric over its labels.
fn metric(world: &World, name: &str) -> u64 {
    let text = scrape(world);
    let named = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    named.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn of_a_flood_each_packet_is_told_or_counted_as_lost() {
    let world = started("nftables", None);
    let [server, _, stranger, _] = shop(&world);
    let voice = voice(&stranger.pod.netns);
    let send = || voice.send_to(b"flood", (server.address, PORT)).is_ok();
    (0..FLOOD).filter(|_| send()).count();
    let dropped = || -> u64 {
        let (done, text) = world.ask(&["policy", "counters", "--json"]);
        assert!(done, "{text}");
        let counters: Vec<Value> = serde_json::from_str(&text).unwrap();
        let denied = counters.iter().filter(|counter| counter["action"] == "deny");
        denied.map(|counter| counter["packets"].as_u64().unwrap()).sum()
    };
    let mut last_word = Instant::now();
    let (held, lost) = until("all of it is told or counted", || {
        let (done, text) = world.ask(&["flows", "--summary", "-o", "json"]);
        assert!(done, "{text}");
        let summary: Value = serde_json::from_str(&text).unwrap();
        let pairs = summary["pairs"].as_array().unwrap();
        let held: u64 = pairs.iter().map(|pair| pair["flows"].as_u64().unwrap()).sum();
        let (lost, dropped) = (summary["lost"].as_u64().unwrap(), dropped());
        if held + lost == dropped && dropped > FLOOD as u64 / 2 {
            return Ok((held, lost));
        }
        // How many are lost is known when one after them is heard.
        if last_word.elapsed() > Duration::from_secs(1) {
            assert!(send());
            last_word = Instant::now();
        }
        Err(format!("{held} held, {lost} lost, {dropped} dropped"))
    });
    assert!(held > 0 && lost > 0, "{held} held, {lost} lost");
    assert!(metric(&world, "cnidarian_flows_lost_total") > 0);
    let counted = metric(&world, "cnidarian_flows_total") + metric(&world, "cnidarian_flows_lost_total");
    assert_eq!(counted, held + lost, "{held} held, {lost} lost");
}
