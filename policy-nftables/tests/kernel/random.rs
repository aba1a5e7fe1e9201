//! Random programs and packets: what the rules are worked out to say is what the kernel does. Never a fixed case.

use crate::items::{addresses, chain, chain_id, member, named, network, set};
use crate::node::{A, B, Host, Node};
use cni_core::backend::Change;
use cni_core::policy::model::{Action, Direction, Family, PortRange, Protocol, TierEnd};
use cni_core::policy::program::{
    Clause, DirectionProgram, PolicyItem, PolicyKey, Set, SetKind, SetMatch, Side, TierProgram,
};
use net_linux::nft::Nft;
use policy_nftables::driver::observe;
use policy_nftables::verdict::{FirstPacket, Ruleset};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const ROUNDS: u32 = 25;

fn sets() -> [Set; 6] {
    [
        addresses("r1", Family::V4),
        addresses("r2", Family::V6),
        set("r3", SetKind::Networks(Family::V4)),
        set("r4", SetKind::Networks(Family::V6)),
        set("r5", SetKind::AddressPorts(Family::V4)),
        set("r6", SetKind::AddressPorts(Family::V6)),
    ]
}

fn members() -> Vec<PolicyItem> {
    let [a4, a6, n4, n6, p4, p6] = sets();
    vec![
        member(&a4, "10.9.0.1"),
        member(&a4, "192.0.2.9"),
        member(&a6, "fd00::1"),
        network(&n4, "10.9.0.2/31"),
        network(&n4, "192.0.2.0/29"),
        network(&n6, "fd00::/127"),
        named(&p4, "10.9.0.2", Protocol::UDP, 80),
        named(&p6, "fd00::2", Protocol::UDP, 81),
    ]
}

fn clause() -> impl Strategy<Value = Clause> {
    let side = prop_oneof![Just(Side::Source), Just(Side::Destination)];
    let set_match = (side, 0..6_usize, any::<bool>());
    let set_match = set_match.prop_map(|(side, which, negated)| SetMatch { side, set: sets()[which].clone(), negated });
    let ranges = prop_oneof![
        Just(vec![PortRange::one(80)]),
        Just(vec![PortRange { first: 81, last: 90 }]),
        Just(vec![PortRange { first: 1, last: 80 }, PortRange { first: 82, last: 99 }]),
        Just(Vec::new()),
    ];
    let option = |strategy| proptest::option::weighted(0.3, strategy);
    let protocol = prop_oneof![Just(Protocol::UDP), Just(Protocol::TCP)];
    (
        proptest::collection::vec(set_match, 0..2),
        option(ranges.clone().boxed()),
        option(ranges.boxed()),
        proptest::option::weighted(0.3, protocol.clone()),
        proptest::option::weighted(0.2, protocol),
        proptest::option::weighted(0.2, any::<bool>()),
    )
        .prop_map(|(sets, ports, not_ports, protocol, not_protocol, own_node)| Clause {
            sets,
            destination_ports: ports,
            not_destination_ports: not_ports,
            protocol,
            not_protocol,
            own_node,
            ..Clause::default()
        })
}

type Rules = Vec<(Action, Vec<Clause>)>;

fn rules() -> impl Strategy<Value = Rules> {
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Pass), Just(Action::Log)];
    proptest::collection::vec((action, proptest::collection::vec(clause(), 0..3)), 0..4)
}

/// Tiers of the chains with these numbers.
fn tiers() -> impl Strategy<Value = Vec<(Vec<usize>, bool)>> {
    let chains = proptest::sample::subsequence(vec![0, 1, 2], 0..=3);
    proptest::collection::vec((chains, any::<bool>()), 0..3)
}

fn program(tiers: &[(Vec<usize>, bool)], direction: Direction) -> Vec<TierProgram> {
    let tier = |(index, (chains, denies)): (usize, &(Vec<usize>, bool))| TierProgram {
        tier: format!("t{index}").into(),
        chains: chains.iter().map(|chain| chain_id(&format!("r{chain}"), direction)).collect(),
        end: if *denies { TierEnd::Deny } else { TierEnd::Pass },
    };
    tiers.iter().enumerate().map(tier).collect()
}

/// Whether one datagram comes back at once.
fn comes_back(from: &Host, to: IpAddr, port: u16) -> bool {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.netns.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(80))).unwrap();
    socket.send_to(b"x", SocketAddr::new(to, port)).is_ok() && socket.recv(&mut [0; 8]).is_ok()
}

#[test]
fn what_is_worked_out_is_what_the_kernel_does() {
    let mut node = Node::open_to_all();
    node.commit(sets().map(PolicyItem::Set).to_vec());
    node.commit(members());
    let mut runner =
        TestRunner::new(Config { cases: ROUNDS, max_shrink_iters: 0, failure_persistence: None, ..Config::default() });
    let node = std::cell::RefCell::new(node);
    let all = (proptest::array::uniform3(rules()), proptest::array::uniform3(rules()), tiers(), tiers(), tiers());
    let passed = std::cell::Cell::new([0, 0]);
    runner
        .run(&all, |(ingress, egress, to_b, from_a, staged)| {
            let mut node = node.borrow_mut();
            let mut items = Vec::new();
            for (direction, all) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
                for (number, rules) in all.into_iter().enumerate() {
                    items.push(chain(&chain_id(&format!("r{number}"), direction), rules));
                }
            }
            let (mut a, mut b) = (node.endpoint_a(), node.endpoint_b());
            a.egress = DirectionProgram { enforced: program(&from_a, Direction::Egress), staged: None };
            let staged = Some(program(&staged, Direction::Ingress));
            b.ingress = DirectionProgram { enforced: program(&to_b, Direction::Ingress), staged };
            items.extend([PolicyItem::Endpoint(a), PolicyItem::Endpoint(b)]);
            node.commit(items);
            let ruleset: Ruleset =
                node.node.netns.run(|| observe(&mut Nft::open().unwrap()).unwrap()).unwrap().into_iter().collect();
            let local = node.node.addresses;
            let interface = |host: &Host| match () {
                () if host.addresses == node.a.addresses => A,
                () if host.addresses == node.b.addresses => B,
                () => "eth0",
            };
            for (from, to) in
                [(&node.a, &node.b), (&node.outside, &node.b), (&node.a, &node.outside), (&node.a, &node.node)]
            {
                for (family, port) in [(0, 80), (0, 81), (1, 80), (1, 81)] {
                    let destination = to.addresses[family];
                    let packet = FirstPacket {
                        source: from.addresses[family],
                        destination,
                        protocol: Protocol::UDP.0,
                        ports: Some((40_000, port)),
                    };
                    let told =
                        ruleset.allows(&packet, interface(from), interface(to), |address| local.contains(&address));
                    let seen = comes_back(from, destination, port);
                    prop_assert_eq!(told, seen, "{:?} {}", packet, node.nft("list table inet cnidarian"));
                    let mut counts = passed.get();
                    counts[usize::from(seen)] += 1;
                    passed.set(counts);
                }
            }
            Ok(())
        })
        .unwrap();
    let [denied, allowed] = passed.get();
    assert!(denied > 20 && allowed > 20, "a fair mixture: {denied} denied, {allowed} allowed");
    let mut node = node.into_inner();
    node.change(vec![Change::Remove(PolicyKey::Endpoint(node.endpoint_a().endpoint))]);
}
