//! Which frontends a Service has.

use super::*;
use crate::model::{Scheduler, TrafficScope};

#[test]
fn each_kind_of_address_is_a_frontend_with_its_own_scope() {
    let mut written = web(json!({
        "type": "LoadBalancer", "clusterIPs": ["10.96.0.7", "fd96::7"], "externalIPs": ["198.51.100.9"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
        "loadBalancerSourceRanges": ["203.0.113.0/24"], "sessionAffinity": "ClientIP"
    }));
    written.fields.insert(
        "status".into(),
        json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}, {"hostname": "x.example"}]}}),
    );
    let told = Told::of(&[written, node("n1", "192.0.2.1", "a"), node("n2", "192.0.2.2", "b")]);
    let expected = [
        "10.96.0.7:53/UDP",
        "10.96.0.7:80/TCP",
        "192.0.2.1:30080/TCP",
        "198.51.100.9:53/UDP",
        "198.51.100.9:80/TCP",
        "203.0.113.7:53/UDP",
        "203.0.113.7:80/TCP",
        "[fd96::7]:53/UDP",
        "[fd96::7]:80/TCP",
    ];
    assert_eq!(told.keys(), expected);
    assert_eq!(told.problems(), Vec::<String>::new());
    let seen = |address| (told.item(address).kind, told.item(address).scope, told.item(address).sources.is_some());
    assert_eq!(seen("10.96.0.7"), (FrontendKind::ClusterIp, TrafficScope::Cluster, false));
    assert_eq!(seen("192.0.2.1"), (FrontendKind::NodePort, TrafficScope::Local, false));
    assert_eq!(seen("198.51.100.9"), (FrontendKind::ExternalIp, TrafficScope::Local, false));
    assert_eq!(seen("203.0.113.7"), (FrontendKind::LoadBalancer, TrafficScope::Local, true));
    let item = told.item("10.96.0.7");
    assert_eq!((item.affinity_seconds.map(|s| s.get()), item.health_check_port), (Some(10_800), Some(31_000)));
}

#[test]
fn headless_services_and_names_of_dns_have_no_frontend() {
    let headless = web(json!({"clusterIP": "None", "externalIPs": ["198.51.100.9"]}));
    let told = Told::of(&[headless, node("n1", "192.0.2.1", "a")]);
    assert_eq!(told.keys(), Vec::<String>::new());
    assert_eq!(told.problems().len(), 1);
    let told = Told::of(&[service("web", json!({"type": "ExternalName", "externalName": "x.example"}))]);
    assert_eq!((told.keys(), told.problems()), (Vec::new(), Vec::new()));
}

#[test]
fn node_ports_are_on_the_addresses_that_the_operator_chose() {
    let narrow = ServiceSettings { node_port_addresses: vec!["10.0.0.0/8".parse().unwrap()], ..settings() };
    let mut told = Told::new(narrow);
    told.put(&web(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})));
    told.put(&node("n1", "192.0.2.1", "a"));
    assert_eq!(told.keys(), ["10.96.0.7:80/TCP"]);
    assert_eq!(told.put(&node("n1", "10.0.0.1", "a")), 1);
    assert_eq!(told.keys(), ["10.0.0.1:30080/TCP", "10.96.0.7:80/TCP"]);
}

#[test]
fn only_outer_addresses_answer_clients_directly_and_another_word_is_reported() {
    let with = |word: &str| {
        let spec =
            json!({"type": "NodePort", "externalIPs": ["198.51.100.9"], "ports": [{"port": 80, "nodePort": 30080}]});
        let mut written = web(spec);
        written.metadata.annotations.insert("cnidarian.io/direct-server-return".into(), word.into());
        Told::of(&[written, node("n1", "10.0.0.1", "a")])
    };
    let told = with("tunnel");
    let direct = ["198.51.100.9", "10.96.0.7", "10.0.0.1"].map(|address| told.item(address).direct_return);
    assert_eq!((direct, told.problems()), ([true, false, false], Vec::new()));
    assert!(!with("none").item("198.51.100.9").direct_return);
    let told = with("l2");
    assert!(!told.item("198.51.100.9").direct_return);
    assert_eq!(told.problems().len(), 1);
}

#[test]
fn a_scheduler_has_one_name_on_every_backend_and_another_name_leaves_the_service_out() {
    let with = |scheduler: &str| {
        let mut written = web(json!({}));
        written.metadata.annotations.insert("cnidarian.io/scheduler".into(), scheduler.into());
        Told::of(&[written])
    };
    for name in ["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh", "maglev"] {
        assert_eq!(with(name).item("10.96.0.7").scheduler, name.parse::<Scheduler>().unwrap());
    }
    let told = with("roundrobin");
    assert_eq!(told.keys(), Vec::<String>::new());
    let words = "\"roundrobin\" is no scheduler; write one of rr, wrr, lc, wlc, sed, nq, sh, dh, mh, maglev";
    assert_eq!(
        told.problems(),
        [format!("Service default/web: metadata.annotations[cnidarian.io/scheduler]: {words}")]
    );
}

#[test]
fn of_two_services_with_one_address_the_older_has_it_whoever_came_first() {
    let at = |name: &str, created: Option<&str>, address: &str| {
        let mut written = service(name, json!({"clusterIP": address, "ports": [{"port": 80}]}));
        if let Some(created) = created {
            written.metadata.other.insert("creationTimestamp".into(), created.into());
        }
        written
    };
    let old = at("z", Some("2024-01-01T00:00:00Z"), "10.96.0.7");
    let young = at("y", Some("2025-01-01T00:00:00Z"), "10.96.0.7");
    let undated = at("a", None, "10.96.0.7");
    let mut told = Told::of(&[undated.clone(), young.clone()]);
    assert_eq!(&*told.item("10.96.0.7").service.name, "y");
    // One change of one item, not one that goes and one that comes.
    assert_eq!(told.put(&old), 1);
    assert_eq!(&*told.item("10.96.0.7").service.name, "z");
    let lost = "port 80/TCP is ClusterIP of Service default/z, which comes first; choose another";
    let problem = |name: &str| format!("Service default/{name}: spec.clusterIPs[0]: 10.96.0.7 {lost}");
    assert_eq!(told.problems(), [problem("a"), problem("y")]);
    told.table.remove(&old.key);
    told.table.remove(&young.key);
    assert_eq!(told.drain(), 1);
    assert_eq!((&*told.item("10.96.0.7").service.name, told.problems()), ("a", Vec::new()));
}

#[test]
fn an_address_of_the_cluster_is_never_taken_over_by_an_external_one() {
    let wide = ServiceSettings { external_ips: vec!["0.0.0.0/0".parse().unwrap()], ..settings() };
    let mut told = Told::new(wide);
    let mut thief =
        service("thief", json!({"clusterIP": "10.96.0.1", "externalIPs": ["10.96.0.7"], "ports": [{"port": 80}]}));
    thief.metadata.other.insert("creationTimestamp".into(), "2020-01-01T00:00:00Z".into());
    told.put(&thief);
    assert_eq!(&*told.item("10.96.0.7").service.name, "thief");
    told.put(&web(json!({})));
    assert_eq!(&*told.item("10.96.0.7").service.name, "web");
}
