//! Which endpoints a frontend uses.

use super::*;

const VIP: &str = "10.96.0.7";

fn told(spec: Value, endpoints: Value) -> Told {
    Told::of(&[web(spec), node("n1", "192.0.2.1", "a"), slice("web-1", "web", endpoints)])
}

#[test]
fn endpoints_that_go_serve_only_when_none_is_ready_and_keep_their_connections() {
    let ready = told(json!({}), json!([endpoint("10.1.0.1", "n1", "r"), endpoint("10.1.0.2", "n2", "st")]));
    assert_eq!(ready.backends(VIP), ["10.1.0.1:8080", "~10.1.0.2:8080"]);
    let going = told(json!({}), json!([endpoint("10.1.0.1", "n1", ""), endpoint("10.1.0.2", "n2", "st")]));
    assert_eq!(going.backends(VIP), ["10.1.0.2:8080"]);
    let gone = told(json!({}), json!([endpoint("10.1.0.1", "n1", ""), endpoint("10.1.0.2", "n2", "t")]));
    assert_eq!(gone.backends(VIP), ["~10.1.0.2:8080"]);
    assert_eq!(gone.item(VIP).active().count(), 0);
}

#[test]
fn a_local_scope_uses_endpoints_of_this_node_and_falls_back_among_those_only() {
    let local = json!({"internalTrafficPolicy": "Local", "externalIPs": ["198.51.100.9"]});
    let here = told(local.clone(), json!([endpoint("10.1.0.1", "n1", "st"), endpoint("10.1.0.2", "n2", "r")]));
    assert_eq!(here.backends(VIP), ["10.1.0.1:8080"]);
    assert_eq!(here.backends("198.51.100.9"), ["~10.1.0.1:8080", "10.1.0.2:8080"]);
    let elsewhere = told(local, json!([endpoint("10.1.0.2", "n2", "r")]));
    assert_eq!(elsewhere.backends(VIP), Vec::<String>::new());
}

#[test]
fn what_says_nothing_is_ready_and_what_is_published_unready_counts_as_ready() {
    let silent = told(json!({}), json!([{"addresses": ["10.1.0.1"]}]));
    assert_eq!(silent.backends(VIP), ["10.1.0.1:8080"]);
    let unready = json!([endpoint("10.1.0.1", "n1", "")]);
    assert_eq!(told(json!({}), unready.clone()).backends(VIP), Vec::<String>::new());
    let published = told(json!({"publishNotReadyAddresses": true}), unready);
    assert_eq!(published.backends(VIP), ["10.1.0.1:8080"]);
}

#[test]
fn endpoints_have_the_weight_of_their_slice_and_one_that_cannot_be_read_is_told_and_counts_as_none() {
    let weighing = |weight: &str| {
        let mut slice = slice("web-1", "web", json!([endpoint("10.1.0.1", "n1", "r")]));
        slice.metadata.annotations.insert("cnidarian.io/weight".into(), weight.into());
        slice
    };
    let twice = slice("web-2", "web", json!([endpoint("10.1.0.1", "n1", "r"), endpoint("10.1.0.2", "n1", "r")]));
    let all = [web(json!({})), node("n1", "192.0.2.1", "a"), weighing("7"), twice];
    let weights = |told: &Told| told.item(VIP).backends.iter().map(|backend| backend.weight).collect::<Vec<_>>();
    let told = Told::of(&all);
    assert_eq!((weights(&told), told.problems()), (vec![7, 1], vec![]));
    for wrong in ["0", "1001", "-1", "heavy", ""] {
        let told = Told::of(&[web(json!({})), node("n1", "192.0.2.1", "a"), weighing(wrong)]);
        assert_eq!(weights(&told), [1]);
        assert!(matches!(&told.problems()[..], [problem] if problem.contains("1 to 1000")), "{:?}", told.problems());
    }
}

#[test]
fn hints_choose_only_when_every_ready_endpoint_has_one() {
    let hinted = |address: &str, kind: &str, name: &str| {
        let mut one = endpoint(address, "n2", "r");
        one["hints"][kind] = json!([{"name": name}]);
        one
    };
    let both = json!([hinted("10.1.0.1", "forZones", "a"), hinted("10.1.0.2", "forZones", "b")]);
    assert_eq!(told(json!({}), both).backends(VIP), ["10.1.0.1:8080"]);
    let nodes = json!([hinted("10.1.0.1", "forNodes", "n2"), hinted("10.1.0.2", "forNodes", "n1")]);
    assert_eq!(told(json!({}), nodes).backends(VIP), ["10.1.0.2:8080"]);
    let one = json!([hinted("10.1.0.1", "forZones", "a"), endpoint("10.1.0.2", "n2", "r")]);
    assert_eq!(told(json!({}), one).backends(VIP).len(), 2);
    let far = json!([hinted("10.1.0.1", "forZones", "b"), hinted("10.1.0.2", "forZones", "c")]);
    assert_eq!(told(json!({}), far).backends(VIP).len(), 2);
}

