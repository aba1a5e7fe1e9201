//! What is wrong is named by object and path, and everything else is in force.

use super::*;

/// The problems without what comes before the path.
fn problems(told: &Told) -> Vec<String> {
    let short = |text: String| text.replace("Service default/web: ", "").replace("EndpointSlice default/web-1: ", "");
    told.problems().into_iter().map(short).collect()
}

#[test]
fn a_bad_port_is_left_out_and_the_others_serve() {
    let told = Told::of(&[web(json!({"type": "NodePort", "ports": [
        {"name": "a", "port": 0}, {"name": "b", "port": 65536}, {"name": "c", "port": "80"}, {"name": "d", "port": 80},
        {"name": "e", "port": 80}, {"name": "d", "port": 81}, {"port": 82}, {"name": "g", "port": 83, "nodePort": 70000},
        {"name": "h", "port": 84, "nodePort": 22}, {"name": "i", "port": 85, "protocol": "ICMP"}]}))]);
    assert_eq!(told.keys(), ["10.96.0.7:80/TCP", "10.96.0.7:84/TCP"]);
    let expected = [
        "spec.ports[0].port: is 0; write a whole number from 1 to 65535",
        "spec.ports[1].port: is 65536; write a whole number from 1 to 65535",
        "spec.ports[2].port: is a text; write a whole number from 1 to 65535",
        "spec.ports[4].port: 80/TCP is the port of spec.ports[3] already",
        "spec.ports[5].name: \"d\" is the name of spec.ports[3] already",
        "spec.ports[6].name: is missing; write one: with several ports each has a name",
        "spec.ports[7].nodePort: is 70000; write a whole number from 1 to 65535",
        "spec.ports[8].nodePort: 22 is no node port; write 30000 to 32767",
        "spec.ports[9].protocol: \"ICMP\" is none of TCP, UDP, SCTP",
    ];
    assert_eq!(problems(&told), expected);
}

#[test]
fn a_node_port_of_two_services_is_the_first_ones() {
    let at = |name: &str, address: &str| {
        service(name, json!({"type": "NodePort", "clusterIP": address, "ports": [{"port": 80, "nodePort": 30080}]}))
    };
    let lost = "Service default/b: spec.ports[0].nodePort: port 30080/TCP is NodePort of Service default/a, which comes first; \
                choose another";
    // Also on a node whose addresses nobody knows.
    for nodes in [vec![], vec![node("n1", "192.0.2.1", "a")]] {
        let objects = [vec![at("b", "10.96.0.2"), at("a", "10.96.0.1")], nodes].concat();
        let told = Told::of(&objects);
        assert_eq!(told.problems(), [lost]);
        assert!(told.items.values().filter(|item| item.key.port == 30080).all(|item| &*item.service.name == "a"));
        assert!(told.keys().contains(&"10.96.0.2:80/TCP".to_owned()));
    }
}

#[test]
fn an_external_address_that_is_somebodys_or_not_allowed_is_refused_while_that_is_so() {
    let wide = ["192.0.2.0/24", "198.51.100.0/24", "10.1.0.0/16"].map(|range| range.parse().unwrap()).to_vec();
    let mut told = Told::new(ServiceSettings { external_ips: wide, ..settings() });
    told.table.set_pod_prefixes(&["10.1.0.0/16".parse().unwrap()]);
    told.put(&node("n2", "192.0.2.2", "b"));
    told.put(&slice_of("IPv4", "api", "kubernetes", json!([{"port": 6443}]), json!([{"addresses": ["192.0.2.9"]}])));
    let all = ["192.0.2.2", "192.0.2.9", "10.1.0.7", "203.0.113.7", "127.0.0.1", "x", "198.51.100.9"];
    told.put(&web(json!({"externalIPs": all})));
    assert_eq!(told.keys(), ["10.96.0.7:80/TCP", "198.51.100.9:80/TCP"]);
    let found: Vec<String> =
        told.problems().into_iter().filter_map(|text| Some(text.split_once("externalIPs")?.1.to_owned())).collect();
    let expected = [
        "[0]: 192.0.2.2 is a node's; use a node port, or an address that no node has",
        "[1]: 192.0.2.9 is the API server's; a service there would take its clients over",
        "[2]: 10.1.0.7 is an address of pods; use one outside of their pools",
        "[3]: 203.0.113.7 is in none of the ranges that the operator allows: 192.0.2.0/24, 198.51.100.0/24, 10.1.0.0/16",
        "[4]: 127.0.0.1 is in 127.0.0.0/8, which no service or endpoint has; write a unicast address",
        "[5]: \"x\" is no IP address; write one as in 192.0.2.7",
    ];
    assert_eq!(found, expected);
    told.table.remove(&node("n2", "192.0.2.2", "b").key);
    told.put(&slice_of("IPv4", "api", "kubernetes", json!([{"port": 6443}]), json!([])));
    assert_eq!(told.drain(), 0);
    let outer = told.keys().into_iter().filter(|key| key.starts_with("192.")).collect::<Vec<_>>();
    assert_eq!(outer, ["192.0.2.2:80/TCP", "192.0.2.9:80/TCP"]);
}

