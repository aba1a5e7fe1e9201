//! Random tiers, policies and rules, of everything that the model can say. Never only what one dialect can.

use super::random::{family, network, selector};
use crate::policy::model::{
    Action, DnsPattern, Icmp, Kinds, Layer7, Mode, Order, Peer, Policy, PolicyId, PortRange, Ports, Protocol, Rule,
    Rules, Selector, Stage, Subject, Tier, TierEnd, Traffic, WorkloadKind,
};
use crate::store::{Kind, ObjectKey};
use crate::testkit::dice::Dice;
use std::sync::Arc;

/// Ports that rules and connections name.
pub(super) const PORTS: [u16; 7] = [53, 80, 81, 443, 5353, 8080, 40_000];

/// Protocols that rules and connections name.
pub(super) const PROTOCOLS: [Protocol; 7] =
    [Protocol::TCP, Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)];

/// Tiers beside the built-in ones.
const TIERS: [&str; 2] = ["security", "platform"];

pub(super) fn tier(dice: &mut Dice) -> Tier {
    let end = if dice.once_in(2) { TierEnd::Deny } else { TierEnd::Pass };
    // Around the built-in ones, and sometimes in one place.
    let order = Order::at(*dice.pick(&[500, 1_000, 1_000_000, 20_000_000]));
    Tier { name: Arc::from(*dice.pick(&TIERS)), order, end }
}

/// A policy in one of the built-in tiers or of `tiers`.
pub(super) fn policy(dice: &mut Dice, number: usize, tiers: &[Arc<str>]) -> Policy {
    let object =
        ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", &format!("p{number}"));
    let id = PolicyId { object, part: u16::try_from(dice.below(2)).unwrap_or(0) };
    let built_in = [Tier::ADMIN, Tier::DEFAULT, Tier::DEFAULT, Tier::BASELINE];
    let tier = if dice.once_in(2) { Arc::from(*dice.pick(&built_in)) } else { dice.pick(tiers).clone() };
    let kinds = match dice.below(8) {
        0 => Kinds::NODES,
        1 => Kinds::of(WorkloadKind::HostEndpoint),
        2 => Kinds::CALICO,
        _ => Kinds::PODS,
    };
    let early = kinds == Kinds::of(WorkloadKind::HostEndpoint) && dice.once_in(2);
    let stage = if early { *dice.pick(&[Stage::Untracked, Stage::BeforeNat]) } else { Stage::Tracked };
    let direction = |dice: &mut Dice, there: bool| {
        there.then(|| Rules {
            rules: (0..dice.below(5)).map(|index| rule(dice, index)).collect(),
            isolates: dice.once_in(2),
        })
    };
    let which = dice.below(3);
    Policy {
        id,
        tier,
        order: *dice.pick(&[Order::FIRST, Order::at(1), Order::at(1), Order::at(2), Order::LAST]),
        subject: Subject { kinds, selector: selector(dice, 1) },
        ingress: direction(dice, which != 0),
        egress: direction(dice, which != 1 && stage != Stage::BeforeNat),
        mode: if dice.once_in(6) { Mode::Staged } else { Mode::Enforced },
        stage,
        on_forward: dice.once_in(4),
    }
}

fn rule(dice: &mut Dice, index: usize) -> Rule {
    use Action::{Allow, Deny, Log, Pass};
    let traffic = match dice.below(5) {
        0 | 1 => vec![Traffic::any()],
        _ => (0..dice.below(4)).map(|_| traffic(dice)).collect(),
    };
    let layer7 = dice.once_in(30).then(|| Layer7::Other("kafka".into()));
    // One end is usually open, as in most dialects.
    let open = dice.below(5);
    Rule {
        path: format!("spec.rules[{index}]").into(),
        name: None,
        action: *dice.pick(&[Allow, Allow, Deny, Pass, Log]),
        source: if open < 2 { Peer::Anything } else { peer(dice, 2) },
        destination: if (2..4).contains(&open) { Peer::Anything } else { peer(dice, 2) },
        traffic,
        layer7,
    }
}

fn peer(dice: &mut Dice, depth: usize) -> Peer {
    use WorkloadKind::{CidrGroup, HostEndpoint, NetworkSet, Service};
    let several = |dice: &mut Dice| (0..dice.below(4)).map(|_| peer(dice, depth - 1)).collect();
    let mixed = Kinds::CLUSTER.and(CidrGroup).and(Service);
    let kinds = [
        Kinds::PODS,
        Kinds::PODS,
        Kinds::NODES,
        Kinds::CLUSTER,
        Kinds::CALICO,
        mixed,
        Kinds::of(NetworkSet),
        Kinds::of(HostEndpoint),
    ];
    match dice.below(if depth == 0 { 13 } else { 20 }) {
        0 => Peer::Anything,
        1 => {
            if dice.once_in(3) {
                Peer::Nothing
            } else {
                Peer::OwnNode
            }
        }
        2..8 => Peer::Labelled { kinds: *dice.pick(&kinds), selector: selector(dice, 1) },
        8..12 => Peer::Networks((0..dice.below(4)).map(|_| network(dice)).collect()),
        12 => match dice.below(6) {
            0 => Peer::Names(vec![DnsPattern::Name("example.com".into())]),
            1..3 => Peer::outside(vec![network(dice)]),
            _ => Peer::Labelled { kinds: Kinds::PODS, selector: Selector::Everything },
        },
        13 | 14 => Peer::Not(Box::new(peer(dice, depth - 1))),
        15..18 => Peer::AllOf(several(dice)),
        _ => Peer::AnyOf(several(dice)),
    }
}

fn ports(dice: &mut Dice) -> Ports {
    let range = |dice: &mut Dice| {
        let first = *dice.pick(&PORTS);
        PortRange { first, last: if dice.once_in(3) { first + 400 } else { first } }
    };
    Ports {
        ranges: (0..dice.below(3)).map(|_| range(dice)).collect(),
        names: (0..dice.below(3)).map(|_| Arc::from(*dice.pick(&["http", "dns"]))).collect(),
    }
}

pub(super) fn icmp(dice: &mut Dice) -> Icmp {
    let code = if dice.once_in(2) { None } else { Some(*dice.pick(&[0, 1])) };
    Icmp { kind: *dice.pick(&[0, 8, 128]), code }
}

fn traffic(dice: &mut Dice) -> Traffic {
    let protocol = *dice.pick(&PROTOCOLS);
    let base = match dice.below(8) {
        0 => Traffic::any(),
        1 => Traffic { not_protocol: Some(protocol), ..Traffic::any() },
        _ => Traffic::of(protocol),
    };
    let base = Traffic { family: dice.once_in(5).then(|| family(dice)), ..base };
    match dice.below(10) {
        0..2 => base,
        2..5 => Traffic { destination_ports: Some(ports(dice)), ..base },
        5..8 => Traffic { not_destination_ports: Some(ports(dice)), ..base },
        8 => Traffic {
            source_ports: dice.once_in(2).then(|| ports(dice)),
            not_source_ports: dice.once_in(2).then(|| ports(dice)),
            destination_ports: dice.once_in(3).then(|| ports(dice)),
            ..base
        },
        _ => Traffic {
            protocol: base.protocol.map(|_| *dice.pick(&[Protocol::ICMP, Protocol::ICMPV6])),
            icmp: dice.once_in(2).then(|| icmp(dice)),
            not_icmp: dice.once_in(2).then(|| icmp(dice)),
            ..base
        },
    }
}
