//! Random walks: history does not count, and programs decide as the evaluator does. `PROPTEST_CASES=20000` walks for long.

use crate::backend::{Change, Item};
use crate::model::{EndpointId, InterfaceName};
use crate::policy::compile::{Compiler, LocalEndpoint};
use crate::policy::evaluate::{Decision, Evaluator, Exemption};
use crate::policy::model::{Tier, WorkloadKind};
use crate::policy::program::{PolicyChange, PolicyItem, PolicyKey};
use crate::policy::world::ModelChange;
use crate::testkit::dice::Dice;
use crate::testkit::policy::{Items, Scene};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What a compiler that never knew anything else makes of it.
fn from_scratch(scene: &Scene, endpoints: &BTreeMap<EndpointId, LocalEndpoint>) -> Items {
    let mut compiler = Compiler::new(&scene.node);
    Scene { endpoints: endpoints.clone(), ..scene.clone() }.load(&mut compiler);
    let mut items = Items::default();
    drain(&mut compiler, &mut items);
    items
}

/// Drains, and checks that nothing needless and nothing unusable comes.
fn drain(compiler: &mut Compiler, items: &mut Items) {
    let mut seen = BTreeSet::new();
    let mut last = 0;
    for change in compiler.drain() {
        let key = match &change {
            Change::Put(item) => item.key(),
            Change::Remove(key) => key.clone(),
            other => panic!("{other:?} is not the compiler's to say"),
        };
        // What is used comes before what uses it, and goes after it: so nothing dangles in between either.
        let phase = phase(&change);
        assert!(last <= phase, "{key} comes too late");
        last = phase;
        assert!(seen.insert(key.clone()), "{key} comes twice");
        assert!(items.apply(change), "{key} is as it was");
    }
    assert_eq!(items.dangling(), []);
    assert!(compiler.drain().is_empty());
}

fn phase(change: &PolicyChange) -> u8 {
    match change {
        Change::Put(PolicyItem::Set(_)) => 0,
        Change::Put(PolicyItem::Member(..)) => 1,
        Change::Put(PolicyItem::Chain(_)) => 2,
        Change::Put(PolicyItem::Endpoint(_) | PolicyItem::Host(_)) => 3,
        Change::Remove(PolicyKey::Endpoint(_) | PolicyKey::Host) => 4,
        Change::Remove(PolicyKey::Chain(_)) => 5,
        Change::Remove(PolicyKey::Member(..)) => 6,
        Change::Remove(PolicyKey::Set(_)) | Change::Node(_) | Change::Config(_) | Change::InSync => 7,
    }
}

fn stranger(id: &str, address: IpAddr, pod: Option<(&str, &str)>) -> LocalEndpoint {
    LocalEndpoint {
        id: EndpointId::of(id, "eth0").unwrap(),
        host_interface: InterfaceName::new(id).unwrap(),
        addresses: vec![address],
        pod: pod.map(|(namespace, name)| (namespace.into(), name.into())),
    }
}

/// One random step of the scene, told to the compiler too.
fn step(
    dice: &mut Dice,
    scene: &mut Scene,
    attached: &mut BTreeMap<EndpointId, LocalEndpoint>,
    compiler: &mut Compiler,
) {
    let change = match dice.below(10) {
        0..4 => Some(scene.workload_change(dice, 12)),
        4..8 => Some(scene.policy_change(dice, 8, true)),
        8 => dice.once_in(3).then(|| {
            let tier = Arc::from(*dice.pick(&["security", "platform", Tier::DEFAULT]));
            ModelChange::RemoveTier(tier)
        }),
        _ => None,
    };
    if let Some(change) = change {
        scene.apply(change.clone());
        compiler.apply(change.clone());
        if dice.once_in(3) {
            compiler.apply(change);
        }
    }
    // Attachments come and go before or after their pods.
    if dice.once_in(2) {
        let mut wanted = scene.endpoints.clone();
        if dice.once_in(3) {
            // Perhaps one that a pod of another node claims.
            let elsewhere: Vec<IpAddr> = scene.world.workloads.values().flat_map(|pod| pod.addresses.clone()).collect();
            let local = |address: &IpAddr| wanted.values().any(|one| one.addresses.contains(address));
            let address = *dice.pick(&elsewhere);
            let address = if local(&address) { "10.0.0.251".parse().unwrap() } else { address };
            let one = stranger("plain", address, None);
            wanted.insert(one.id.clone(), one);
        }
        if dice.once_in(3) {
            let one = stranger("early", "10.0.0.250".parse().unwrap(), Some(("red", "pod-3")));
            wanted.insert(one.id.clone(), one);
        }
        for endpoint in wanted.values() {
            compiler.put_endpoint(endpoint.clone());
        }
        for id in attached.keys().filter(|id| !wanted.contains_key(*id)) {
            compiler.remove_endpoint(id);
        }
        *attached = wanted;
    }
}

proptest! {
    #[test]
    fn what_was_drained_depends_on_what_is_in_force_and_not_on_history(seed: u64, steps in 1usize..80) {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::random(&mut dice, 6, 6);
        let mut compiler = Compiler::new(&scene.node);
        scene.load(&mut compiler);
        let mut attached = scene.endpoints.clone();
        let mut items = Items::default();
        for _ in 0..steps {
            step(&mut dice, &mut scene, &mut attached, &mut compiler);
            if dice.once_in(3) {
                drain(&mut compiler, &mut items);
            }
        }
        drain(&mut compiler, &mut items);
        prop_assert_eq!(&items, &from_scratch(&scene, &attached));
        for id in attached.keys() {
            compiler.remove_endpoint(id);
        }
        let hosts = [WorkloadKind::Node, WorkloadKind::HostEndpoint];
        for id in scene.world.workloads.keys().filter(|id| hosts.contains(&id.kind)) {
            compiler.apply(ModelChange::RemoveWorkload(id.clone()));
        }
        drain(&mut compiler, &mut items);
        prop_assert_eq!(items, Items::default());
        prop_assert!(compiler.groups.known.iter().next().is_none());
        prop_assert!(compiler.policies.known.iter().all(|(_, known)| known.endpoints.is_empty()));
    }

    #[test]
    fn programs_decide_as_the_evaluator_does(seed: u64, policies in 1usize..16) {
        agree(&mut Dice::new(seed), policies)?;
    }
}

/// The only staged policy is of a stage that is not asked about answers of a failsafe port.
#[test]
fn a_stage_that_is_not_asked_has_nothing_staged() {
    agree(&mut Dice::new(11_319_235_013_516_058_400), 5).unwrap();
}

/// A random cluster, and connections on which the evaluator and the programs must agree.
fn agree(dice: &mut Dice, policies: usize) -> Result<(), TestCaseError> {
    let scene = Scene::random(dice, 10, policies);
    let items = from_scratch(&scene, &scene.endpoints);
    let evaluator = Evaluator::new(&scene.world);
    for _ in 0..100 {
        let connection = scene.connection(dice);
        let outcome = evaluator.decide(&connection).expect("addresses are parties");
        let found = scene.decide(&items, &connection);
        for (trace, found) in [(&outcome.egress, found.egress), (&outcome.ingress, found.ingress)] {
            if let Some(found) = found {
                let exempt = trace.decision == Decision::Exempt(Exemption::Failsafe);
                let staged = trace.staged.as_ref().map(|(verdict, _)| *verdict);
                let found = (found.0, found.1.filter(|_| !exempt));
                prop_assert_eq!(found, (trace.verdict, staged), "{:?}\n{:#?}", connection, trace);
            }
        }
    }
    Ok(())
}
