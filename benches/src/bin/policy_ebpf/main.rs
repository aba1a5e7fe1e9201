//! What policy in eBPF costs a packet, with few rules and with many, what forwarding costs behind it, and masquerading: the real
//! programs, given one packet again and again (`BPF_PROG_TEST_RUN`). Without a network, so the rest of the kernel's share is not in
//! here.
//!
//! `cargo run --release -p benches --bin policy_ebpf`, as root; `policy_ebpf load [MOST]` prints what it takes to put policy in force
//! instead, with at most so many addresses.
#![forbid(unsafe_code)]

mod load;

use backend_ebpf::abi::{
    FORWARD_VERSION, MASQUERADE_VERSION, Masquerading, Pod, Reason, Settings, Way as Carriage, mapped,
};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::forward::{Forward, Generation};
use backend_ebpf::kernel::masquerade::{Loaded, Masquerade, Room};
use backend_ebpf::kernel::{Object, Sizes, Way, Which};
use backend_ebpf::lengths::PrefixLength;
use benches::stats::{Table, quantile};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyItem, ProgramRule, Set, SetId, SetKind,
    SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use ipnet::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;
use std::time::Duration;

type AnyError = Box<dyn std::error::Error>;

/// Rules, and addresses that they name: nearly each has an identity of its own, because no other is in the same two sets.
const SIZES: &[(u32, u32)] = &[(10, 10), (100, 300), (1_000, 3_000), (1_000, 100_000)];
const RUNS: usize = 21;
/// Packets of one run; the kernel tells their mean.
const PACKETS: u32 = 20_000;
/// Of a program that takes a hop from the packet each time.
const HOPS: u8 = 250;
/// Of a program that leaves a packet which it would not know again: one of each test, and so many tests.
const ONCE: usize = 20_000;
/// What sends a packet elsewhere: `TC_ACT_REDIRECT` of `include/uapi/linux/pkt_cls.h`.
const REDIRECT: i32 = 7;
/// The loopback interface: a program that is only tried has to be told one that exists.
const INTERFACE: u32 = 1;
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a01_0000 + number)
}

/// A pod with so many rules, each for its own peer and one of 100 ports, in both directions; and so many more addresses that rules
/// name.
fn policy(rules: u32, addresses: u32) -> Result<Enforcer, AnyError> {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", "p");
    let policy = PolicyId { object, part: 0 };
    let set = |number: u32| Set { id: SetId(format!("{number:x}").into()), kind: SetKind::Addresses(Family::V4) };
    let rule = |number: u32, side: Side| {
        let sets = vec![SetMatch { side, set: set(number), negated: false }];
        let port = PortRange::one(1000 + (number % 100) as u16);
        let clause = Clause {
            family: Some(Family::V4),
            sets,
            protocol: Some(Protocol::TCP),
            destination_ports: Some(vec![port]),
            ..Clause::default()
        };
        let path = format!("spec.rules[{number}]").into();
        ProgramRule { path, action: Action::Allow, clauses: vec![clause], unenforceable: None }
    };
    let chain = |direction, side| Chain {
        id: ChainId { policy: policy.clone(), direction },
        stage: Stage::Tracked,
        rules: (0..rules).map(|number| rule(number, side)).collect(),
    };
    let chains = [chain(Direction::Ingress, Side::Source), chain(Direction::Egress, Side::Destination)];
    let program = |chain: &Chain| {
        let tier = TierProgram { tier: "default".into(), chains: vec![chain.id.clone()], end: TierEnd::Deny };
        DirectionProgram { enforced: vec![tier], staged: None }
    };
    let host_interface = InterfaceName::new("cni0")?;
    let mut enforcer = Enforcer::new(Object::load(&Sizes::default())?);
    enforcer.tables.set_interface(&host_interface, Some(INTERFACE));
    let member = |set, number| PolicyItem::Member(set, Member::Address(address(number).into()));
    let first = (0..addresses).map(|number| member(set(number % rules), number));
    let second = (rules..addresses).map(|number| member(set(number / rules % rules), number));
    let endpoint = EndpointProgram {
        endpoint: EndpointId::of("pod", "eth0")?,
        host_interface,
        addresses: vec![POD.into()],
        ingress: program(&chains[0]),
        egress: program(&chains[1]),
    };
    let rest = chains.map(PolicyItem::Chain).into_iter().chain([PolicyItem::Endpoint(endpoint)]);
    for item in first.chain(second).chain(rest) {
        enforcer.tables.apply(Change::Put(item));
    }
    enforcer.commit()?;
    Ok(enforcer)
}

