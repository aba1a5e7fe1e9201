//! The record of who has which address of a load balancer, and what follows from it.

use super::super::balancer::AddressPool;
use super::super::{BalancerRecord, RawAddressPool};
use super::*;
use crate::testkit::dice::Dice;
use proptest::prelude::*;

fn balanced(name: &str, spec: Value) -> Object {
    let mut all = json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    service(name, all)
}

fn pool(name: &str, spec: Value) -> Object {
    object(
        json!({"apiVersion": "cnidarian.io/v1", "kind": "LoadBalancerPool", "metadata": {"name": name}, "spec": spec}),
    )
}

fn record(services: Value) -> Object {
    object(json!({"apiVersion": "cnidarian.io/v1", "kind": "LoadBalancerAddresses", "metadata": {"name": "services"},
        "spec": {"services": services}}))
}

fn given(name: &str, address: &str) -> Value {
    json!({"namespace": "default", "name": name, "addresses": [address]})
}

#[test]
fn what_the_record_gives_is_a_frontend_of_its_service_for_as_long_as_both_are_there() {
    let mut told = Told::new(settings());
    told.put(&record(json!([given("web", "203.0.113.7"), given("other", "203.0.113.8")])));
    assert_eq!(told.keys(), [""; 0], "a record alone is nothing");
    told.put(&balanced("web", json!({})));
    assert_eq!(told.keys(), ["203.0.113.7:80/TCP"]);
    assert_eq!(told.item("203.0.113.7").kind, FrontendKind::LoadBalancer);
    assert_eq!(told.put(&record(json!([given("web", "203.0.113.9")]))), 2);
    assert_eq!(told.keys(), ["203.0.113.9:80/TCP"]);
    told.put(&balanced("web", json!({"loadBalancerClass": "example.com/other"})));
    assert_eq!(told.keys(), [""; 0], "of another class it is somebody else's to balance");
    told.put(&balanced("web", json!({})));
    told.put(&node("n2", "203.0.113.9", "z"));
    assert_eq!(told.keys(), [""; 0]);
    assert!(told.problems().iter().any(|problem| problem.contains("203.0.113.9 is a node's")), "{:?}", told.problems());
    told.table.remove(&node("n2", "203.0.113.9", "z").key);
    told.drain();
    assert_eq!(told.keys(), ["203.0.113.9:80/TCP"]);
    told.table.remove(&BalancerRecord::key());
    told.drain();
    assert_eq!(told.keys(), [""; 0]);
}

#[test]
fn a_pool_that_cannot_be_meant_is_refused_with_its_field() {
    let refused = |prefixes: &[&str]| {
        let raw = RawAddressPool { prefixes: prefixes.iter().map(ToString::to_string).collect(), automatic: true };
        AddressPool::new("p", &raw).unwrap_err().to_string()
    };
    for (prefixes, words) in [
        (&[][..], "spec.prefixes: is empty"),
        (&["203.0.113.1/24"], "spec.prefixes[0]: 203.0.113.1/24 has host bits; write 203.0.113.0/24"),
        (&["203.0.113.0/24", "x"], "spec.prefixes[1]: \"x\" is no prefix"),
        (&["203.0.113.0/24", "203.0.113.9"], "spec.prefixes[1]: 203.0.113.9/32 overlaps 203.0.113.0/24"),
        (&["127.0.0.0/8"], "spec.prefixes[0]: 127.0.0.0/8 overlaps"),
        (&["fe80::/64"], "spec.prefixes[0]: fe80::/64 overlaps"),
    ] {
        assert!(refused(prefixes).contains(words), "{}", refused(prefixes));
    }
    let mut told = Told::new(settings());
    told.put(&pool("p", json!({"prefixes": ["203.0.113.0/24"], "automatik": true})));
    assert!(told.problems()[0].contains("automatik"), "{:?}", told.problems());
}

#[test]
fn a_pool_of_pods_gives_nothing_and_says_so() {
    let mut told = Told::new(settings());
    told.table.set_pod_prefixes(&["10.0.0.0/8".parse().unwrap()]);
    told.put(&pool("p", json!({"prefixes": ["10.9.0.0/24"]})));
    told.put(&balanced("web", json!({})));
    let balance = told.table.balance(false);
    assert!(balance.record.services.is_empty());
    let problems: Vec<String> = balance.problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("10.9.0.0/24 overlaps 10.0.0.0/8 of pods"), "{problems:?}");
    assert!(problems[1].contains("no V4 address is left"), "{problems:?}");
}