#[test]
fn external_addresses_are_off_unless_the_operator_allows_a_range() {
    let mut told = Told::new(ServiceSettings::default());
    told.put(&web(json!({"externalIPs": ["198.51.100.9"]})));
    assert_eq!(told.keys(), ["10.96.0.7:80/TCP"]);
    let words = "198.51.100.9: external addresses are off; the operator allows ranges with `services.externalIPs`";
    assert_eq!(problems(&told), [format!("spec.externalIPs[0]: {words}")]);
}

#[test]
fn what_would_mean_something_else_leaves_the_service_out() {
    for (spec, path) in [
        (json!({"type": "Loadbalancer"}), "spec.type"),
        (json!({"externalTrafficPolicy": "local"}), "spec.externalTrafficPolicy"),
        (json!({"internalTrafficPolicy": 1}), "spec.internalTrafficPolicy"),
        (json!({"sessionAffinity": "Cookie"}), "spec.sessionAffinity"),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86401}}}),
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        ),
        (json!({"trafficDistribution": "PreferFar"}), "spec.trafficDistribution"),
    ] {
        let told = Told::of(&[web(spec), service("other", json!({"clusterIP": "10.96.0.8", "ports": [{"port": 1}]}))]);
        assert_eq!(told.keys(), ["10.96.0.8:1/TCP"], "{path}");
        assert!(problems(&told)[0].starts_with(path), "{:?}", problems(&told));
    }
    // A service that was right before is not in force any more: it follows from what is there.
    let mut told = Told::of(&[web(json!({}))]);
    told.put(&web(json!({"type": 7})));
    assert_eq!(told.keys(), Vec::<String>::new());
}

#[test]
fn a_misspelt_key_is_named_and_changes_nothing() {
    let told = Told::of(&[web(json!({"externalTraficPolicy": "Local"}))]);
    assert_eq!(told.keys(), ["10.96.0.7:80/TCP"]);
    assert_eq!(problems(&told), ["spec.externalTraficPolicy: no such key; did you mean `externalTrafficPolicy`?"]);
}

#[test]
fn source_ranges_that_cannot_be_read_let_nobody_in() {
    let mut written = web(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/40"]}));
    written.fields.insert("status".into(), json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}}));
    let told = Told::of(&[written]);
    assert_eq!(told.item("203.0.113.7").sources.as_deref(), Some(&[][..]));
    assert_eq!(problems(&told).len(), 1);
}

#[test]
fn a_bad_endpoint_is_left_out_and_one_outside_of_all_pools_is_reported() {
    let mut told = Told::new(settings());
    told.table.set_pod_prefixes(&["10.1.0.0/16".parse().unwrap()]);
    told.put(&web(json!({})));
    told.put(&slice(
        "web-1",
        "web",
        json!([
        endpoint("10.1.0.1", "n1", "r"), {"addresses": ["127.0.0.1"]}, {"addresses": ["fd01::1"]}, {"addresses": []},
        {"addresses": ["10.1.0.2"], "conditions": {"ready": "yes"}}, endpoint("10.2.0.1", "n1", "r"),
        endpoint("192.0.2.1", "n1", "r")]),
    ));
    told.put(&node("n1", "192.0.2.1", "a"));
    assert_eq!(told.backends("10.96.0.7"), ["10.1.0.1:8080", "10.2.0.1:8080", "192.0.2.1:8080"]);
    let paths: Vec<String> = problems(&told).iter().map(|text| text.split(": ").next().unwrap().to_owned()).collect();
    let expected = [
        "endpoints[1].addresses[0]",
        "endpoints[2].addresses[0]",
        "endpoints[3].addresses",
        "endpoints[4].conditions.ready",
        "endpoints[5].addresses[0]",
    ];
    assert_eq!(paths, expected);
}
