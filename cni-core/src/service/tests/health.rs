//! Where this node says whether it has endpoints of a service.

use super::*;

/// A balanced service whose nodes are asked at a port.
fn asked(name: &str, spec: Value) -> Object {
    let mut all = json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.7"], "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}],
        "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    service(name, all)
}

fn ports() -> Value {
    json!([{"name": "a", "port": 8080}, {"name": "b", "port": 8081}])
}

fn endpoints(of: &str, endpoints: Value) -> Object {
    slice_of("IPv4", &format!("{of}-1"), of, ports(), endpoints)
}

/// Each check as `address service endpoints`; what was told must add up to it.
fn checks(told: &mut Told, heard: &mut BTreeMap<std::net::SocketAddr, String>) -> Vec<String> {
    told.drain();
    for change in told.table.drain_health_checks() {
        match change {
            Change::Put(check) => {
                drop(heard.insert(check.at, format!("{} {} {}", check.at, check.service, check.endpoints)))
            }
            Change::Remove(at) => assert!(heard.remove(&at).is_some(), "{at} was not there"),
            other => panic!("no health check: {other:?}"),
        }
    }
    let all = told.table.health_checks().map(|check| format!("{} {} {}", check.at, check.service, check.endpoints));
    let all: Vec<String> = all.collect();
    assert_eq!(heard.values().cloned().collect::<Vec<_>>(), all);
    all
}

fn of(objects: &[Object]) -> Vec<String> {
    let mut told = Told::new(settings());
    objects.iter().for_each(|object| told.table.put(object));
    checks(&mut told, &mut BTreeMap::new())
}

#[test]
fn ready_endpoints_of_this_node_count_each_once() {
    let all = json!([
        endpoint("10.1.0.1", "n1", "r"),
        endpoint("10.1.0.2", "n1", "st"),
        endpoint("10.1.0.3", "n1", ""),
        endpoint("10.1.0.4", "n2", "r"),
        endpoint("10.1.0.5", "n1", "r")
    ]);
    let n1 = node("n1", "192.0.2.1", "z");
    assert_eq!(
        of(&[n1.clone(), asked("web", json!({})), endpoints("web", all.clone())]),
        ["192.0.2.1:31000 default/web 2"]
    );
    let published = asked("web", json!({"publishNotReadyAddresses": true}));
    assert_eq!(of(&[n1.clone(), published, endpoints("web", all.clone())]), ["192.0.2.1:31000 default/web 4"]);
    assert_eq!(of(&[n1.clone(), asked("web", json!({}))]), ["192.0.2.1:31000 default/web 0"]);
    let without_ports = slice_of("IPv4", "web-1", "web", json!([{"name": "c", "port": 1}]), all);
    assert_eq!(of(&[n1, asked("web", json!({})), without_ports]), ["192.0.2.1:31000 default/web 0"]);
}

#[test]
fn only_services_that_keep_the_clients_address_for_a_balancer_are_asked_about() {
    let n1 = node("n1", "192.0.2.1", "z");
    for (key, value) in [("externalTrafficPolicy", "Cluster"), ("type", "NodePort"), ("clusterIPs", "")] {
        let mut spec = json!({});
        spec[key] = if value.is_empty() { json!(["None"]) } else { json!(value) };
        assert_eq!(of(&[n1.clone(), asked("web", spec.clone())]), [""; 0], "{spec}");
    }
    assert_eq!(of(&[asked("web", json!({}))]), [""; 0], "a node without an address");
}

#[test]
fn each_family_of_the_service_is_asked_about_at_addresses_of_its_own() {
    let mut n1 = node("n1", "192.0.2.1", "z");
    let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"},
        {"type": "ExternalIP", "address": "203.0.113.1"}]);
    n1.fields.insert("status".into(), json!({ "addresses": addresses }));
    let v4 = endpoints("web", json!([endpoint("10.1.0.1", "n1", "r")]));
    let v6 = slice_of(
        "IPv6",
        "web-6",
        "web",
        ports(),
        json!([endpoint("fd00::1", "n1", "r"), endpoint("fd00::2", "n1", "r")]),
    );
    let dual = asked("web", json!({"clusterIPs": ["10.96.0.7", "fd00:96::7"]}));
    let both =
        ["192.0.2.1:31000 default/web 1", "203.0.113.1:31000 default/web 1", "[2001:db8::1]:31000 default/web 2"];
    assert_eq!(of(&[n1.clone(), dual.clone(), v4.clone(), v6.clone()]), both);
    assert_eq!(of(&[n1.clone(), asked("web", json!({})), v4.clone(), v6.clone()]), both[..2]);
    let some = ServiceSettings { node_port_addresses: vec!["192.0.2.0/24".parse().unwrap()], ..settings() };
    let mut told = Told::new(some);
    [n1, dual, v4, v6].iter().for_each(|object| told.table.put(object));
    assert_eq!(checks(&mut told, &mut BTreeMap::new()), both[..1], "where node ports are");
}

#[test]
fn a_port_has_one_service_whatever_the_history() {
    let (mut told, mut heard) = (Told::new(settings()), BTreeMap::new());
    told.table.put(&node("n1", "192.0.2.1", "z"));
    told.table.put(&asked("web", json!({})));
    told.table.put(&endpoints("web", json!([endpoint("10.1.0.1", "n1", "r")])));
    assert_eq!(checks(&mut told, &mut heard), ["192.0.2.1:31000 default/web 1"]);
    told.table.put(&asked("able", json!({"clusterIPs": ["10.96.0.8"]})));
    assert_eq!(checks(&mut told, &mut heard), ["192.0.2.1:31000 default/able 0"], "the first by name");
    assert!(
        told.problems().iter().any(|problem| problem.contains("spec.healthCheckNodePort")),
        "{:?}",
        told.problems()
    );
    told.table.remove(&asked("able", json!({})).key);
    assert_eq!(checks(&mut told, &mut heard), ["192.0.2.1:31000 default/web 1"]);
    // A node port of another service is the same port of the node.
    let ports = json!([{"port": 80, "nodePort": 31000}]);
    told.table.put(&service("able", json!({"type": "NodePort", "clusterIP": "10.96.0.8", "ports": ports})));
    assert_eq!(checks(&mut told, &mut heard), [""; 0]);
    told.table.put(&service(
        "able",
        json!({"type": "NodePort", "clusterIP": "10.96.0.8",
        "ports": [{"port": 80, "nodePort": 31000, "protocol": "UDP"}]}),
    ));
    assert_eq!(checks(&mut told, &mut heard), ["192.0.2.1:31000 default/web 1"]);
    told.table.put(&node("n1", "192.0.2.9", "z"));
    assert_eq!(checks(&mut told, &mut heard), ["192.0.2.9:31000 default/web 1"], "the node has another address");
    told.table.put(&asked("web", json!({"healthCheckNodePort": 22})));
    assert_eq!(checks(&mut told, &mut heard), [""; 0]);
    assert!(told.problems().iter().any(|problem| problem.contains("22 is no node port")), "{:?}", told.problems());
    told.table.put(&asked("web", json!({"ports": [{"port": 80, "nodePort": 31000}]})));
    assert_eq!(checks(&mut told, &mut heard), [""; 0]);
    let told = told.problems();
    assert!(told.iter().any(|problem| problem.contains("31000 is a node port of the service itself")), "{told:?}");
}
