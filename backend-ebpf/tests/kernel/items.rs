//! Short ways to write items, and states of them. Never the engine.

use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, Icmp, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    BothWays, Chain, ChainId, Clause, DirectionProgram, EndpointProgram, HostEndpointProgram, HostInterface,
    HostProgram, Member, PolicyItem, ProgramRule, Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::IpAddr;

pub(crate) const ONE: &str = "cni000000000001";
pub(crate) const TWO: &str = "cni000000000002";

pub(crate) fn chain_id(name: &str, direction: Direction) -> ChainId {
    let kind = Kind::new("networking.k8s.io/v1", "NetworkPolicy");
    ChainId { policy: PolicyId { object: ObjectKey::namespaced(kind, "shop", name), part: 0 }, direction }
}

pub(crate) fn chain(id: &ChainId, rules: Vec<(Action, Vec<Clause>)>) -> PolicyItem {
    let rule = |(index, (action, clauses))| ProgramRule {
        path: format!("spec.rules[{index}]").into(),
        action,
        clauses,
        unenforceable: None,
    };
    let rules = rules.into_iter().enumerate().map(rule).collect();
    PolicyItem::Chain(Chain { id: id.clone(), stage: Stage::Tracked, rules })
}

pub(crate) fn set(id: &str, kind: SetKind) -> Set {
    Set { id: SetId(id.into()), kind }
}

pub(crate) fn member(set: &Set, address: &str) -> PolicyItem {
    PolicyItem::Member(set.clone(), Member::Address(address.parse().unwrap()))
}

pub(crate) fn within(side: Side, set: &Set) -> Clause {
    Clause { sets: vec![SetMatch { side, set: set.clone(), negated: false }], ..Clause::default() }
}

pub(crate) fn port(protocol: Protocol, port: u16) -> Clause {
    Clause { protocol: Some(protocol), destination_ports: Some(vec![PortRange::one(port)]), ..Clause::default() }
}

pub(crate) fn walk(chains: &[&ChainId]) -> DirectionProgram {
    let tier = TierProgram {
        tier: "default".into(),
        chains: chains.iter().map(|id| (*id).clone()).collect(),
        end: TierEnd::Deny,
    };
    DirectionProgram { enforced: vec![tier], staged: None }
}

pub(crate) fn endpoint(container: &str, interface: &str, addresses: &[&str]) -> EndpointProgram {
    EndpointProgram {
        endpoint: EndpointId::of(container, "eth0").unwrap(),
        host_interface: InterfaceName::new(interface).unwrap(),
        addresses: addresses.iter().map(|address| address.parse::<IpAddr>().unwrap()).collect(),
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
    }
}

/// A program of the node itself: what comes to it by some interfaces.
pub(crate) fn host(interface: HostInterface, ingress: DirectionProgram) -> PolicyItem {
    let endpoint = HostEndpointProgram {
        name: "hep".into(),
        interface,
        local: BothWays { ingress, egress: DirectionProgram::default() },
        forwarded: BothWays::default(),
        untracked: BothWays::default(),
        before_nat: DirectionProgram::default(),
    };
    PolicyItem::Host(HostProgram { endpoints: vec![endpoint] })
}

/// States that change, share and drop every kind of item, with items that cannot be enforced among them.
pub(crate) fn states() -> Vec<Vec<PolicyItem>> {
    let (web, all) = (chain_id("web", Direction::Ingress), chain_id("all", Direction::Egress));
    let (v4, v6) = (set("a1", SetKind::Addresses(Family::V4)), set("a2", SetKind::Addresses(Family::V6)));
    let nets = set("b2", SetKind::Networks(Family::V4));
    let http = set("c3", SetKind::AddressPorts(Family::V4));
    let sets = [&v4, &v6, &nets, &http].map(|set| PolicyItem::Set(set.clone()));
    let named = Member::AddressPort("10.9.0.1".parse().unwrap(), Protocol::TCP, 8080);
    let members = [
        member(&v4, "10.9.0.2"),
        member(&v4, "10.9.0.3"),
        member(&v6, "fd00::2"),
        PolicyItem::Member(nets.clone(), Member::Network("10.0.0.0/8".parse().unwrap())),
        PolicyItem::Member(http.clone(), named),
    ];
    let not_in =
        Clause { sets: vec![SetMatch { side: Side::Source, set: nets.clone(), negated: true }], ..Clause::default() };
    let echo =
        Clause { icmp: Some(Icmp { kind: 8, code: Some(0) }), protocol: Some(Protocol::ICMP), ..Clause::default() };
    let web_rules = vec![
        (Action::Log, vec![Clause::default()]),
        (Action::Allow, vec![within(Side::Source, &v4), within(Side::Source, &v6), not_in]),
        (Action::Allow, vec![within(Side::Destination, &http)]),
        (Action::Deny, vec![echo]),
        (Action::Pass, vec![port(Protocol::UDP, 53)]),
    ];
    let web_short = vec![(Action::Allow, vec![port(Protocol::TCP, 80)]), (Action::Deny, vec![Clause::default()])];
    let all_rules = vec![(Action::Allow, vec![Clause { own_node: Some(true), ..Clause::default() }])];
    let mut one = endpoint("c1", ONE, &["10.9.0.1", "fd00::1"]);
    let two = endpoint("c2", TWO, &["10.9.0.2"]);
    (one.ingress, one.egress) = (walk(&[&web]), walk(&[&all]));
    let mut staged = one.clone();
    staged.ingress.staged = Some(walk(&[&web, &web]).enforced);
    staged.addresses.truncate(1);
    let mut closed = two.clone();
    closed.ingress = walk(&[&chain_id("nowhere", Direction::Ingress)]);
    let mut foreign = two.clone();
    foreign.host_interface = InterfaceName::new("eth7").unwrap();
    let mut first = sets.to_vec();
    first.extend(members);
    first.extend([chain(&web, web_rules), chain(&all, all_rules)]);
    let mut second = first.clone();
    first.extend([PolicyItem::Endpoint(one), PolicyItem::Endpoint(two.clone())]);
    second.extend([
        PolicyItem::Endpoint(staged),
        PolicyItem::Endpoint(closed),
        host(HostInterface::Others, walk(&[&web])),
    ]);
    let third = vec![
        PolicyItem::Set(v4.clone()),
        member(&v4, "10.9.0.3"),
        member(&v4, "10.9.0.4"),
        member(&v4, "fd00::3"),
        chain(&web, web_short),
        PolicyItem::Endpoint(foreign),
    ];
    let mut fourth = vec![PolicyItem::Set(v4), PolicyItem::Endpoint(two)];
    first.push(host(HostInterface::Pods, walk(&[])));
    fourth.push(host(HostInterface::Named(InterfaceName::new("two").unwrap()), walk(&[])));
    vec![first, second, third, fourth]
}
