//! What policy in eBPF costs a packet, with few rules and with many: the real program, given one packet again and again
//! (`BPF_PROG_TEST_RUN`). Without a network, so the rest of the kernel's share is not in here.
//!
//! `cargo run --release -p benches --bin policy_ebpf`, as root
#![forbid(unsafe_code)]

use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::{Object, Sizes, Way};
use benches::stats::{Table, quantile};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyItem, ProgramRule, Set, SetId, SetKind,
    SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::Ipv4Addr;
use std::time::Duration;

type AnyError = Box<dyn std::error::Error>;

/// Rules, and addresses that they name.
const SIZES: &[(u32, u32)] = &[(10, 10), (100, 300), (1_000, 3_000)];
const RUNS: usize = 21;
/// Packets of one run; the kernel tells their mean.
const PACKETS: u32 = 20_000;
/// The loopback interface: a program that is only tried has to be told one that exists.
const INTERFACE: u32 = 1;
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + number)
}

/// A pod with so many rules, each for its own peer and one of 100 ports; and so many more addresses that rules name.
fn policy(rules: u32, addresses: u32) -> Result<Enforcer, AnyError> {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", "p");
    let id = ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress };
    let set = |number: u32| Set { id: SetId(format!("{number:x}").into()), kind: SetKind::Addresses(Family::V4) };
    let rule = |number: u32| {
        let sets = vec![SetMatch { side: Side::Source, set: set(number), negated: false }];
        let port = PortRange::one(1000 + (number % 100) as u16);
        let clause = Clause {
            family: Some(Family::V4),
            sets,
            protocol: Some(Protocol::TCP),
            destination_ports: Some(vec![port]),
            ..Clause::default()
        };
        let path = format!("spec.ingress[{number}]").into();
        ProgramRule { path, action: Action::Allow, clauses: vec![clause], unenforceable: None }
    };
    let tier = TierProgram { tier: "default".into(), chains: vec![id.clone()], end: TierEnd::Deny };
    let host_interface = InterfaceName::new("cni0")?;
    let mut enforcer = Enforcer::new(Object::load(&Sizes::default())?);
    enforcer.tables.set_interface(&host_interface, Some(INTERFACE));
    let members = (0..addresses.max(rules))
        .map(|number| PolicyItem::Member(set(number % rules), Member::Address(address(number).into())));
    let chain = Chain { id, stage: Stage::Tracked, rules: (0..rules).map(rule).collect() };
    let endpoint = EndpointProgram {
        endpoint: EndpointId::of("pod", "eth0")?,
        host_interface,
        addresses: vec![POD.into()],
        ingress: DirectionProgram { enforced: vec![tier], staged: None },
        egress: DirectionProgram::default(),
    };
    for item in members.chain([PolicyItem::Chain(chain), PolicyItem::Endpoint(endpoint)]) {
        enforcer.tables.apply(Change::Put(item));
    }
    enforcer.commit()?;
    Ok(enforcer)
}

/// TCP's flags. RFC 9293, section 3.1.
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A segment of a peer to the pod, whole.
fn frame(from: Ipv4Addr, to: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0];
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&40_000_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// Time per packet that a rule in the middle allows, of each run: of one that begins a connection, or of those that follow.
fn cost(enforcer: &Enforcer, rules: u32, flags: u8) -> Result<Vec<Duration>, AnyError> {
    let number = rules / 2;
    let frame = frame(address(number), POD, 1000 + (number % 100) as u16, flags);
    let run = || -> Result<Duration, AnyError> {
        let judgement = enforcer.object.judge(Way::ToPod, INTERFACE, &frame, PACKETS)?;
        match judgement.reason {
            Some(Reason::Allowed) => Ok(judgement.duration),
            other => Err(format!("{other:?} where a rule allows").into()),
        }
    };
    (0..RUNS).map(|_| run()).collect()
}

fn main() -> Result<(), AnyError> {
    let mut table = Table::new(&["policy", "ns per first packet, p50", "least", "ns per later packet, p50", "least"]);
    for (rules, addresses) in SIZES {
        let enforcer = policy(*rules, *addresses)?;
        let (first, later) = (cost(&enforcer, *rules, SYN)?, cost(&enforcer, *rules, ACK)?);
        let nanoseconds = |runs, at| quantile(runs, at).as_nanos().to_string();
        let [first, later] = [&first, &later].map(|runs| [nanoseconds(runs, 0.5), nanoseconds(runs, 0.0)]);
        table.row(&[[format!("{rules} rules, {addresses} addresses")].as_slice(), &first, &later].concat());
    }
    println!("{table}");
    Ok(())
}
