//! What visibility costs in eBPF: time per packet with nothing told, with drops, with everything, with samples; and how many records the
//! agent's source takes in a second. The real programs, given one packet again and again (`BPF_PROG_TEST_RUN`), which goes nowhere.
//!
//! `cargo run --release -p benches --bin flows`, as root
#![forbid(unsafe_code)]

use backend_ebpf::abi::{FlowsWanted, Reason};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::flows::Flows;
use backend_ebpf::kernel::{Object, Sizes, Way};
use benches::stats::{Table, quantile};
use cni_core::backend::Change;
use cni_core::flow::{FlowSource as _, Heard};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, PolicyItem, ProgramRule, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

type AnyError = Box<dyn std::error::Error>;

const RUNS: usize = 31;
/// Packets of one run; the kernel tells their mean.
const PACKETS: u32 = 20_000;
/// Records that have room in the buffer.
const RECORDS: u32 = 10_000;
/// The loopback interface: a program that is only tried has to be told one that exists.
const INTERFACE: u32 = 1;
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OPEN: u16 = 80;
const CLOSED: u16 = 81;

/// TCP's flags. RFC 9293, section 3.1.
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A pod that may be reached at one port.
fn policy() -> Result<Enforcer, AnyError> {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", "p");
    let id = ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress };
    let clause = Clause {
        protocol: Some(Protocol::TCP),
        destination_ports: Some(vec![PortRange::one(OPEN)]),
        ..Clause::default()
    };
    let path = "spec.ingress[0]".into();
    let rules = vec![ProgramRule { path, action: Action::Allow, clauses: vec![clause], unenforceable: None }];
    let tier = TierProgram { tier: "default".into(), chains: vec![id.clone()], end: TierEnd::Deny };
    let host_interface = InterfaceName::new("cni0")?;
    let mut enforcer = Enforcer::new(Object::load(&Sizes::default())?);
    enforcer.tables.set_interface(&host_interface, Some(INTERFACE));
    let endpoint = EndpointProgram {
        endpoint: EndpointId::of("pod", "eth0")?,
        host_interface,
        addresses: vec![POD.into()],
        ingress: DirectionProgram { enforced: vec![tier], staged: None },
        egress: DirectionProgram::default(),
    };
    for item in [PolicyItem::Chain(Chain { id, stage: Stage::Tracked, rules }), PolicyItem::Endpoint(endpoint)] {
        enforcer.tables.apply(Change::Put(item));
    }
    enforcer.commit()?;
    Ok(enforcer)
}

/// A segment of the peer to the pod, whole.
fn frame(port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0];
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&PEER.octets());
    frame.extend_from_slice(&POD.octets());
    frame.extend_from_slice(&40_000_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// Gives the pod a packet so many times; answers with the mean.
fn judge(enforcer: &Enforcer, frame: &[u8], packets: u32, expected: Reason) -> Result<Duration, AnyError> {
    let judgement = enforcer.object.judge(Way::ToPod, INTERFACE, frame, packets)?;
    if judgement.reason == Some(expected) {
        Ok(judgement.duration)
    } else {
        Err(format!("{:?} in the place of {expected:?}", judgement.reason).into())
    }
}

/// Takes all that was told; answers with how many records that were, and how many were lost.
fn drain(runtime: &Runtime, source: &mut Flows) -> Result<[u64; 2], AnyError> {
    let [mut told, mut lost] = [0; 2];
    runtime.block_on(async {
        while let Ok(heard) = tokio::time::timeout(Duration::ZERO, source.next()).await {
            for heard in heard? {
                match heard {
                    Heard::Event(_) => told += 1,
                    Heard::Lost(more) => lost += more,
                }
            }
        }
        Ok([told, lost])
    })
}

/// What is wanted, and what that is called.
fn modes() -> Vec<(&'static str, FlowsWanted)> {
    let sampled = |decisions, one_of| FlowsWanted::of(decisions).sampled(NonZeroU32::new(one_of));
    vec![
        ("none", FlowsWanted::of(FlowsWanted::NONE)),
        ("denied", FlowsWanted::of(FlowsWanted::DENIED)),
        ("all", FlowsWanted::of(FlowsWanted::ALL)),
        ("denied, sample 1000", sampled(FlowsWanted::DENIED, 1000)),
        ("denied, sample 100", sampled(FlowsWanted::DENIED, 100)),
        ("all, sample 100", sampled(FlowsWanted::ALL, 100)),
    ]
}

fn nanoseconds(runs: &[Duration]) -> f64 {
    quantile(runs, 0.5).as_secs_f64() * 1e9
}

fn main() -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let mut enforcer = policy()?;
    let mut source = Flows::new(enforcer.object.flows()?, enforcer.tables.rule_names())?;
    let (later, denied) = (frame(OPEN, ACK), frame(CLOSED, SYN));
    judge(&enforcer, &frame(OPEN, SYN), 1, Reason::Allowed)?;
    let modes = modes();
    let mut runs = vec![[Vec::new(), Vec::new()]; modes.len()];
    let mut rates = Vec::new();
    // All modes in each round, so that what else the machine does is in all of them.
    for _ in 0..RUNS {
        for ((_, wanted), [of_later, of_denied]) in modes.iter().zip(&mut runs) {
            enforcer.object.want_flows(*wanted)?;
            of_later.push(judge(&enforcer, &later, PACKETS, Reason::Allowed)?);
            drain(&runtime, &mut source)?;
            of_denied.push(judge(&enforcer, &denied, RECORDS, Reason::Denied)?);
            let begin = Instant::now();
            let [told, lost] = drain(&runtime, &mut source)?;
            let took = begin.elapsed();
            if wanted.decisions != FlowsWanted::NONE {
                if (told, lost) != (RECORDS.into(), 0) {
                    return Err(format!("{told} told and {lost} lost of {RECORDS}").into());
                }
                rates.push(took / RECORDS);
            }
        }
    }
    let mut table =
        Table::new(&["flows", "ns per later packet, p50", "more", "ratio", "ns per dropped packet, p50", "ratio"]);
    let base = runs.first().map(|runs| runs.each_ref().map(|runs| nanoseconds(runs))).unwrap_or_default();
    for ((name, _), all) in modes.iter().zip(&runs) {
        let [later, denied] = all.each_ref().map(|runs| nanoseconds(runs));
        table.row(&[
            (*name).to_owned(),
            format!("{later:.0}"),
            format!("{:+.0}", later - base[0]),
            format!("{:.2}", later / base[0]),
            format!("{denied:.0}"),
            format!("{:.2}", denied / base[1]),
        ]);
    }
    println!("{table}");
    let per_record = quantile(&rates, 0.5);
    println!("one record taken by the source: {per_record:?}, {:.0} in a second", 1.0 / per_record.as_secs_f64());
    Ok(())
}