/// TCP's flags. RFC 9293, section 3.1.
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A segment of a peer to the pod, or of the pod to a peer, whole.
fn frame(from: Ipv4Addr, to: Ipv4Addr, port: u16, flags: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe, 8, 0];
    // Its header's sum is not looked at here: programs change it by what they change.
    frame.extend_from_slice(&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 255, 6, 0, 0]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&40_000_u16.to_be_bytes());
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

/// Time per packet that a rule in the middle allows, of each run: of one that begins a connection, or of those that follow.
fn cost(enforcer: &Enforcer, way: Way, rules: u32, flags: u8) -> Result<Vec<Duration>, AnyError> {
    let number = rules / 2;
    let port = 1000 + (number % 100) as u16;
    let (from, to) = if way == Way::ToPod { (address(number), POD) } else { (POD, address(number)) };
    let frame = frame(from, to, port, flags);
    let run = || -> Result<Duration, AnyError> {
        let judgement = enforcer.object.judge(way, INTERFACE, &frame, PACKETS)?;
        match judgement.reason {
            Some(Reason::Allowed) => Ok(judgement.duration),
            other => Err(format!("{other:?} where a rule allows").into()),
        }
    };
    (0..RUNS).map(|_| run()).collect()
}

/// The node's programs of the fast path, with so many pods here and prefixes of others.
fn forwarding(entries: u32) -> Result<Generation, AnyError> {
    let loaded = Generation::load((entries.max(2), entries.max(2)))?;
    let mut maps = loaded.maps()?;
    maps.set_settings(Settings {
        version: FORWARD_VERSION,
        tunnel: INTERFACE,
        underlay: INTERFACE,
        flags: Settings::DIRECT,
        ..Settings::default()
    })?;
    for number in 0..entries {
        maps.set_pod(address(number).into(), Some(Pod { interface: INTERFACE, addresses: [2; 12] }))?;
    }
    let way = Carriage { node: mapped([192, 0, 2, 2]), kind: Carriage::TUNNEL };
    let ways: Result<Vec<_>, _> = (0..entries).map(|number| Ipv4Net::new(far(number), 26)).collect();
    let ways: Vec<_> = ways?.into_iter().map(|prefix| (IpNet::V4(prefix), Some(way))).collect();
    if let Some((prefix, _)) = ways.first() {
        maps.set_length(PrefixLength::of(prefix), true)?;
    }
    maps.set_ways(&ways).into_iter().collect::<Result<(), _>>()?;
    Ok(loaded)
}

/// In the prefix of another node.
fn far(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x1400_0000 + 64 * number)
}

/// Time per packet of the pod to one here, or to another node.
fn past_stack(loaded: &Generation, to: Ipv4Addr) -> Result<Vec<Duration>, AnyError> {
    let frame = frame(POD, to, 80, ACK);
    let run = || match loaded.try_frame(Forward::PastStack, &frame, HOPS.into())? {
        (REDIRECT, _, time) => Ok(time),
        (action, ..) => Err(format!("{action} where the packet is sent elsewhere").into()),
    };
    (0..10 * RUNS).map(|_| run()).collect()
}

