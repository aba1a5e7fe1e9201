//! Each verb does what the specification says, seen from a runtime.

use crate::world::{Pod, World, until};
use net_linux::link::{Link, LinkChange, LinkId};
use net_linux::netlink::{Batch, Socket};
use net_linux::route::Route;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

pub(crate) fn address(added: &serde_json::Value) -> IpAddr {
    added["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()
}

/// One datagram each way.
pub(crate) fn talks(from: &Pod, to: &Pod, target: IpAddr) -> bool {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let server = to.netns.run(|| UdpSocket::bind(any)).unwrap().unwrap();
    let client = from.netns.run(|| UdpSocket::bind(any)).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    }
    let mut bytes = [0; 8];
    let port = server.local_addr().unwrap().port();
    client.send_to(b"ping", (target, port)).is_ok()
        && server.recv_from(&mut bytes).is_ok_and(|(_, from)| server.send_to(b"pong", from).is_ok())
        && client.recv(&mut bytes).is_ok()
}

#[test]
fn add_answers_when_traffic_flows_and_del_leaves_nothing() {
    let world = World::started();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    world.cni("ADD", &a).ok();
    let added = world.cni("ADD", &b).ok();
    assert!(talks(&a, &b, address(&added)));
    assert_eq!(world.leases().len(), 2);
    assert!(world.check(&b, &added).success);
    world.cni("STATUS", &a).ok();
    for pod in [&a, &b] {
        world.cni("DEL", pod).ok();
        world.cni("DEL", pod).ok();
    }
    world.assert_empty();
    assert_eq!(world.stop_and_log().1.code(), Some(0));
}

impl World {
    fn stop_and_log(mut self) -> (String, std::process::ExitStatus) {
        let status = self.stop();
        (self.log(), status)
    }
}

#[test]
fn a_second_add_is_refused_and_changes_nothing() {
    let world = World::started();
    let pod = Pod::new("a");
    let added = world.cni("ADD", &pod).ok();
    let again = world.cni("ADD", &pod);
    assert_eq!(again.code(), 4, "{}", again.text());
    assert!(again.text().contains("DEL"), "{}", again.text());
    assert!(world.check(&pod, &added).success);
    assert_eq!(world.leases().len(), 1);
}

#[test]
fn a_container_that_is_attached_in_another_living_namespace_is_refused_and_keeps_its_network() {
    let world = World::started();
    let (pod, other) = (Pod::new("a"), Pod::new("b"));
    let added = world.cni("ADD", &pod).ok();
    world.cni("ADD", &other).ok();
    let again = Pod::new("a");
    let refused = world.cni("ADD", &again);
    assert_eq!(refused.code(), 4, "{}", refused.text());
    assert!(refused.text().contains("another network namespace") && refused.text().contains("DEL"), "{refused:?}");
    assert!(world.check(&pod, &added).success);
    assert!(talks(&other, &pod, address(&added)));
    assert_eq!(world.leases().len(), 2);
    world.cni("DEL", &pod).ok();
    world.cni("ADD", &again).ok();
}

#[test]
fn a_container_whose_namespace_is_gone_is_attached_anew() {
    let world = World::started();
    let pod = Pod::new("a");
    world.cni("ADD", &pod).ok();
    drop(pod);
    let again = Pod::new("a");
    // A child that a neighbouring test just started may hold the namespace until it executes.
    let added = until("it is attached", || {
        let answer = world.cni("ADD", &again);
        if answer.success { Ok(answer.json) } else { Err(answer.text()) }
    });
    assert!(world.check(&again, &added).success);
    assert_eq!(world.leases().len(), 1);
    world.cni("DEL", &again).ok();
    world.assert_empty();
}

#[test]
fn eight_adds_at_once_get_eight_addresses() {
    let world = World::started();
    let pods: Vec<Pod> = (0..8).map(|index| Pod::new(&format!("pod-{index}"))).collect();
    let added: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = pods.iter().map(|pod| scope.spawn(|| world.cni("ADD", pod).ok())).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: BTreeSet<IpAddr> = added.iter().map(address).collect();
    assert_eq!(addresses.len(), 8);
    assert!(talks(&pods[0], &pods[7], address(&added[7])));
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| world.cni("DEL", pod).ok());
        }
    });
    world.assert_empty();
}

