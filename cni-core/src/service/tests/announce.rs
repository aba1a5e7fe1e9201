//! Which addresses routers outside are told of.

use super::*;
use crate::model::{NetworkItem, NetworkKey};
use std::collections::BTreeSet;

fn announcing(kinds: &[FrontendKind]) -> ServiceSettings {
    ServiceSettings { announce: kinds.iter().copied().collect(), ..settings() }
}

/// A balanced service with an address of each kind.
fn balanced(spec: Value) -> Object {
    let mut written = web(json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.9"]}));
    for (key, value) in spec.as_object().unwrap() {
        written.fields["spec"][key] = value.clone();
    }
    let ingress = json!([{"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}]);
    written.fields.insert("status".into(), json!({"loadBalancer": {"ingress": ingress}}));
    written
}

/// Puts objects, and answers what is announced then; what was told must add up to it.
fn announce(told: &mut Told, heard: &mut BTreeSet<String>, objects: &[Object]) -> Vec<String> {
    objects.iter().for_each(|object| told.table.put(object));
    told.drain();
    for change in told.table.drain_addresses() {
        match change {
            Change::Put(NetworkItem::ServiceAddress(service)) => drop(heard.insert(service.address.to_string())),
            Change::Remove(NetworkKey::ServiceAddress(address)) => assert!(heard.remove(&address.to_string())),
            other => panic!("no address of a service: {other:?}"),
        }
    }
    let all: BTreeSet<String> = told.table.addresses().map(|service| service.address.to_string()).collect();
    assert_eq!(*heard, all);
    all.into_iter().collect()
}

fn of(kinds: &[FrontendKind], objects: &[Object]) -> Vec<String> {
    announce(&mut Told::new(announcing(kinds)), &mut BTreeSet::new(), objects)
}

const ALL: [FrontendKind; 3] = [FrontendKind::ClusterIp, FrontendKind::LoadBalancer, FrontendKind::ExternalIp];

fn ready(node: &str) -> Object {
    slice("web-1", "web", json!([endpoint("10.1.0.1", node, "r")]))
}

#[test]
fn chosen_kinds_are_announced_and_an_annotation_decides_otherwise() {
    let plain = [balanced(json!({})), ready("n2")];
    assert_eq!(of(&[], &plain), [""; 0]);
    assert_eq!(of(&[FrontendKind::LoadBalancer], &plain), ["203.0.113.7"]);
    assert_eq!(of(&ALL, &plain), ["10.96.0.7", "198.51.100.9", "203.0.113.7"]);
    let mut opted = balanced(json!({}));
    let mut with = |kinds: &[FrontendKind], text: &str| {
        opted.metadata.annotations.insert("cnidarian.io/announce".into(), text.into());
        of(kinds, &[opted.clone(), ready("n2")])
    };
    assert_eq!(with(&ALL, "none"), [""; 0]);
    assert_eq!(with(&[], "ExternalIP, ClusterIP"), ["10.96.0.7", "198.51.100.9"]);
    assert_eq!(with(&ALL, "ExternalIPs"), [""; 0], "nobody knows what was meant");
    assert_eq!(with(&ALL, "NodePort"), [""; 0]);
}

#[test]
fn of_local_services_only_nodes_with_a_ready_endpoint_speak() {
    let kinds = [FrontendKind::LoadBalancer];
    let local = balanced(json!({"externalTrafficPolicy": "Local"}));
    let with = |state: &str, node: &str| {
        of(&kinds, &[local.clone(), slice("web-1", "web", json!([endpoint("10.1.0.1", node, state)]))])
    };
    assert_eq!(with("r", "n1"), ["203.0.113.7"]);
    assert_eq!(with("r", "n2"), [""; 0]);
    // What serves while it goes takes the stragglers; new clients are sent elsewhere.
    assert_eq!(with("st", "n1"), [""; 0]);
    let inner = balanced(json!({"internalTrafficPolicy": "Local"}));
    assert_eq!(of(&ALL, &[inner, ready("n2")]), ["198.51.100.9", "203.0.113.7"]);
}

#[test]
fn an_address_goes_with_its_last_endpoint_and_comes_back() {
    let (mut told, mut heard) = (Told::new(announcing(&ALL)), BTreeSet::new());
    let announced = |told: &mut Told, heard: &mut _, object| announce(told, heard, &[object]).len();
    assert_eq!(announce(&mut told, &mut heard, &[balanced(json!({}))]), [""; 0]);
    assert_eq!(announced(&mut told, &mut heard, ready("n2")), 3);
    let going = slice("web-1", "web", json!([endpoint("10.1.0.1", "n2", "st")]));
    assert_eq!(announced(&mut told, &mut heard, going), 3);
    assert_eq!(announced(&mut told, &mut heard, slice("web-1", "web", json!([]))), 0);
    assert_eq!(announced(&mut told, &mut heard, ready("n2")), 3);
    told.table.remove(&balanced(json!({})).key);
    assert_eq!(announce(&mut told, &mut heard, &[]), [""; 0]);
}

#[test]
fn an_address_of_two_services_stays_while_one_of_them_has_an_endpoint() {
    let (mut told, mut heard) = (Told::new(announcing(&[FrontendKind::ExternalIp])), BTreeSet::new());
    let at = |name: &str, port: u16| service(name, json!({"externalIPs": ["198.51.100.9"], "ports": [{"port": port}]}));
    let slice_of = |name: &str| slice(name, name, json!([endpoint("10.1.0.1", "n1", "r")]));
    let both = [at("a", 80), at("b", 81), slice_of("a"), slice_of("b")];
    assert_eq!(announce(&mut told, &mut heard, &both), ["198.51.100.9"]);
    let names = |told: &Told| told.table.addresses().flat_map(|service| service.services.clone()).collect::<Vec<_>>();
    assert_eq!(names(&told), ["default/a", "default/b"]);
    told.table.remove(&slice_of("a").key);
    assert_eq!(announce(&mut told, &mut heard, &[]), ["198.51.100.9"]);
    assert_eq!(names(&told), ["default/b"]);
    told.table.remove(&slice_of("b").key);
    assert_eq!(announce(&mut told, &mut heard, &[]), [""; 0]);
}

#[test]
fn an_address_of_a_node_is_never_announced() {
    let kinds = [FrontendKind::LoadBalancer];
    let objects = [balanced(json!({})), ready("n2"), node("n2", "203.0.113.7", "a")];
    assert_eq!(of(&kinds, &objects), [""; 0]);
    assert_eq!(of(&kinds, &objects[..2]), ["203.0.113.7"]);
}

#[test]
fn an_address_of_pods_is_never_announced_whatever_a_service_says() {
    let (mut told, mut heard) = (Told::new(announcing(&ALL)), BTreeSet::new());
    let all = ["10.96.0.7", "198.51.100.9", "203.0.113.7"];
    assert_eq!(announce(&mut told, &mut heard, &[balanced(json!({})), ready("n2")]), all);
    // A route of one address would win over the block of the node that has the pod.
    told.table.set_pod_prefixes(&["203.0.113.0/24".parse().unwrap(), "10.96.0.0/28".parse().unwrap()]);
    assert_eq!(announce(&mut told, &mut heard, &[]), ["198.51.100.9"]);
    told.table.set_pod_prefixes(&["10.244.0.0/16".parse().unwrap()]);
    assert_eq!(announce(&mut told, &mut heard, &[]), all);
}
