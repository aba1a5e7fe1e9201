//! The laws of addresses for load balancers.

use super::super::balancer::{AddressPool, Assignment, BalancerRequest, assign};
use super::*;
use crate::model::ServiceName;
use crate::policy::model::{Family, Protocol};
use crate::testkit::dice::Dice;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;

fn pools() -> Vec<AddressPool> {
    let pool = |name: &str, automatic, prefixes: &[&str]| AddressPool {
        name: name.into(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        automatic,
    };
    vec![pool("blue", true, &["203.0.113.0/29", "2001:db8::/126"]), pool("red", false, &["198.51.100.0/30"])]
}

fn request(name: &str) -> BalancerRequest {
    BalancerRequest {
        service: ServiceName { namespace: "default".into(), name: name.into() },
        created: None,
        families: vec![Family::V4],
        all_families: false,
        wanted: Vec::new(),
        pool: None,
        sharing: None,
        ports: vec![(80, Protocol::TCP)],
        local: false,
        current: Vec::new(),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn given(all: &BTreeMap<ServiceName, Assignment>, name: &str) -> String {
    let found = all.iter().find(|(service, _)| &*service.name == name).unwrap().1;
    let addresses = found.addresses.iter().map(ToString::to_string);
    addresses.chain(found.refusals.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_chosen_address_is_honoured_inside_of_its_pool_only_and_never_against_its_holder() {
    let wanted = |name: &str, address: &str| BalancerRequest { wanted: vec![ip(address)], ..request(name) };
    let holder = BalancerRequest { current: vec![ip("203.0.113.3")], ..request("holder") };
    let all = [
        wanted("a", "203.0.113.3"),
        wanted("b", "203.0.113.0"),
        wanted("c", "192.0.2.1"),
        wanted("d", "198.51.100.1"),
        BalancerRequest { pool: Some("blue".into()), ..wanted("e", "198.51.100.2") },
        BalancerRequest { pool: Some("green".into()), ..request("f") },
        BalancerRequest { pool: Some("red".into()), ..request("g") },
        holder,
    ];
    let got = assign(&pools(), &BTreeSet::new(), &all);
    assert_eq!(given(&got, "holder"), "203.0.113.3");
    assert!(given(&got, "a").starts_with("203.0.113.3 is an address of Service default/holder"));
    assert_eq!(given(&got, "b"), "203.0.113.0");
    assert_eq!(given(&got, "c"), "192.0.2.1 is in no pool; choose an address of a pool");
    assert_eq!(given(&got, "d"), "198.51.100.1");
    assert!(given(&got, "e").contains("none of the prefixes of pool \"blue\""));
    assert!(given(&got, "f").starts_with("there is no pool \"green\"; there are: blue, red"));
    assert_eq!(given(&got, "g"), "198.51.100.2");
}

#[test]
fn services_with_one_word_share_an_address_when_no_port_is_in_common() {
    let with = |name: &str, port: u16, local: bool| BalancerRequest {
        sharing: Some("word".into()),
        ports: vec![(port, Protocol::TCP)],
        local,
        ..request(name)
    };
    let got = assign(
        &pools(),
        &BTreeSet::new(),
        &[with("a", 80, false), with("b", 443, false), with("c", 80, false), with("d", 1, true)],
    );
    let shown = ["a", "b", "c", "d"].map(|name| given(&got, name));
    assert_eq!(shown, ["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.3"]);
}

#[test]
fn a_service_that_needs_both_families_gets_both_or_none() {
    let both = |name: &str, all_families| BalancerRequest {
        families: vec![Family::V4, Family::V6],
        all_families,
        ..request(name)
    };
    let only_v4 = &pools()[1..];
    let red = |one: BalancerRequest| BalancerRequest { pool: Some("red".into()), ..one };
    let got = assign(only_v4, &BTreeSet::new(), &[red(both("a", true)), red(both("b", false))]);
    assert_eq!(given(&got, "a"), "no V6 address is left in the pools that it may use");
    assert!(given(&got, "b").starts_with("198.51.100.2, no V6"));
    assert_eq!(given(&assign(&pools(), &BTreeSet::new(), &[both("a", true)]), "a"), "203.0.113.1, 2001:db8::");
}

fn random(dice: &mut Dice) -> Vec<BalancerRequest> {
    let addresses = ["203.0.113.1", "203.0.113.2", "203.0.113.3", "198.51.100.1", "2001:db8::1", "192.0.2.1"];
    let some = |dice: &mut Dice| if dice.once_in(3) { vec![ip(dice.pick::<&str>(&addresses))] } else { Vec::new() };
    let one = |number: usize, dice: &mut Dice| BalancerRequest {
        created: dice.once_in(2).then(|| ["2024", "2025"][dice.below(2)].into()),
        families: [vec![Family::V4], vec![Family::V6, Family::V4], vec![]][dice.below(3)].clone(),
        all_families: dice.once_in(3),
        wanted: some(dice),
        pool: dice.once_in(4).then(|| ["blue", "red", "green"][dice.below(3)].into()),
        sharing: dice.once_in(2).then(|| ["x", "y"][dice.below(2)].into()),
        ports: vec![([80, 81, 82][dice.below(3)], Protocol::TCP)],
        local: dice.once_in(4),
        current: some(dice),
        ..request(&format!("s{number}"))
    };
    (0..dice.below(12)).map(|number| one(number, dice)).collect()
}

proptest! {
    #[test]
    fn assignments_do_not_depend_on_order_stay_and_are_of_one_service_each(seed: u64) {
        let dice = &mut Dice::new(seed);
        let pools = pools();
        let mut requests = random(dice);
        let got = assign(&pools, &BTreeSet::new(), &requests);
        dice.shuffle(&mut requests);
        prop_assert_eq!(&got, &assign(&pools, &BTreeSet::new(), &requests));
        for request in &mut requests {
            request.current = got[&request.service].addresses.clone();
        }
        let addresses = |all: &BTreeMap<ServiceName, Assignment>| {
            all.iter().map(|(name, one)| (name.clone(), one.addresses.clone())).collect::<BTreeMap<_, _>>()
        };
        let kept = addresses(&assign(&pools, &BTreeSet::new(), &requests));
        for (name, had) in addresses(&got) {
            prop_assert!(had.iter().all(|address| kept[&name].contains(address)), "{} had {:?}: {:?}", name, had, kept);
        }
        for (at, one) in requests.iter().enumerate() {
            for address in &one.current {
                prop_assert!(pools.iter().flat_map(|pool| &pool.prefixes).any(|prefix| prefix.contains(address)));
                for other in requests[..at].iter().filter(|other| other.current.contains(address)) {
                    prop_assert!(one.sharing.is_some() && one.sharing == other.sharing && one.ports != other.ports);
                }
            }
        }
    }
}
