//! Random policies about hosts and pods: what the evaluator says is what the kernel does with packets from and to the node.

use super::{Cluster, host_endpoint, policy};
use crate::node::Host;
use cni_core::policy::evaluate::{Connection, Evaluator, Party};
use cni_core::policy::model::{
    Action, Attribute, HostInterfaces, Kinds, Order, Peer, Policy, PortRange, Ports, Protocol, Rule, Rules, Selector,
    Stage, Traffic, WorkloadKind,
};
use cni_core::testkit::dice::Dice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const ROUNDS: usize = 25;

fn peer(dice: &mut Dice) -> Peer {
    let kinds = [Kinds::PODS, Kinds::NODES, Kinds::CALICO, Kinds::CLUSTER];
    let app = ["a", "b", "n1", "hep"];
    let selector = Selector::Is(Attribute::Label("app".into()), (*dice.pick(&app)).into());
    let networks = ["192.0.2.0/24", "192.0.2.9/32", "10.9.0.0/31", "2001:db8::/64", "fd00::1/128", "::/0"];
    match dice.below(7) {
        0 | 1 => Peer::Anything,
        2 | 3 => Peer::Labelled { kinds: *dice.pick(&kinds), selector },
        4 => Peer::Labelled { kinds: *dice.pick(&kinds), selector }.negated(),
        _ => Peer::Networks((0..=dice.below(2)).map(|_| dice.pick(&networks).parse().unwrap()).collect()),
    }
}

fn rules(dice: &mut Dice) -> Option<Rules> {
    if dice.once_in(3) {
        return None;
    }
    let rule = |dice: &mut Dice, index: usize| {
        let ports = Ports { ranges: vec![PortRange::one(*dice.pick(&[80, 81]))], ..Ports::default() };
        let traffic = if dice.once_in(2) { Traffic::any() } else { Traffic::to_ports(Protocol::UDP, ports) };
        Rule {
            source: peer(dice),
            destination: peer(dice),
            traffic: vec![traffic],
            ..Rule::new(
                format!("spec.rules[{index}]"),
                *dice.pick(&[Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log]),
            )
        }
    };
    Some(Rules { rules: (0..dice.below(4)).map(|index| rule(dice, index)).collect(), isolates: dice.once_in(2) })
}

fn random(dice: &mut Dice, number: usize) -> Policy {
    let hosts = Kinds::of(WorkloadKind::HostEndpoint);
    let kinds = *dice.pick(&[hosts, hosts, hosts.and(WorkloadKind::Pod), Kinds::NODES, Kinds::PODS]);
    let (ingress, egress) = (rules(dice), rules(dice));
    let order = Order::at(i32::try_from(dice.below(3)).unwrap());
    let before_nat = kinds == hosts && dice.once_in(3);
    let (stage, egress) = if before_nat { (Stage::BeforeNat, None) } else { (Stage::Tracked, egress) };
    Policy { order, stage, ..policy(&format!("p{number}"), kinds, ingress, egress) }
}

/// Whether a datagram comes back: of one that should, on a busy machine, perhaps the next.
fn comes_back(from: &Host, to: IpAddr, port: u16, should: bool) -> bool {
    if should { (0..10).any(|_| one_comes_back(from, to, port)) } else { one_comes_back(from, to, port) }
}

fn one_comes_back(from: &Host, to: IpAddr, port: u16) -> bool {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.netns.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(80))).unwrap();
    socket.send_to(b"x", SocketAddr::new(to, port)).is_ok() && socket.recv(&mut [0; 8]).is_ok()
}

#[test]
fn what_the_evaluator_says_of_the_node_is_what_the_kernel_does() {
    let mut cluster = Cluster::new();
    let mut dice = Dice::new(11);
    let mut counts = [0, 0];
    for _ in 0..ROUNDS {
        cluster.remove_host_endpoints();
        cluster.remove_policies();
        let addresses = cluster.node.node.addresses;
        let interfaces = [HostInterfaces::All, HostInterfaces::Named("eth0".into()), HostInterfaces::ByAddress];
        if !dice.once_in(4) {
            let (interfaces, open) = (dice.pick(&interfaces).clone(), dice.once_in(2));
            cluster.put(host_endpoint("hep", interfaces, open, &addresses));
        }
        for number in 0..1 + dice.below(4) {
            cluster.put_policy(random(&mut dice, number));
        }
        cluster.commit();
        let evaluator = Evaluator::new(&cluster.world);
        let node = &cluster.node;
        for (from, to) in [
            (&node.outside, &node.node),
            (&node.node, &node.outside),
            (&node.a, &node.node),
            (&node.node, &node.b),
            (&node.node, &node.node),
            (&node.a, &node.b),
        ] {
            for (family, port) in [(0, 80), (0, 81), (1, 80), (1, 81)] {
                let (source, destination) = (from.addresses[family], to.addresses[family]);
                let parties = (Party::Address(source), Party::Address(destination));
                let connection = Connection::new(parties.0, parties.1, Protocol::UDP, port);
                let outcome = evaluator.explain(&connection).unwrap();
                let seen = comes_back(from, destination, port, outcome.allowed());
                let table = || node.nft("list table inet cnidarian");
                assert_eq!(outcome.allowed(), seen, "{source} {destination} {port} {outcome:#?}\n{}", table());
                counts[usize::from(seen)] += 1;
            }
        }
    }
    let [denied, allowed] = counts;
    assert!(denied > 50 && allowed > 50, "a fair mixture: {denied} denied, {allowed} allowed");
}
