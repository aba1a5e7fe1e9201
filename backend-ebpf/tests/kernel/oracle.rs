//! Random clusters and connections: the programs decide as the evaluator does, by the same rule. Never a fixed case.
//! `CNIDARIAN_EBPF_ROUNDS=5000` for long, `CNIDARIAN_EBPF_SEED` for the same again.

use crate::bed::{enforce, judge, stage};
use crate::frames::Frame;
use backend_ebpf::abi::{Reason, Verdict};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use backend_ebpf::policy::RuleName;
use cni_core::policy::evaluate::{self, Connection, Decision, Evaluator, Exemption, Party, Trace};
use cni_core::policy::model::Protocol;
use cni_core::testkit::dice::Dice;
use cni_core::testkit::policy::Scene;
use std::collections::BTreeMap;
use std::net::IpAddr;

const ROUNDS: u64 = 40;
const CONNECTIONS: usize = 100;
const PODS: u8 = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn rounds() -> u64 {
    number("CNIDARIAN_EBPF_ROUNDS").unwrap_or(ROUNDS)
}

fn seed() -> u64 {
    number("CNIDARIAN_EBPF_SEED").unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into())
}

/// Which rule or tier's end a number stands for, in the evaluator's words.
fn named(enforcer: &Enforcer, word: u32) -> Option<RuleName> {
    match word & Verdict::RULE {
        0 => None,
        number => Some(enforcer.tables.rule(number).expect("rules of verdicts have names").clone()),
    }
}

fn is_by(decision: &Decision, rule: Option<&RuleName>) -> bool {
    match (decision, rule) {
        (Decision::Rule { policy, path, .. }, Some(RuleName::Rule { chain, path: found })) => {
            *policy == chain.policy && path == found
        }
        (Decision::Isolated { tier, .. }, Some(RuleName::End { tier: found, .. })) => tier == found,
        (Decision::Default | Decision::Exempt(_), None) => true,
        _ => false,
    }
}

fn allowed(word: u32) -> evaluate::Verdict {
    if word & Verdict::ALLOW == 0 { evaluate::Verdict::Deny } else { evaluate::Verdict::Allow }
}

/// One end of a connection, in the kernel and as the evaluator has it.
fn check(enforcer: &mut Enforcer, way: Way, connection: &Connection, trace: &Trace) -> Result<Reason, String> {
    // Each packet is the first of its connection.
    for (key, _) in enforcer.object.connections().unwrap() {
        enforcer.object.set_connection(key, None).unwrap();
    }
    let (reason, verdict) = judge(enforcer, way, &Frame::of(connection).bytes());
    let failed = |what: &str| Err(format!("{what}: {way:?} {connection:?}: {reason:?} {verdict:?}, told {trace:#?}"));
    if reason.passes() != (trace.verdict == evaluate::Verdict::Allow) {
        return failed("another verdict");
    }
    if trace.decision == Decision::Exempt(Exemption::SameEndpoint) {
        // Policy is asked first, and what it says does not count.
        return Ok(reason);
    }
    if ![Reason::Allowed, Reason::Denied].contains(&reason) {
        return failed("another reason");
    }
    if !is_by(&trace.decision, named(enforcer, verdict.enforced).as_ref()) {
        return failed("another rule");
    }
    match &trace.staged {
        Some((told, decision)) => {
            let by = named(enforcer, verdict.staged);
            if verdict.staged & Verdict::STAGED == 0
                || allowed(verdict.staged) != *told
                || !is_by(decision, by.as_ref())
            {
                return failed("another verdict of staged policies");
            }
        }
        None if verdict.staged != 0 => return failed("staged policies where there are none"),
        None => {}
    }
    Ok(reason)
}