#[test]
fn check_names_what_drifted_on_either_side() {
    let world = World::started();
    let pod = Pod::new("a");
    let added = world.cni("ADD", &pod).ok();
    let down = || {
        let mut batch = Batch::new();
        LinkChange { mtu_bytes: Some(1300), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("eth0"));
        Socket::route().unwrap().run_all(&mut batch).unwrap();
    };
    pod.netns.run(down).unwrap();
    let found = world.check(&pod, &added);
    assert!(found.code() >= 100);
    assert!(found.text().contains("1300"), "{}", found.text());
    let mut other = added.clone();
    other["ips"][0]["address"] = json!("10.42.0.99/32");
    assert!(world.check(&pod, &other).text().contains("10.42.0.99"));
    // A default route that the chain told of is known; one that nobody told of leads the pod's traffic elsewhere.
    let elsewhere = Pod::new("b");
    let mut added_b = world.cni("ADD", &elsewhere).ok();
    let second = || {
        let mut socket = Socket::route().unwrap();
        let index = Link::get(&mut socket, &LinkId::Name("eth0")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        let route = Route::via_on_link("0.0.0.0/0".parse().unwrap(), "10.42.0.99".parse().unwrap(), index);
        Route { metric: 50, ..route }.create(&mut batch);
        socket.run_all(&mut batch).unwrap();
    };
    elsewhere.netns.run(second).unwrap();
    let found = world.check(&elsewhere, &added_b).text();
    assert!(found.contains("route 0.0.0.0/0 via 10.42.0.99 metric 50: there"), "{found}");
    added_b["routes"].as_array_mut().unwrap().push(json!({"dst": "0.0.0.0/0", "gw": "10.42.0.99", "priority": 50}));
    assert!(world.check(&elsewhere, &added_b).success);
    let unknown = Pod::new("nobody");
    assert_eq!(world.check(&unknown, &added).code(), 3);
}

#[test]
fn gc_frees_what_is_not_valid_in_its_own_network_only() {
    let world = World::started();
    let (stays, goes, other) = (Pod::new("stays"), Pod::new("goes"), Pod::new("other"));
    world.cni("ADD", &stays).ok();
    world.cni("ADD", &goes).ok();
    let mut second = world.conf();
    second["name"] = json!("second");
    world.cni_with("ADD", &other, &second, &[]).ok();
    let mut conf = world.conf();
    world.cni_with("GC", &stays, &conf, &[]).ok();
    assert_eq!(world.leases().len(), 3, "without a list nothing is freed");
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "stays", "ifname": "eth0"}]);
    world.cni_with("GC", &stays, &conf, &[]).ok();
    assert_eq!(world.leases().len(), 2);
    conf["cni.dev/valid-attachments"] = json!([]);
    world.cni_with("GC", &stays, &conf, &[]).ok();
    assert_eq!(world.leases().len(), 1);
    second["cni.dev/valid-attachments"] = json!([]);
    world.cni_with("GC", &stays, &second, &[]).ok();
    world.assert_empty();
}

#[test]
fn requested_addresses_are_given_or_refused() {
    let world = World::started();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let mut conf = world.conf();
    conf["runtimeConfig"] = json!({"ips": ["10.42.0.77"]});
    let added = world.cni_with("ADD", &a, &conf, &[]).ok();
    assert_eq!(address(&added), "10.42.0.77".parse::<IpAddr>().unwrap());
    let taken = world.cni_with("ADD", &b, &conf, &[]);
    assert!(taken.text().contains("10.42.0.77") && taken.text().contains("a/eth0"), "{}", taken.text());
    conf["runtimeConfig"] = json!({"ips": ["192.0.2.55"]});
    let outside = world.cni_with("ADD", &b, &conf, &[]);
    assert!(outside.text().contains("192.0.2.55"), "{}", outside.text());
    let args = [("CNI_ARGS", "IgnoreUnknown=1;IP=10.42.0.78;K8S_POD_NAMESPACE=default;K8S_POD_NAME=b")];
    let added = world.cni_with("ADD", &b, &world.conf(), &args).ok();
    assert_eq!(address(&added), "10.42.0.78".parse::<IpAddr>().unwrap());
    assert!(world.ask(&["status"]).1.contains("default/b"));
}