#[test]
fn without_hints_a_distribution_prefers_node_then_zone() {
    let zoned = |address: &str, node: &str, zone: &str| {
        let mut one = endpoint(address, node, "r");
        one["zone"] = zone.into();
        one
    };
    let all = json!([zoned("10.1.0.1", "n1", "a"), zoned("10.1.0.2", "n2", "a"), zoned("10.1.0.3", "n3", "b")]);
    let with = |word: &str| told(json!({"trafficDistribution": word}), all.clone()).backends(VIP);
    assert_eq!(with("PreferSameNode"), ["10.1.0.1:8080"]);
    for word in ["PreferClose", "PreferSameZone"] {
        assert_eq!(with(word), ["10.1.0.1:8080", "10.1.0.2:8080"]);
    }
    let far = json!([zoned("10.1.0.2", "n2", "a"), zoned("10.1.0.3", "n3", "b")]);
    assert_eq!(told(json!({"trafficDistribution": "PreferSameNode"}), far).backends(VIP), ["10.1.0.2:8080"]);
}

#[test]
fn a_port_finds_its_numbers_by_its_name_in_every_slice_of_its_family() {
    let spec = json!({"clusterIPs": ["10.96.0.7", "fd96::7"], "ports": [
        {"name": "http", "port": 80, "targetPort": "web"}, {"name": "admin", "port": 81}]});
    let ports = |http: u16| json!([{"name": "http", "port": http}, {"name": "admin", "port": 9000}, {"name": "all"}]);
    let told = Told::of(&[
        web(spec),
        slice_of("IPv4", "web-1", "web", ports(8080), json!([endpoint("10.1.0.1", "n1", "r")])),
        slice_of("IPv4", "web-2", "web", ports(8081), json!([endpoint("10.1.0.2", "n1", "r")])),
        slice_of("IPv6", "web-3", "web", ports(8080), json!([endpoint("fd01::1", "n1", "r")])),
        slice_of("FQDN", "web-4", "web", ports(8080), json!([{"addresses": ["x.example"]}])),
    ]);
    assert_eq!(told.problems(), Vec::<String>::new());
    let of = |port: u16, family: char| {
        let item =
            told.items.values().find(|item| item.key.port == port && item.key.address.is_ipv6() == (family == '6'));
        item.unwrap().backends.iter().map(|backend| (backend.address.to_string(), backend.port)).collect::<Vec<_>>()
    };
    assert_eq!(of(80, '4'), [("10.1.0.1".into(), 8080), ("10.1.0.2".into(), 8081)]);
    assert_eq!(of(81, '4'), [("10.1.0.1".into(), 9000), ("10.1.0.2".into(), 9000)]);
    assert_eq!(of(80, '6'), [("fd01::1".to_owned(), 8080)]);
}

#[test]
fn an_endpoint_in_two_slices_is_one_backend_with_the_better_word() {
    let told = Told::of(&[
        web(json!({})),
        slice("web-1", "web", json!([endpoint("10.1.0.1", "n1", "")])),
        slice("web-2", "web", json!([endpoint("10.1.0.1", "n1", "r")])),
    ]);
    assert_eq!(told.backends(VIP), ["10.1.0.1:8080"]);
}

#[test]
fn a_slice_may_come_before_its_service_and_stay_after_it() {
    let mut told = Told::of(&[slice("web-1", "web", json!([endpoint("10.1.0.1", "n1", "r")]))]);
    let orphan =
        "EndpointSlice default/web-1: metadata.labels: there is no Service default/web, so its endpoints serve nobody";
    assert_eq!(told.problems(), [orphan]);
    told.put(&web(json!({})));
    assert_eq!((told.backends(VIP), told.problems()), (vec!["10.1.0.1:8080".to_owned()], Vec::new()));
    told.table.remove(&web(json!({})).key);
    assert_eq!(told.drain(), 1);
    assert_eq!(told.put(&slice("web-1", "web", json!([endpoint("10.1.0.2", "n1", "r")]))), 0);
    assert_eq!(told.problems(), [orphan]);
    told.put(&web(json!({})));
    assert_eq!(told.backends(VIP), ["10.1.0.2:8080"]);
}

#[test]
fn a_thousand_endpoints_are_one_item_and_one_of_them_is_one_change() {
    let many = |last: &str| {
        let one = |number: usize| {
            endpoint(
                &format!("10.1.{}.{}", number / 250, number % 250 + 1),
                "n2",
                if number == 999 { last } else { "r" },
            )
        };
        slice("web-1", "web", (0..1_000).map(one).collect())
    };
    let mut told = Told::of(&[web(json!({})), many("r")]);
    assert_eq!((told.items.len(), told.backends(VIP).len()), (1, 1_000));
    assert_eq!((told.put(&many("r")), told.put(&many(""))), (0, 1));
    assert_eq!(told.backends(VIP).len(), 999);
}
