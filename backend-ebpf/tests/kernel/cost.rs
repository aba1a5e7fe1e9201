//! What the verifier went through and how deep the stack is, against the committed figures; and what a packet costs with few
//! rules and with many. Never an absolute time.

use crate::bed::{INTERFACE, enforcer};
use crate::frames::Frame;
use aya_obj::Object as Elf;
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::{OBJECT, Object, Sizes, Way};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyItem, ProgramRule, Set, SetId, SetKind,
    SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Program, instructions that the verifier may go through, bytes of stack: a tenth above what Linux 6.18 needed. Who makes a
/// program dearer raises the figure in the same commit, and says why.
const MOST: [(Way, u32, i64); 2] = [(Way::FromPod, 36_000, 400), (Way::ToPod, 36_000, 400)];

/// `BPF_REG_10`, and the classes and codes of instructions that reach the stack through it or a copy of it.
const FRAME_POINTER: u8 = 10;
const LDX: u8 = 0x61;
const MOV64_REG: u8 = 0xbf;
const ADD64_IMM: u8 = 0x07;

/// How far below its frame pointer a program reaches: addresses that it makes (`mov`, `add`), and loads and stores.
fn stack_bytes(way: Way) -> i64 {
    let elf = Elf::parse(OBJECT).unwrap();
    let key = elf.programs[way.program()].function_key();
    let mut copies = [false; 16];
    let mut deepest = 0_i64;
    for instruction in &elf.functions[&key].instructions {
        let (to, from, code) = (instruction.dst_reg(), instruction.src_reg(), instruction.code);
        let reach = match code {
            MOV64_REG => {
                copies[usize::from(to)] = from == FRAME_POINTER;
                0
            }
            ADD64_IMM if copies[usize::from(to)] => instruction.imm.into(),
            // Loads (class 1) reach through their source, stores (2, 3) through their target.
            _ if code & 7 == LDX & 7 && from == FRAME_POINTER => instruction.off.into(),
            _ if matches!(code & 7, 2 | 3) && to == FRAME_POINTER => instruction.off.into(),
            _ => 0,
        };
        deepest = deepest.min(reach);
    }
    -deepest
}

#[test]
fn verifier_costs_stay_below_the_committed_figures() {
    let object = Object::load(&Sizes::default()).unwrap();
    for (way, most_verified, most_stack) in MOST {
        let info = object.info(way).unwrap();
        let verified = info.verified_instruction_count().expect("the kernel tells since 5.16");
        let (name, stack) = (way.program(), stack_bytes(way));
        println!("{name:10} instructions verified: {verified} (at most {most_verified})");
        println!("{name:10} bytes of stack: {stack} (at most {most_stack})");
        println!("{name:10} bytes of machine code: {}", info.size_jitted());
        assert!(verified <= most_verified, "{name}: the verifier went through {verified} instructions");
        assert!(stack <= most_stack, "{name}: {stack} bytes of stack");
    }
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a01_0000 + number).into()
}

fn pod() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

/// A pod with so many rules, each for its own peer and one of 100 ports; and so many more addresses that rules name.
fn policy(rules: u32, addresses: u32) -> Enforcer {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", "p");
    let id = ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress };
    let set = |number: u32| Set { id: SetId(format!("{number:x}").into()), kind: SetKind::Addresses(Family::V4) };
    let rule = |number: u32| {
        let sets = vec![SetMatch { side: Side::Source, set: set(number), negated: false }];
        let port = PortRange::one(1000 + u16::try_from(number % 100).unwrap());
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
    let host_interface = InterfaceName::new("cni0").unwrap();
    let mut enforcer = enforcer();
    enforcer.tables.set_interface(&host_interface, Some(INTERFACE));
    let members = (0..addresses.max(rules))
        .map(|number| PolicyItem::Member(set(number % rules), Member::Address(address(number))));
    let chain = Chain { id, stage: Stage::Tracked, rules: (0..rules).map(rule).collect() };
    let endpoint = EndpointProgram {
        endpoint: EndpointId::of("pod", "eth0").unwrap(),
        host_interface,
        addresses: vec![pod()],
        ingress: DirectionProgram { enforced: vec![tier], staged: None },
        egress: DirectionProgram::default(),
    };
    for item in members.chain([PolicyItem::Chain(chain), PolicyItem::Endpoint(endpoint)]) {
        enforcer.tables.apply(Change::Put(item)).unwrap();
    }
    enforcer.commit().unwrap();
    enforcer
}

/// Time per packet that some rule in the middle allows: the best of some, as other programs use the machine too.
fn cost(enforcer: &Enforcer, rules: u32) -> Duration {
    let number = rules / 2;
    let port = 1000 + u16::try_from(number % 100).unwrap();
    let ports = [&40_000_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 16]].concat();
    let frame = Frame::new(address(number), pod(), Protocol::TCP.0, ports).bytes();
    let run = || enforcer.object.judge(Way::ToPod, INTERFACE, &frame, 20_000).unwrap();
    assert_eq!(run().reason, Some(Reason::Allowed));
    (0..10).map(|_| run().duration).min().unwrap()
}

#[test]
fn a_packet_costs_the_same_with_ten_rules_and_with_a_thousand() {
    let (few, many) = (policy(10, 10), policy(1000, 3000));
    let (with_few, with_many) = (cost(&few, 10), cost(&many, 1000));
    println!("10 rules: {with_few:?}, 1000 rules and 3000 addresses: {with_many:?} per packet");
    // A walk through rules would cost a hundred times as much; a deeper trie of addresses a little.
    assert!(with_many < with_few * 3, "{with_few:?} and {with_many:?}");
}