/// Time of a packet that leaves by masquerading, of the answer that comes back, and of one that is not IP, whose test costs the
/// same; with so many connections.
fn masquerading(connections: u32) -> Result<[Vec<Duration>; 3], AnyError> {
    let node = Ipv4Addr::new(192, 0, 2, 1);
    let loaded = Loaded::load(Room { connections: (2 * connections).max(4096), prefixes: 16 })?;
    let mut maps = loaded.maps()?;
    let pods: IpNet = "10.0.0.0/8".parse()?;
    maps.set_prefixes(Which::Keep, &[pods])?;
    maps.set_prefixes(Which::Sources, &[pods])?;
    let (v4, first_port) = (mapped(node.octets()), 61_000);
    maps.set_settings(Masquerading {
        version: MASQUERADE_VERSION,
        v4,
        salt: 7,
        first_port,
        ports: 4536,
        ..Masquerading::default()
    })?;
    let outside = |number: u32| Ipv4Addr::from(0xcb00_0000 + number);
    let leaves = |number: u32| frame(POD, outside(number), 443, ACK);
    for number in 0..connections {
        loaded.try_frame(Masquerade::Out, &leaves(number), 1)?;
    }
    let asked = leaves(connections / 2);
    let (_, after, _) = loaded.try_frame(Masquerade::Out, &asked, 1)?;
    // The answer: addresses and ports the other way round.
    let mut answer = after.clone();
    let swap = |to: &mut [u8], from: &[u8], pairs: [(usize, usize, usize); 4]| {
        pairs
            .iter()
            .for_each(|(at, other, length)| to[*at..at + length].copy_from_slice(&from[*other..other + length]));
    };
    swap(&mut answer, &after, [(26, 30, 4), (30, 26, 4), (34, 36, 2), (36, 34, 2)]);
    let mut no_ip = asked.clone();
    no_ip[12..14].copy_from_slice(&[8, 6]);
    let times = |program, frame: &[u8], changes: bool| -> Result<Vec<Duration>, AnyError> {
        let run = |_| {
            let (_, after, time) = loaded.try_frame(program, frame, 1)?;
            if (after != frame) == changes { Ok(time) } else { Err("the packet is not what it should be".into()) }
        };
        (0..ONCE).map(run).collect()
    };
    Ok([
        times(Masquerade::Out, &asked, true)?,
        times(Masquerade::In, &answer, true)?,
        times(Masquerade::Out, &no_ip, false)?,
    ])
}

fn nanoseconds(runs: &[Duration], at: f64) -> String {
    quantile(runs, at).as_nanos().to_string()
}

fn main() -> Result<(), AnyError> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("load") {
        return load::print(arguments.next().map_or(Ok(u32::MAX), |most| most.parse())?);
    }
    let mut judged =
        Table::new(&["to a pod", "ns per first packet, p50", "least", "ns per later packet, p50", "least"]);
    let mut passed = Table::new(&[
        "a later packet from a pod, ns p50 (least)",
        "policy",
        "to a pod here",
        "both",
        "to a node",
        "both",
    ]);
    for (rules, addresses) in SIZES {
        let name = format!("{rules} rules, {addresses} addresses");
        let enforcer = policy(*rules, *addresses)?;
        let (first, later) = (cost(&enforcer, Way::ToPod, *rules, SYN)?, cost(&enforcer, Way::ToPod, *rules, ACK)?);
        let [first, later] = [&first, &later].map(|runs| [nanoseconds(runs, 0.5), nanoseconds(runs, 0.0)]);
        judged.row(&[[name.clone()].as_slice(), &first, &later].concat());
        cost(&enforcer, Way::FromPod, *rules, SYN)?;
        let from = cost(&enforcer, Way::FromPod, *rules, ACK)?;
        let forwarding = forwarding((*addresses).min(65_536))?;
        let [here, there] = [address(rules / 2), far(rules / 2)].map(|to| past_stack(&forwarding, to));
        let (here, there) = (here?, there?);
        let both = |runs: &[&[Duration]]| {
            let [p50, least] = [0.5, 0.0].map(|at| runs.iter().map(|runs| quantile(runs, at).as_nanos()).sum::<u128>());
            format!("{p50} ({least})")
        };
        passed.row(&[
            name,
            both(&[&from]),
            both(&[&here]),
            both(&[&from, &here]),
            both(&[&there]),
            both(&[&from, &there]),
        ]);
    }
    let mut masqueraded = Table::new(&["masquerading, one packet in a test, ns p50 (p10)", "out", "back", "not IP"]);
    for connections in [1, 1_000, 65_536] {
        let times = masquerading(connections)?;
        let cells = times.map(|runs| format!("{} ({})", nanoseconds(&runs, 0.5), nanoseconds(&runs, 0.1)));
        masqueraded.row(&[[format!("{connections} connections")].as_slice(), &cells].concat());
    }
    println!("{judged}\n{passed}\n{masqueraded}");
    Ok(())
}