#[test]
fn what_a_pool_that_cannot_be_read_held_back_is_looked_at_when_it_can_be_read_or_is_gone() {
    let good = pool("p", json!({"prefixes": ["203.0.113.0/30"]}));
    let bad = pool("p", json!({"prefixes": ["nonsense"]}));
    for is_repaired in [true, false] {
        let mut told = Told::new(settings());
        told.put(&good);
        told.put(&pool("q", json!({"prefixes": ["198.51.100.0/30"]})));
        told.put(&bad);
        told.put(&balanced("web", json!({})));
        assert!(told.table.take_unbalanced());
        assert_eq!(told.table.balance(false).record, told.table.balancer_record(), "held back");
        if is_repaired {
            told.table.put(&good)
        } else {
            told.table.remove(&good.key)
        }
        assert!(told.table.take_unbalanced(), "{is_repaired}");
        assert_eq!(told.table.balance(false).record.services.len(), 1);
    }
}

#[test]
fn the_record_is_read_as_it_was_written_and_newer_fields_stay() {
    let mut object = record(json!([given("web", "203.0.113.7")]));
    object.fields["spec"]["newer"] = json!(1);
    let read = BalancerRecord::try_from(&object).unwrap();
    let before = object.clone();
    read.write(&mut object);
    assert_eq!(object, before);
    assert_eq!(BalancerRecord::try_from(&read.to_object()).unwrap(), read);
}

/// An object that addresses of load balancers depend on.
fn random(dice: &mut Dice) -> Object {
    match dice.below(8) {
        0 => {
            let prefixes = dice.pick::<&str>(&["203.0.113.0/30", "198.51.100.0/29", "203.0.113.4/30", "nonsense"]);
            pool(dice.pick::<&str>(&["p", "q"]), json!({"prefixes": [prefixes], "automatic": !dice.once_in(4)}))
        }
        1 => node(dice.pick::<&str>(&["n1", "n2"]), dice.pick::<&str>(&["203.0.113.1", "192.0.2.1"]), "z"),
        _ => {
            let class = dice.pick::<&str>(&["", "example.com/other"]);
            let mut spec = json!({"type": dice.pick(&["LoadBalancer", "LoadBalancer", "ClusterIP", "Nonsense"])});
            if !class.is_empty() && dice.once_in(3) {
                spec["loadBalancerClass"] = json!(class);
            }
            let mut written = balanced(dice.pick::<&str>(&["a", "b", "c", "d"]), spec);
            if dice.once_in(4) {
                let address = dice.pick::<&str>(&["203.0.113.2", "192.0.2.9"]);
                written.fields.insert("status".into(), json!({"loadBalancer": {"ingress": [{"ip": address}]}}));
            }
            written
        }
    }
}

proptest! {
    /// Written whenever it should be another one, by whom ever: then it is right, nobody moved without need, and no address is of two.
    #[test]
    fn a_record_that_is_written_is_right_and_moves_nobody_whose_address_stays(seed: u64) {
        let dice = &mut Dice::new(seed);
        let mut told = Told::new(settings());
        for _ in 0..60 {
            let object = random(dice);
            let is_service = object.key.kind == crate::store::Kind::SERVICE;
            if dice.once_in(5) { told.table.remove(&object.key) } else { told.table.put(&object) }
            told.drain();
            let (before, balance) = (told.table.balancer_record(), told.table.balance(false));
            let mut addresses: Vec<_> = balance.record.services.values().flatten().collect();
            let all = addresses.len();
            addresses.sort();
            addresses.dedup();
            prop_assert_eq!(addresses.len(), all, "an address of two: {:?}", balance.record);
            if is_service {
                // A service that comes or goes moves no other one.
                for (name, had) in before.services.iter().filter(|(name, _)| *name.name != *object.key.name) {
                    prop_assert_eq!(balance.record.services.get(name), Some(had));
                }
            }
            told.put(&balance.record.to_object());
            prop_assert_eq!(&told.table.balancer_record(), &balance.record);
            prop_assert_eq!(told.table.balance(false).record, balance.record, "written, it stays");
        }
    }
}
