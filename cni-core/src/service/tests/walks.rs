//! Any history of objects ends in what a fresh table says of those that are there.

use super::*;
use crate::store::ObjectKey;
use crate::testkit::dice::Dice;
use proptest::prelude::*;
use std::net::IpAddr;

/// An object out of few, so that they meet: four services, a handful of addresses, two nodes.
fn random(dice: &mut Dice) -> Object {
    let names = ["a", "b", "c", "kubernetes"];
    match dice.below(6) {
        0 => {
            let address = *dice.pick(&["192.0.2.1", "192.0.2.2", "198.51.100.2"]);
            let (name, zone) = (*dice.pick(&["n1", "n2"]), *dice.pick(&["x", "y"]));
            node(name, address, zone)
        }
        1 | 2 => {
            let name = *dice.pick(&names);
            let endpoints = (0..dice.below(4)).map(|_| random_endpoint(dice)).collect();
            let of = *dice.pick(&names);
            let ports = json!([{"name": "p", "port": 8080}, {"name": dice.pick(&["q", "r"]), "port": dice.below(3)}]);
            slice_of("IPv4", &format!("s-{name}"), of, ports, endpoints)
        }
        _ => random_service(dice, &names),
    }
}

fn random_endpoint(dice: &mut Dice) -> Value {
    let addresses = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "198.51.100.1", "10.9.0.1", "127.0.0.1"];
    let (address, of) = (*dice.pick(&addresses), *dice.pick(&["n1", "n2"]));
    let mut one = endpoint(address, of, dice.pick::<&str>(&["r", "", "st", "t", "r"]));
    if dice.once_in(3) {
        one["hints"] = json!({"forZones": [{"name": dice.pick(&["x", "y"])}]});
    }
    one["zone"] = json!(dice.pick(&["x", "y"]));
    one
}

fn random_service(dice: &mut Dice, names: &[&str]) -> Object {
    let port = |dice: &mut Dice, name: &str| {
        let number = dice.below(4);
        json!({"name": name, "port": number, "nodePort": dice.pick(&[0, 30001, 30002, 7]),
            "protocol": dice.pick(&["TCP", "UDP"])})
    };
    let ports = json!([port(dice, "p"), port(dice, "q")]);
    let external: Vec<_> =
        (0..dice.below(3)).map(|_| *dice.pick(&["198.51.100.1", "198.51.100.2", "203.0.113.1"])).collect();
    let mut written = service(
        dice.pick::<&str>(names),
        json!({"type": dice.pick(&["ClusterIP", "NodePort", "LoadBalancer", "LoadBalancer", "Nonsense"]),
            "clusterIP": dice.pick(&["10.96.0.1", "10.96.0.2", "None", ""]), "ports": ports, "externalIPs": external,
            "externalTrafficPolicy": dice.pick(&["Cluster", "Local"]),
            "healthCheckNodePort": dice.pick(&[0, 30001, 30003]),
            "trafficDistribution": dice.pick(&[json!(null), json!("PreferClose"), json!("PreferSameNode")])}),
    );
    let ingress = *dice.pick(&["198.51.100.1", "203.0.113.9", "192.0.2.1", "10.1.0.9"]);
    written.fields.insert("status".into(), json!({"loadBalancer": {"ingress": [{"ip": ingress}]}}));
    if dice.once_in(2) {
        let created = *dice.pick(&["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]);
        written.metadata.other.insert("creationTimestamp".into(), created.into());
    }
    written
}

/// A fresh table of the objects that are there, in an order of chance.
fn fresh(objects: &BTreeMap<ObjectKey, Object>, pods: &[&str], dice: &mut Dice) -> Told {
    let mut all: Vec<&Object> = objects.values().collect();
    dice.shuffle(&mut all);
    let mut told = Told::new(settings());
    told.table.set_pod_prefixes(&pods.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<_>>());
    all.into_iter().for_each(|object| told.table.put(object));
    told.drain();
    told
}

proptest! {
    #[test]
    fn any_history_ends_in_what_a_fresh_table_says(seed: u64) {
        let dice = &mut Dice::new(seed);
        let mut told = Told::new(settings());
        let mut there: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        let mut pods: &[&str] = &[];
        for _ in 0..40 {
            if dice.once_in(12) {
                pods = *dice.pick(&[&["10.1.0.0/16"][..], &[][..], &["10.0.0.0/8", "203.0.113.0/24"][..]]);
                told.table.set_pod_prefixes(&pods.iter().map(|prefix| prefix.parse().unwrap()).collect::<Vec<_>>());
            } else if dice.once_in(4) && !there.is_empty() {
                let at = dice.below(there.len());
                let key = there.keys().nth(at).cloned().unwrap();
                there.remove(&key);
                told.table.remove(&key);
            } else {
                let object = random(dice);
                told.table.put(&object);
                there.insert(object.key.clone(), object);
            }
            if dice.once_in(2) {
                told.drain();
                drop((told.table.drain_addresses(), told.table.drain_health_checks()));
            }
        }
        told.drain();
        let mut fresh = fresh(&there, pods, dice);
        prop_assert_eq!(&told.items, &fresh.items);
        prop_assert_eq!(told.problems(), fresh.problems());
        let addresses = |told: &mut Told| {
            drop(told.table.drain_addresses());
            told.table.addresses().cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(addresses(&mut told), addresses(&mut fresh));
        let checks = |told: &Told| told.table.health_checks().cloned().collect::<Vec<_>>();
        prop_assert_eq!(checks(&told), checks(&fresh));
        drop(told.table.drain_health_checks());
        for object in there.values() {
            prop_assert_eq!(told.put(object), 0, "the same object again");
        }
        prop_assert_eq!(told.table.drain_health_checks().len(), 0);
    }

    #[test]
    fn no_frontend_outside_of_the_cluster_is_at_an_address_that_is_not_allowed(seed: u64) {
        let dice = &mut Dice::new(seed);
        let objects: Vec<Object> = (0..30).map(|_| random(dice)).collect();
        let mut told = Told::of(&objects);
        told.drain();
        let allowed = settings().external_ips;
        let nodes: Vec<IpAddr> = told.table.keys_of(&crate::store::Kind::NODE).iter()
            .filter_map(|key| objects.iter().rfind(|object| object.key == *key))
            .filter_map(|node| node.field("status.addresses")?[0]["address"].as_str()?.parse().ok())
            .collect();
        for item in told.items.values().filter(|item| item.kind == crate::model::FrontendKind::ExternalIp) {
            prop_assert!(allowed.iter().any(|range| range.contains(&item.key.address)), "{}", item.key);
            prop_assert!(!nodes.contains(&item.key.address), "{}", item.key);
        }
    }
}
