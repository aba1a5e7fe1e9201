//! What an engine of policies must do with its items, on a packet. Never fast: it is what engines are compared with, and
//! what the compiler is compared with the evaluator by.

use crate::backend::{Change, Item};
use crate::model::EndpointId;
use crate::policy::evaluate::Verdict;
use crate::policy::failsafe::Failsafe;
use crate::policy::model::{Action, Direction, Family, Icmp, PortRange, Protocol, TierEnd};
use crate::policy::program::{
    BothWays, Clause, DirectionProgram, EndpointProgram, HostEndpointProgram, HostInterface, Member, PolicyChange,
    PolicyItem, PolicyKey, Set, SetKind, SetMatch, Side, TierProgram,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The first packet of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// From where.
    pub source: IpAddr,
    /// To where, an address of the same family.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// For protocols with ports; `None`: one that no rule names.
    pub source_port: Option<u16>,
    /// For protocols with ports.
    pub destination_port: Option<u16>,
    /// For ICMP and ICMPv6.
    pub icmp: Option<Icmp>,
    /// Whether the end that is not the endpoint is the endpoint's own node.
    pub own_node: bool,
}

/// All items that an engine was told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items(pub BTreeMap<PolicyKey, PolicyItem>);

impl Items {
    /// Takes a change in; `false` when it changes nothing.
    pub fn apply(&mut self, change: PolicyChange) -> bool {
        match change {
            Change::Put(item) => {
                let key = item.key();
                let is_new = self.0.get(&key) != Some(&item);
                self.0.insert(key, item);
                is_new
            }
            Change::Remove(key) => self.0.remove(&key).is_some(),
            Change::Node(_) | Change::Config(_) | Change::InSync => false,
        }
    }

    /// Items that are used and not there: the user and what it uses.
    #[must_use]
    pub fn dangling(&self) -> Vec<(PolicyKey, PolicyKey)> {
        let uses = |item: &PolicyItem| -> Vec<PolicyKey> {
            match item {
                PolicyItem::Set(_) => Vec::new(),
                PolicyItem::Member(set, _) => vec![PolicyKey::Set(set.id.clone())],
                PolicyItem::Chain(chain) => {
                    let clauses = chain.rules.iter().flat_map(|rule| &rule.clauses);
                    let sets = clauses.flat_map(|clause| &clause.sets);
                    sets.map(|lookup| PolicyKey::Set(lookup.set.id.clone())).collect()
                }
                PolicyItem::Endpoint(program) => chains([&program.ingress, &program.egress].into_iter()),
                PolicyItem::Host(program) => chains(program.endpoints.iter().flat_map(HostEndpointProgram::directions)),
            }
        };
        let pairs = self.0.iter().flat_map(|(key, item)| uses(item).into_iter().map(move |used| (key.clone(), used)));
        pairs.filter(|(_, used)| !self.0.contains_key(used)).collect()
    }

    /// What an endpoint's program says, and what it would say were staged policies enforced. `None` without a program.
    #[must_use]
    pub fn decide(
        &self,
        endpoint: &EndpointId,
        direction: Direction,
        packet: &Packet,
    ) -> Option<(Verdict, Option<Verdict>)> {
        let PolicyItem::Endpoint(program) = self.0.get(&PolicyKey::Endpoint(endpoint.clone()))? else { return None };
        if exempt(program, direction, packet) {
            return Some((Verdict::Allow, None));
        }
        let DirectionProgram { enforced, staged } = match direction {
            Direction::Ingress => &program.ingress,
            Direction::Egress => &program.egress,
        };
        let walk = |tiers: &[TierProgram]| self.walk(tiers, direction, packet).unwrap_or(Verdict::Allow);
        Some((walk(enforced), staged.as_deref().map(walk)))
    }