/// Connections at all local ends.
fn agree(enforcer: &mut Enforcer, scene: &Scene, dice: &mut Dice, counts: &mut BTreeMap<Reason, u32>) {
    let evaluator = Evaluator::new(&scene.world);
    let is_pod = |address: IpAddr| scene.endpoints.values().any(|endpoint| endpoint.addresses.contains(&address));
    for _ in 0..CONNECTIONS {
        let connection = scene.connection(dice);
        let (Party::Address(from), Party::Address(to)) = (&connection.from, &connection.to) else { continue };
        let outcome = evaluator.decide(&connection).expect("addresses are parties");
        for (way, address, trace) in [(Way::FromPod, from, &outcome.egress), (Way::ToPod, to, &outcome.ingress)] {
            if is_pod(*address) {
                let reason = check(enforcer, way, &connection, trace).unwrap_or_else(|failed| panic!("{failed}"));
                *counts.entry(reason).or_default() += 1;
            }
        }
    }
}

#[test]
fn programs_decide_as_the_evaluator_does_and_by_the_same_rule() {
    let mut counts = BTreeMap::new();
    let seed = seed();
    for round in 0..rounds() {
        println!("CNIDARIAN_EBPF_SEED={seed}, round {round}");
        let mut dice = Dice::new(seed.wrapping_add(round << 32));
        let policies = 1 + dice.below(16);
        let scene = Scene::random(&mut dice, PODS, policies);
        let (mut enforcer, _) = enforce(&scene);
        assert_eq!(enforcer.tables.closed().count(), 0);
        agree(&mut enforcer, &scene, &mut dice, &mut counts);
    }
    println!("{counts:?}");
    let of = |reason| counts.get(&reason).copied().unwrap_or(0);
    assert!(of(Reason::Denied) > 100 && of(Reason::Allowed) > 100, "a fair mixture: {counts:?}");
}

#[test]
fn after_any_history_of_changes_programs_decide_as_the_evaluator_does() {
    let mut counts = BTreeMap::new();
    let seed = seed().wrapping_add(1);
    for round in 0..rounds().div_ceil(10) {
        println!("CNIDARIAN_EBPF_SEED={seed}, round {round}");
        let mut dice = Dice::new(seed.wrapping_add(round << 32));
        let mut scene = Scene::random(&mut dice, PODS, 8);
        let (mut enforcer, mut compiler) = enforce(&scene);
        for _ in 0..12 {
            for _ in 0..=dice.below(3) {
                let change = match dice.below(2) {
                    0 => scene.workload_change(&mut dice, PODS),
                    _ => scene.policy_change(&mut dice, 8, true),
                };
                let before = scene.endpoints.clone();
                scene.apply(change.clone());
                compiler.apply(change);
                for id in before.keys().filter(|id| !scene.endpoints.contains_key(id)) {
                    compiler.remove_endpoint(id);
                }
                scene.endpoints.values().for_each(|endpoint| compiler.put_endpoint(endpoint.clone()));
            }
            stage(&mut enforcer, &mut compiler);
            enforcer.commit().unwrap();
            assert_eq!(enforcer.waiting(), 0);
            agree(&mut enforcer, &scene, &mut dice, &mut counts);
        }
    }
    println!("{counts:?}");
}

#[test]
fn what_is_not_known_is_dropped() {
    let mut dice = Dice::new(seed());
    let enforcer = crate::bed::enforcer();
    let (from, to) = (Party::Address("10.0.0.1".parse().unwrap()), Party::Address("10.0.0.2".parse().unwrap()));
    let frame = Frame::of(&Connection::new(from, to, Protocol::TCP, 80)).bytes();
    for way in Way::ALL {
        assert_eq!(judge(&enforcer, way, &frame).0, Reason::UnknownEndpoint, "before anything was committed");
    }
    let scene = Scene::random(&mut dice, PODS, 8);
    let (enforcer, _) = enforce(&scene);
    for endpoint in scene.endpoints.values() {
        for source in &endpoint.addresses {
            let forged = if source.is_ipv4() { "203.0.113.66" } else { "2001:db8::66" };
            let mut frame = Frame::new(forged.parse().unwrap(), *source, 6, vec![0; 20]);
            assert_eq!(judge(&enforcer, Way::FromPod, &frame.bytes()).0, Reason::UnknownEndpoint);
            frame.destination = forged.parse().unwrap();
            assert_eq!(judge(&enforcer, Way::ToPod, &frame.bytes()).0, Reason::UnknownEndpoint);
        }
    }
}
