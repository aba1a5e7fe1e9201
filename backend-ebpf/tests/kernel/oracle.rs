//! Random clusters and connections: the programs decide as the evaluator does, by the same rule. Never a fixed case.
//! `CNIDARIAN_EBPF_ROUNDS=5000` for long, `CNIDARIAN_EBPF_SEED` for the same again.

use crate::bed::{enforce, judge, stage};
use crate::frames::Frame;
use backend_ebpf::abi::{Reason, Verdict};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use backend_ebpf::policy::RuleName;
use cni_core::policy::compile::Compiler;
use cni_core::policy::evaluate::{self, Connection, Decision, Evaluator, Exemption, Party, Trace};
use cni_core::policy::model::{Action, PolicyId, Protocol};
use cni_core::testkit::dice::Dice;
use cni_core::testkit::policy::Scene;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

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
        number => enforcer.tables.rule(number).cloned(),
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

/// Which rules log, by policy and place.
type Logs = Vec<(PolicyId, Arc<str>)>;

fn logged(enforcer: &Enforcer, word: u32) -> Logs {
    if word & Verdict::LOGGED == 0 {
        return Vec::new();
    }
    let named = enforcer.tables.rule_names().get(word & Verdict::RULE).expect("rules of verdicts have names");
    let place = |name: &RuleName| match name {
        RuleName::Rule { chain, path } => (chain.policy.clone(), path.clone()),
        RuleName::End { .. } => panic!("the end of a tier logs nothing"),
    };
    named.logs.iter().map(place).collect()
}

/// The same as the evaluator has it.
fn asked_to_log(trace: &Trace) -> Logs {
    let logs = trace.steps.iter().filter(|step| step.action == Some(Action::Log) && step.miss.is_none());
    logs.filter_map(|step| Some((step.policy.clone(), step.path.clone()?))).collect()
}

fn allowed(word: u32) -> evaluate::Verdict {
    if word & Verdict::ALLOW == 0 { evaluate::Verdict::Deny } else { evaluate::Verdict::Allow }
}

/// So that each packet is the first of its connection.
fn forget(enforcer: &mut Enforcer) {
    for (key, _) in enforcer.object.connections().unwrap() {
        enforcer.object.set_connection(key, None).unwrap();
    }
}

/// One end of a connection, in the kernel and as the evaluator has it.
fn check(enforcer: &Enforcer, way: Way, connection: &Connection, trace: &Trace) -> Result<Reason, String> {
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
    if logged(enforcer, verdict.enforced) != asked_to_log(trace) {
        return failed("other rules log");
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
        let outcome = evaluator.explain(&connection).expect("addresses are parties");
        for (way, address, trace) in [(Way::FromPod, from, &outcome.egress), (Way::ToPod, to, &outcome.ingress)] {
            if is_pod(*address) {
                forget(enforcer);
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

/// One step of a random history, committed.
fn change(scene: &mut Scene, compiler: &mut Compiler, enforcer: &mut Enforcer, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let change = match dice.below(2) {
            0 => scene.workload_change(dice, PODS),
            _ => scene.policy_change(dice, 8, true),
        };
        let before = scene.endpoints.clone();
        scene.apply(change.clone());
        compiler.apply(change);
        for id in before.keys().filter(|id| !scene.endpoints.contains_key(id)) {
            compiler.remove_endpoint(id);
        }
        scene.endpoints.values().for_each(|endpoint| compiler.put_endpoint(endpoint.clone()));
    }
    stage(enforcer, compiler);
    enforcer.commit().unwrap();
    assert_eq!(enforcer.waiting(), 0);
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
            change(&mut scene, &mut compiler, &mut enforcer, &mut dice);
            agree(&mut enforcer, &scene, &mut dice, &mut counts);
        }
    }
    println!("{counts:?}");
}

/// Connections that go on while policy changes around them; each has a port of its own, so that none answers another.
fn lasting(scene: &Scene, dice: &mut Dice) -> Vec<Connection> {
    let own_port = |port: u16| {
        let connection = scene.connection(dice);
        connection.protocol.has_ports().then_some(Connection { source_port: Some(port), ..connection })
    };
    (20_000..20_150).filter_map(own_port).collect()
}

#[test]
fn open_connections_are_judged_by_the_newest_policy_whatever_happened_before() {
    let seed = seed().wrapping_add(2);
    let (mut turned, mut known) = (0, BTreeMap::new());
    for round in 0..rounds().div_ceil(10) {
        println!("CNIDARIAN_EBPF_SEED={seed}, round {round}");
        let mut dice = Dice::new(seed.wrapping_add(round << 32));
        let mut scene = Scene::random(&mut dice, PODS, 8);
        let (mut enforcer, mut compiler) = enforce(&scene);
        let connections = lasting(&scene, &mut dice);
        for _ in 0..12 {
            change(&mut scene, &mut compiler, &mut enforcer, &mut dice);
            let evaluator = Evaluator::new(&scene.world);
            for (at, connection) in connections.iter().enumerate() {
                let (Party::Address(from), Party::Address(to)) = (&connection.from, &connection.to) else { continue };
                let outcome = evaluator.explain(connection).expect("addresses are parties");
                for (way, own, trace) in [(Way::FromPod, from, &outcome.egress), (Way::ToPod, to, &outcome.ingress)] {
                    if !scene.endpoints.values().any(|endpoint| endpoint.addresses.contains(own)) {
                        continue;
                    }
                    // What the first of two leaves decides the second one.
                    for _ in 0..2 {
                        check(&enforcer, way, connection, trace).unwrap_or_else(|failed| panic!("{failed}"));
                    }
                    let before = known.insert((round, at, own.to_owned()), trace.verdict);
                    turned += u32::from(before.is_some_and(|before| before != trace.verdict));
                }
            }
        }
    }
    assert!(turned > 20, "policy turned for {turned} connections only");
}

#[test]
fn what_is_not_known_is_dropped() {
    let mut dice = Dice::new(seed());
    let enforcer = crate::bed::enforcer();
    let (from, to) = (Party::Address("10.0.0.1".parse().unwrap()), Party::Address("10.0.0.2".parse().unwrap()));
    let frame = Frame::of(&Connection::new(from, to, Protocol::TCP, 80)).bytes();
    for way in Way::PODS {
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