    /// What the node's program says of a packet between the node itself and somebody else, and what it would say were staged
    /// policies enforced. A packet of the node's is never its own node's for the program.
    #[must_use]
    pub fn decide_at_host(
        &self,
        interface: &HostInterface,
        direction: Direction,
        packet: &Packet,
    ) -> (Verdict, Option<Verdict>) {
        let Some(PolicyItem::Host(program)) = self.0.get(&PolicyKey::Host) else { return (Verdict::Allow, None) };
        let of = |wanted: &HostInterface| program.endpoints.iter().find(|endpoint| endpoint.interface == *wanted);
        let others = || of(&HostInterface::Others).filter(|_| *interface != HostInterface::Pods);
        let Some(endpoint) = of(interface).or_else(others) else { return (Verdict::Allow, None) };
        let way = |both: &'_ BothWays| match direction {
            Direction::Ingress => both.ingress.clone(),
            Direction::Egress => both.egress.clone(),
        };
        let before_nat = match direction {
            Direction::Ingress => endpoint.before_nat.clone(),
            Direction::Egress => DirectionProgram::default(),
        };
        let parts = [way(&endpoint.untracked), before_nat, way(&endpoint.local)];
        let packet = Packet { own_node: false, ..packet.clone() };
        let walk = |with_staged: bool| {
            let tiers = |part: &DirectionProgram| match &part.staged {
                Some(staged) if with_staged => staged.clone(),
                _ => part.enforced.clone(),
            };
            let early = |part: &&DirectionProgram| !self.is_failsafe(&tiers(part), &packet);
            let decided = parts[..2].iter().filter(early).find_map(|part| self.walk(&tiers(part), direction, &packet));
            decided.or_else(|| self.walk(&tiers(&parts[2]), direction, &packet)).unwrap_or(Verdict::Allow)
        };
        // What a failsafe keeps out of a stage is not asked there, staged or not.
        let is_asked = |tiers: &Vec<TierProgram>| !self.is_failsafe(tiers, &packet);
        let staged = parts[..2].iter().filter_map(|part| part.staged.as_ref().filter(|tiers| is_asked(tiers)));
        let any = staged.chain(&parts[2].staged).next().is_some();
        (walk(false), any.then(|| walk(true)))
    }

    /// What a failsafe keeps open in an early stage is not decided there.
    fn is_failsafe(&self, tiers: &[TierProgram], packet: &Packet) -> bool {
        let first = tiers.first().filter(|tier| *tier.tier == *Failsafe::TIER);
        first.is_some_and(|tier| self.first_match(tier, packet).is_some())
    }

    /// `None`: nothing decides.
    fn walk(&self, tiers: &[TierProgram], direction: Direction, packet: &Packet) -> Option<Verdict> {
        for tier in tiers {
            match self.first_match(tier, packet) {
                Some(Action::Allow) => return Some(Verdict::Allow),
                Some(Action::Deny) => return Some(Verdict::Deny),
                Some(Action::Pass) => {}
                // Isolation alone does not keep a pod from its own node; a rule of a later tier may.
                None | Some(Action::Log) => match (tier.end, direction, packet.own_node) {
                    (TierEnd::Pass, _, _) | (TierEnd::Deny, Direction::Egress, true) => {}
                    (TierEnd::Deny, _, _) => return Some(Verdict::Deny),
                },
            }
        }
        None
    }

    fn first_match(&self, tier: &TierProgram, packet: &Packet) -> Option<Action> {
        let chains = tier.chains.iter().filter_map(|chain| self.0.get(&PolicyKey::Chain(chain.clone())));
        let rules = chains.flat_map(|item| if let PolicyItem::Chain(chain) = item { &*chain.rules } else { &[] });
        let mut matching = rules.filter(|rule| rule.clauses.iter().any(|clause| self.holds(clause, packet)));
        matching.find(|rule| rule.action != Action::Log).map(|rule| rule.action)
    }

    fn holds(&self, clause: &Clause, packet: &Packet) -> bool {
        let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
        let protocol = packet.protocol;
        let in_ranges = |ranges: &Vec<PortRange>, port: Option<u16>| {
            port.is_some_and(|port| ranges.iter().any(|range| range.has(port)))
        };
        let ports = |ranges: &Option<Vec<PortRange>>, port, wanted| {
            ranges.as_ref().is_none_or(|ranges| protocol.has_ports() && in_ranges(ranges, port) == wanted)
        };
        let is_icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
        let message = |message: &Option<Icmp>, wanted| {
            message.is_none_or(|message| {
                let is =
                    |found: Icmp| found.kind == message.kind && (message.code.is_none() || found.code == message.code);
                is_icmp && packet.icmp.is_some_and(is) == wanted
            })
        };
        clause.family.is_none_or(|wanted| wanted == family)
            && clause.sets.iter().all(|lookup| self.finds(lookup, packet) != lookup.negated)
            && clause.own_node.is_none_or(|wanted| wanted == packet.own_node)
            && clause.protocol.is_none_or(|wanted| wanted == protocol)
            && clause.not_protocol.is_none_or(|unwanted| unwanted != protocol)
            && ports(&clause.source_ports, packet.source_port, true)
            && ports(&clause.not_source_ports, packet.source_port, false)
            && ports(&clause.destination_ports, packet.destination_port, true)
            && ports(&clause.not_destination_ports, packet.destination_port, false)
            && message(&clause.icmp, true)
            && message(&clause.not_icmp, false)
    }

    fn finds(&self, SetMatch { side, set, .. }: &SetMatch, packet: &Packet) -> bool {
        let address = match side {
            Side::Source => packet.source,
            Side::Destination => packet.destination,
        };
        let has = |member: Member| self.0.contains_key(&PolicyKey::Member(set.id.clone(), member));
        match set.kind {
            SetKind::Addresses(_) => has(Member::Address(address)),
            SetKind::AddressPorts(_) => {
                let port = packet.destination_port;
                port.is_some_and(|port| has(Member::AddressPort(address, packet.protocol, port)))
            }
            SetKind::Networks(_) => self.members(set).any(|member| match member {
                Member::Network(network) => network.contains(&address),
                _ => false,
            }),
        }
    }

    /// The members of a set.
    pub fn members(&self, set: &Set) -> impl Iterator<Item = &Member> {
        let first = PolicyKey::Member(set.id.clone(), Member::Address(IpAddr::from([0, 0, 0, 0])));
        let of_set = self.0.range(first..).take_while(move |(key, _)| match key {
            PolicyKey::Member(id, _) => *id == set.id,
            _ => false,
        });
        of_set.filter_map(|(key, _)| if let PolicyKey::Member(_, member) = key { Some(member) } else { None })
    }
}

/// The chains that programs call.
fn chains<'p>(directions: impl Iterator<Item = &'p DirectionProgram>) -> Vec<PolicyKey> {
    let tiers = directions.flat_map(|direction| direction.enforced.iter().chain(direction.staged.iter().flatten()));
    tiers.flat_map(|tier| &tier.chains).map(|chain| PolicyKey::Chain(chain.clone())).collect()
}

/// A pod always reaches itself, and its own node always reaches it.
fn exempt(program: &EndpointProgram, direction: Direction, packet: &Packet) -> bool {
    let other = match direction {
        Direction::Ingress => packet.source,
        Direction::Egress => packet.destination,
    };
    program.addresses.contains(&other) || (direction == Direction::Ingress && packet.own_node)
}
