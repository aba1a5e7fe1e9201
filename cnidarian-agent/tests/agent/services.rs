//! Addresses of services, from manifests to a router outside (BIRD). Nobody translates them here: this is about routes only.

use crate::flows::Following;
use crate::world::{World, until};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const BIRD: &str = "/usr/sbin/bird";
const BIRDC: &str = "/usr/sbin/birdc";

/// A router at the other end of the node's segment, at 192.0.2.254. Ends with the test.
struct Router {
    bird: Child,
    dir: TempDir,
    _netns: NetNs,
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.bird.kill();
        let _ = self.bird.wait();
    }
}

fn ip(args: &str) {
    let output = Command::new("ip").args(args.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Router {
    fn start(world: &World) -> Self {
        let netns = NetNs::new().unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
        world.netns.run(|| ip(&format!("link set segment netns {path}"))).unwrap();
        let address = || {
            ip("link set lo up");
            ip("address add 192.0.2.254/24 dev segment");
            ip("address add 2001:db8::fe/64 dev segment nodad");
            ip("link set segment up");
        };
        netns.run(address).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        let session = "protocol bgp node { local 192.0.2.254 as 65001; neighbor 192.0.2.1 as 64512; \
                       connect retry time 1; error wait time 1, 2; ipv4 { import all; export none; }; \
                       ipv6 { import all; export none; }; }";
        let text = format!("log stderr all;\nrouter id 192.0.2.254;\nprotocol device {{}}\n{session}\n");
        std::fs::write(file("conf"), text).unwrap();
        let mut command = Command::new(BIRD);
        command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl"));
        let log = std::fs::File::create(file("log")).unwrap();
        let bird = netns.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).unwrap();
        Self { bird, dir, _netns: netns }
    }

    fn routes(&self, args: &[&str]) -> Result<String, String> {
        let ctl = self.dir.path().join("ctl");
        let output = Command::new(BIRDC).arg("-s").arg(ctl).args(["show", "route"]).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// The host routes that the node told of.
    fn learned(&self) -> Result<Vec<String>, String> {
        let text = self.routes(&[])?;
        let routes = text.lines().filter_map(|line| line.split_whitespace().next());
        let is_host = |prefix: &&str| prefix.ends_with("/32") || prefix.ends_with("/128");
        Ok(routes.filter(is_host).map(str::to_owned).collect())
    }

    fn wait(&self, world: &World, what: &str, wanted: &[&str]) {
        until(what, || {
            let mut learned = self.learned()?;
            learned.sort();
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            if learned == wanted { Ok(()) } else { Err(format!("{learned:?}\n{}\n{}", log(), world.log())) }
        });
    }
}

pub(crate) fn put(world: &World, name: &str, object: &Value) {
    let directory = world.dir.path().join("cluster");
    std::fs::create_dir_all(&directory).unwrap();
    let fresh = directory.join(format!(".{name}.new"));
    std::fs::write(&fresh, object.to_string()).unwrap();
    std::fs::rename(fresh, directory.join(format!("{name}.json"))).unwrap();
}

fn service(policy: &str, external: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.7", "ports": [{"port": 80}],
            "externalIPs": [external], "externalTrafficPolicy": policy},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}]}}})
}

fn slice(node: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.42.0.9"], "nodeName": node, "conditions": {"ready": true}}]})
}

/// A service of both families; its addresses outside are written by whoever made it.
fn dual() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dual"},
        "spec": {"clusterIP": "10.96.0.8", "clusterIPs": ["10.96.0.8", "fd00:96::8"], "ports": [{"port": 80}],
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "externalIPs": ["198.51.100.8", "2001:db8:51::8", "fe80::8"]}})
}

pub(crate) fn bgp(world: &World) -> Value {
    let mut config = world.config();
    config["backend"] = "bgp".into();
    config["bgp"] = json!({"asn": 64512, "peers": [{"name": "router", "address": "192.0.2.254", "asn": 65001}]});
    config["services"] =
        json!({"announce": ["ExternalIP", "LoadBalancer"], "externalIPs": ["198.51.100.0/24", "2001:db8:51::/48"]});
    config
}