#[test]
fn a_prev_result_stays_in_front_of_ours() {
    let world = World::started();
    let pod = Pod::new("a");
    let mut conf = world.conf();
    conf["prevResult"] = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "net9", "sandbox": "/x"}],
        "ips": [{"address": "198.51.100.7/24", "interface": 0}]});
    let added = world.cni_with("ADD", &pod, &conf, &[]).ok();
    assert_eq!(added["interfaces"][0]["name"], "net9");
    assert_eq!(added["ips"][1]["interface"], 2);
    assert!(world.check(&pod, &added).success);
}

#[test]
fn an_exhausted_pool_shows_in_add_and_status() {
    let mut world = World::new();
    let mut config = world.config();
    config["ipam"]["pools"] = json!([{"name": "tiny", "cidr": "10.43.0.0/30", "blockSize": 30}]);
    world.start_with(&config);
    let pods: Vec<Pod> = (0..4).map(|index| Pod::new(&format!("pod-{index}"))).collect();
    let (mut given, mut refused) = (0, None);
    for pod in &pods {
        let answer = world.cni("ADD", pod);
        if answer.success { given += 1 } else { refused = Some(answer) }
    }
    // The node has one address of its own.
    assert_eq!(given, 3);
    let refused = refused.unwrap();
    assert_eq!(refused.code(), 11);
    assert!(refused.text().contains("tiny"), "{}", refused.text());
    let status = world.cni("STATUS", &pods[0]);
    assert_eq!(status.code(), 50);
    assert!(status.text().contains("tiny"), "{}", status.text());
    world.cni("DEL", &pods[0]).ok();
    until("STATUS is well again", || {
        let status = world.cni("STATUS", &pods[0]);
        if status.success { Ok(()) } else { Err(status.text()) }
    });
}

#[test]
fn a_delegated_ipam_plugin_gives_the_addresses() {
    let world = World::started();
    let pod = Pod::new("a");
    // A stand-in for host-local: a program that answers ADD, and remembers the verbs it was called with.
    let bin = world.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\necho $CNI_COMMAND >> {}\n[ $CNI_COMMAND = ADD ] && \
         echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.99.0.5/24\"}}]}}'\nexit 0\n",
        world.dir.path().join("verbs").display()
    );
    std::fs::write(bin.join("fixed"), script).unwrap();
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(bin.join("fixed"), mode).unwrap();
    let mut conf = world.conf();
    conf["ipam"] = json!({"type": "fixed"});
    let path = [("CNI_PATH", bin.to_str().unwrap()), ("PATH", "/usr/bin:/bin")];
    let added = world.cni_with("ADD", &pod, &conf, &path).ok();
    assert_eq!(address(&added), "10.99.0.5".parse::<IpAddr>().unwrap());
    assert!(world.leases().is_empty());
    let twice = world.cni_with("ADD", &Pod::new("b"), &conf, &path);
    assert!(twice.text().contains("10.99.0.5") && twice.text().contains("a/eth0"), "{}", twice.text());
    conf["prevResult"] = added;
    world.cni_with("CHECK", &pod, &conf, &path).ok();
    world.cni_with("DEL", &pod, &conf, &path).ok();
    let verbs = std::fs::read_to_string(world.dir.path().join("verbs")).unwrap();
    assert_eq!(verbs.split_whitespace().collect::<Vec<_>>(), ["ADD", "ADD", "DEL", "CHECK", "DEL"]);
    world.assert_empty();
}

#[test]
fn metrics_count_what_the_verbs_did_also_while_others_only_hold_connections() {
    let mut world = World::new();
    let mut config = world.config();
    config["metrics"] = json!({"address": "127.0.0.1:9400"});
    world.start_with(&config);
    world.cni("ADD", &Pod::new("a")).ok();
    let connect = || world.netns.run(|| TcpStream::connect("127.0.0.1:9400")).unwrap().unwrap();
    let silent: Vec<_> = (0..64).map(|_| connect()).collect();
    let mut client = connect();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("application/openmetrics-text"), "{text}");
    assert!(text.contains("cnidarian_operation_seconds_count{verb=\"Add\"} 1"), "{text}");
    drop(silent);
}
