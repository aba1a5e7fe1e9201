//! Short ways to write items. Never the engine.

use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, Member, PolicyItem, ProgramRule, Set, SetId, SetKind,
    SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use std::net::IpAddr;

pub(crate) fn chain_id(name: &str, direction: Direction) -> ChainId {
    let kind = Kind::new("networking.k8s.io/v1", "NetworkPolicy");
    ChainId { policy: PolicyId { object: ObjectKey::namespaced(kind, "shop", name), part: 0 }, direction }
}

pub(crate) fn rule(path: &str, action: Action, clauses: Vec<Clause>) -> ProgramRule {
    ProgramRule { path: path.into(), action, clauses, unenforceable: None }
}

pub(crate) fn chain(id: &ChainId, rules: Vec<(Action, Vec<Clause>)>) -> PolicyItem {
    let rules = rules.into_iter().enumerate();
    let rules = rules.map(|(index, (action, clauses))| rule(&format!("spec.rules[{index}]"), action, clauses));
    PolicyItem::Chain(Chain { id: id.clone(), stage: Stage::Tracked, rules: rules.collect() })
}

pub(crate) fn set(id: &str, kind: SetKind) -> Set {
    Set { id: SetId(id.into()), kind }
}

pub(crate) fn addresses(id: &str, family: Family) -> Set {
    set(id, SetKind::Addresses(family))
}

pub(crate) fn member(set: &Set, address: &str) -> PolicyItem {
    PolicyItem::Member(set.clone(), Member::Address(address.parse().unwrap()))
}

pub(crate) fn network(set: &Set, prefix: &str) -> PolicyItem {
    PolicyItem::Member(set.clone(), Member::Network(prefix.parse().unwrap()))
}

pub(crate) fn named(set: &Set, address: &str, protocol: Protocol, port: u16) -> PolicyItem {
    PolicyItem::Member(set.clone(), Member::AddressPort(address.parse().unwrap(), protocol, port))
}

pub(crate) fn within(side: Side, set: &Set) -> Clause {
    Clause { sets: vec![SetMatch { side, set: set.clone(), negated: false }], ..Clause::default() }
}

pub(crate) fn port(protocol: Protocol, port: u16) -> Clause {
    Clause { protocol: Some(protocol), destination_ports: Some(vec![PortRange::one(port)]), ..Clause::default() }
}

pub(crate) fn tier(name: &str, chains: &[&ChainId], end: TierEnd) -> TierProgram {
    TierProgram { tier: name.into(), chains: chains.iter().map(|id| (*id).clone()).collect(), end }
}

pub(crate) fn direction(tiers: Vec<TierProgram>) -> DirectionProgram {
    DirectionProgram { enforced: tiers, staged: None }
}

pub(crate) fn endpoint(container: &str, interface: &str, addresses: &[IpAddr]) -> EndpointProgram {
    EndpointProgram {
        endpoint: EndpointId::of(container, "eth0").unwrap(),
        host_interface: InterfaceName::new(interface).unwrap(),
        addresses: addresses.to_vec(),
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
    }
}