#[test]
fn a_service_in_the_store_is_a_host_route_outside_for_as_long_as_this_node_takes_it() {
    let mut world = World::new();
    let router = Router::start(&world);
    put(&world, "web", &service("Local", "198.51.100.9", json!({})));
    put(&world, "web-1", &slice("node-1"));
    world.start_with(&bgp(&world));
    let both = ["198.51.100.9/32", "203.0.113.7/32"];
    router.wait(&world, "a local endpoint is announced", &both);
    put(&world, "web-1", &slice("node-2"));
    router.wait(&world, "another node's endpoint is that node's to announce", &[]);
    put(&world, "web", &service("Cluster", "198.51.100.9", json!({})));
    router.wait(&world, "every node takes what is for the cluster", &both);
    put(&world, "web", &service("Cluster", "192.0.2.1", json!({})));
    router.wait(&world, "a node's own address is no service's", &["203.0.113.7/32"]);
    let (done, status) = world.ask(&["status", "--json"]);
    assert!(done && status.contains("192.0.2.1 is a node's"), "{status}");
    put(&world, "web", &service("Cluster", "198.51.100.9", json!({"cnidarian.io/announce": "ExternalIP"})));
    router.wait(&world, "a service may choose", &["198.51.100.9/32"]);
    // The routes are there again with the first word of the next agent.
    world.kill();
    world.start_with(&bgp(&world));
    router.wait(&world, "a new agent announces the same", &["198.51.100.9/32"]);
    std::fs::remove_file(world.dir.path().join("cluster/web.json")).unwrap();
    router.wait(&world, "a service that is gone is not announced", &[]);
}

#[test]
fn ipv6_addresses_of_services_go_outside_by_the_nodes_own_ipv6_address() {
    let mut world = World::new();
    let router = Router::start(&world);
    world.netns.run(|| ip("address add 2001:db8::1/64 dev eth0 nodad")).unwrap();
    put(&world, "dual", &dual());
    for (family, address) in [("IPv4", "10.42.0.9"), ("IPv6", "fd00:42::9")] {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": family, "labels": {"kubernetes.io/service-name": "dual"}}, "ports": [{"port": 8080}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}]});
        put(&world, family, &slice);
    }
    let mut config = bgp(&world);
    config["services"]["announce"] = json!(["ClusterIP", "ExternalIP"]);
    world.start_with(&config);
    let all = ["10.96.0.8/32", "198.51.100.8/32", "2001:db8:51::8/128", "fd00:96::8/128"];
    router.wait(&world, "both families", &all);
    let route = router.routes(&["for", "2001:db8:51::8", "all"]).unwrap();
    assert!(route.contains("BGP.next_hop: 2001:db8::1"), "{route}");
    assert!(route.contains("via 2001:db8::1 on segment"), "{route}");
    let (done, shown) = world.ask(&["services"]);
    assert!(done && shown.contains("default/dual") && shown.contains("[fd00:42::9]:8080"), "{shown}");
    let (_, status) = world.ask(&["status", "--json"]);
    assert!(status.contains("fe80::8"), "a link-local address is nobody's outside: {status}");
    std::fs::remove_file(world.dir.path().join("cluster/dual.json")).unwrap();
    router.wait(&world, "a service that is gone is not announced", &[]);
}

/// A balanced service without any address outside.
fn bare(name: &str, annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "annotations": annotations},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}})
}

fn slice_of(service: &str) -> Value {
    let mut slice = slice("node-1");
    slice["metadata"] = json!({"name": service, "labels": {"kubernetes.io/service-name": service}});
    slice
}

fn problems(world: &World) -> String {
    let status: Value = serde_json::from_str(&world.ask(&["status", "--json"]).1).unwrap();
    status["problems"].to_string()
}

#[test]
fn a_service_has_an_address_of_a_pool_for_good_and_a_router_outside_learns_it() {
    let mut world = World::new();
    let router = Router::start(&world);
    let mut config = bgp(&world);
    let public = json!({"name": "public", "prefixes": ["203.0.113.0/30"]});
    config["services"] = json!({"announce": ["LoadBalancer"], "loadBalancer": {"pools": [public]}});
    for name in ["one", "two"] {
        put(&world, name, &bare(name, json!({})));
        put(&world, &format!("{name}-1"), &slice_of(name));
    }
    world.start_with(&config);
    let both = ["203.0.113.1/32", "203.0.113.2/32"];
    router.wait(&world, "both have an address", &both);
    let (done, shown) = world.ask(&["services"]);
    assert!(done && shown.contains("203.0.113.1:80/TCP") && shown.contains("LoadBalancer"), "{shown}");
    put(&world, "three", &bare("three", json!({})));
    until("the pool is said to be empty", || {
        let problems = problems(&world);
        let told = problems.contains("Service default/three") && problems.contains("no V4 address is left");
        if told { Ok(()) } else { Err(problems) }
    });
    // Whoever writes manifests writes them without what they were given.
    put(&world, "one", &bare("one", json!({"note": "written anew"})));
    world.kill();
    put(&world, "zero", &bare("aaa", json!({"cnidarian.io/load-balancer-addresses": "203.0.113.2"})));
    world.start_with(&config);
    until("who has an address keeps it", || {
        let problems = problems(&world);
        let told = problems.contains("203.0.113.2 is an address of Service default/two");
        if told { Ok(()) } else { Err(problems) }
    });
    router.wait(&world, "the same two", &both);
    std::fs::remove_file(world.dir.path().join("cluster/two.json")).unwrap();
    let wanted = |world: &World| world.ask(&["services"]).1.contains("default/aaa");
    until("who waited for it has it", || if wanted(&world) { Ok(()) } else { Err(world.log()) });
    router.wait(&world, "but nobody is behind it", &["203.0.113.1/32"]);
    std::fs::remove_file(world.dir.path().join("cluster/loadbalancerpool.cnidarian.io__public.json")).unwrap();
    router.wait(&world, "without the pool nobody has an address", &[]);
}

#[test]
fn services_are_watched_across_a_restart_of_the_agent() {
    let mut world = World::new();
    put(&world, "web", &service("Cluster", "198.51.100.9", json!({})));
    put(&world, "web-1", &slice("node-1"));
    let mut config = bgp(&world);
    config["metrics"] = json!({"address": "127.0.0.1:9402"});
    config["services"]["nodePortAddresses"] = json!(["198.51.100.0/24"]);
    world.start_with(&config);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
    command.args(["services", "--watch", "-o", "json"]).arg("--socket").arg(world.socket());
    let mut watching = Following(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut told = BufReader::new(watching.0.stderr.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let first = [next(), next(), next()].map(|line| line["frontend"].as_str().unwrap().to_owned());
    assert_eq!(first, ["10.96.0.7:80", "198.51.100.9:80", "203.0.113.7:80"]);
    let text = crate::flows::scrape(&world);
    let series = "cnidarian_service_backends{namespace=\"default\",service=\"web\"} 1\n";
    assert!(text.contains(series) && !text.contains("service_connections_total{"), "nobody counts here: {text}");
    let problems = problems(&world);
    assert!(problems.contains("no address of this node (192.0.2.1) is in 198.51.100.0/24"), "{problems}");
    world.kill();
    assert!(told.next().unwrap().unwrap().ends_with("waiting for it"));
    put(&world, "web", &service("Cluster", "198.51.100.10", json!({})));
    world.start_with(&config);
    assert!(told.next().unwrap().unwrap().contains("the agent answers again"));
    let (new, gone) = (next(), next());
    assert_eq!((&new["frontend"], &new["gone"]), (&json!("198.51.100.10:80"), &json!(false)), "{new}");
    assert_eq!((&gone["frontend"], &gone["gone"]), (&json!("198.51.100.9:80"), &json!(true)), "{gone}");
}

#[test]
fn a_backend_that_speaks_to_nobody_outside_is_refused_for_it_before_anything_is_touched() {
    let mut world = World::new();
    let mut config = world.config();
    config["services"] = json!({"announce": ["ExternalIP"]});
    world.spawn(&config);
    assert!(!world.wait_for_end().success());
    assert!(world.log().contains("service-addresses: this backend speaks to nobody outside"), "{}", world.log());
}
