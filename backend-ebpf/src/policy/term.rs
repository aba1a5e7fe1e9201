//! Clauses as terms: a condition on the peer, one on protocol and ports, one on the source port, each apart. Never a verdict.
//!
//! A clause is one term, but where it looks the peer up with its port (named ports): then it is one for each port that the
//! set has, so that no condition needs peer and port at once.

use super::atom::Atom;
use super::source::Source;
use cni_core::policy::model::{Family, Icmp, PortRange, Protocol};
use cni_core::policy::program::{Clause, SetKind, SetMatch};
use std::collections::BTreeSet;

/// Protocols with ports, see [`Protocol::has_ports`].
pub(super) const PORTED: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDP_LITE];
/// Protocols with messages.
pub(super) const MESSAGES: [Protocol; 2] = [Protocol::ICMP, Protocol::ICMPV6];

/// A conjunction of three conditions that do not know of each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Term {
    /// What must hold of the peer's address, and what must not.
    pub(super) peer: Vec<(Atom, bool)>,
    pub(super) traffic: Traffic,
    pub(super) source: SourcePorts,
}

/// A condition on protocol, destination port and message.
#[derive(Debug, Clone, Default)]
pub(super) struct Traffic {
    pub(super) protocol: Option<Protocol>,
    pub(super) not_protocol: Option<Protocol>,
    /// A protocol with ports.
    pub(super) ported: bool,
    /// A protocol with messages.
    pub(super) messages: bool,
    pub(super) ports: Option<Vec<PortRange>>,
    pub(super) not_ports: Vec<PortRange>,
    pub(super) icmp: Option<Icmp>,
    pub(super) not_icmp: Option<Icmp>,
    /// In each of these.
    pub(super) only: Vec<BTreeSet<(Protocol, u16)>>,
    /// In none of these.
    pub(super) never: Vec<BTreeSet<(Protocol, u16)>>,
}

/// A condition on the source port.
#[derive(Debug, Clone, Default)]
pub(super) struct SourcePorts {
    pub(super) ports: Option<Vec<PortRange>>,
    pub(super) not_ports: Vec<PortRange>,
}

impl Term {
    /// The terms of a clause: it holds where one of them does.
    pub(super) fn of(clause: &Clause, source: &Source) -> Vec<Self> {
        if !families(clause).all(|family| family == source.family) {
            return Vec::new();
        }
        let ports =
            [&clause.source_ports, &clause.not_source_ports, &clause.destination_ports, &clause.not_destination_ports];
        let mut term = Self {
            peer: clause.own_node.map(|wanted| (Atom::OwnNode, wanted)).into_iter().collect(),
            traffic: Traffic {
                protocol: clause.protocol,
                not_protocol: clause.not_protocol,
                ported: ports.iter().any(|ports| ports.is_some()),
                messages: clause.icmp.is_some() || clause.not_icmp.is_some(),
                ports: clause.destination_ports.clone(),
                not_ports: clause.not_destination_ports.clone().unwrap_or_default(),
                icmp: clause.icmp,
                not_icmp: clause.not_icmp,
                ..Traffic::default()
            },
            source: SourcePorts {
                ports: clause.source_ports.clone(),
                not_ports: clause.not_source_ports.clone().unwrap_or_default(),
            },
        };
        for lookup in clause.sets.iter().filter(|lookup| !source.is_peer(lookup.side)) {
            if !term.know_own(lookup, source) {
                return Vec::new();
            }
        }
        let mut terms = vec![term];
        for lookup in clause.sets.iter().filter(|lookup| source.is_peer(lookup.side)) {
            terms = terms.into_iter().flat_map(|term| term.ask_peer(lookup, source)).collect();
        }
        terms
    }

    /// Takes in what is known of the endpoint's own address; `false`: the term never holds.
    fn know_own(&mut self, SetMatch { set, negated, .. }: &SetMatch, source: &Source) -> bool {
        if let SetKind::AddressPorts(_) = set.kind {
            let pairs = source.own.iter().filter_map(|atom| match atom {
                Atom::Port(id, protocol, port) if *id == set.id => Some((*protocol, *port)),
                _ => None,
            });
            if *negated { &mut self.traffic.never } else { &mut self.traffic.only }.push(pairs.collect());
            return true;
        }
        source.own.contains(&Atom::Set(set.id.clone())) != *negated
    }

    fn ask_peer(mut self, SetMatch { set, negated, .. }: &SetMatch, source: &Source) -> Vec<Self> {
        let SetKind::AddressPorts(_) = set.kind else {
            self.peer.push((Atom::Set(set.id.clone()), !negated));
            return vec![self];
        };
        let pairs = source.ports.get(&set.id).cloned().unwrap_or_default();
        let each = pairs.iter().map(|(protocol, port)| {
            let mut term = self.clone();
            term.peer.push((Atom::Port(set.id.clone(), *protocol, *port), !negated));
            term.traffic.only.push([(*protocol, *port)].into());
            term
        });
        let mut terms: Vec<Self> = each.collect();
        if *negated {
            self.traffic.never.push(pairs);
            terms.push(self);
        }
        terms
    }

    /// Whether the condition on the peer holds.
    pub(super) fn admits(&self, peer: &BTreeSet<Atom>) -> bool {
        self.peer.iter().all(|(atom, wanted)| peer.contains(atom) == *wanted)
    }
}

impl Traffic {
    /// Whether it holds of a protocol and a destination port, or a message.
    pub(super) fn holds(&self, protocol: Protocol, detail: u16) -> bool {
        let (ported, messages) = (protocol.has_ports(), MESSAGES.contains(&protocol));
        let is = |message: &Icmp| {
            let [kind, code] = detail.to_be_bytes();
            message.kind == kind && message.code.is_none_or(|wanted| wanted == code)
        };
        let pair = (protocol, detail);
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.not_protocol.is_none_or(|unwanted| unwanted != protocol)
            && (ported || !self.ported)
            && (messages || !self.messages)
            && self.ports.as_ref().is_none_or(|ranges| has(ranges, detail))
            && !has(&self.not_ports, detail)
            && self.icmp.as_ref().is_none_or(is)
            && !self.not_icmp.as_ref().is_some_and(is)
            && self.only.iter().all(|pairs| ported && pairs.contains(&pair))
            && !self.never.iter().any(|pairs| ported && pairs.contains(&pair))
    }

    /// Protocols that it tells apart from others.
    pub(super) fn protocols(&self) -> impl Iterator<Item = Protocol> {
        let pairs = self.only.iter().chain(&self.never).flatten().map(|(protocol, _)| *protocol);
        self.protocol.into_iter().chain(self.not_protocol).chain(pairs)
    }
}

impl SourcePorts {
    /// Whether it holds.
    pub(super) fn holds(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ranges| has(ranges, port)) && !has(&self.not_ports, port)
    }
}

fn has(ranges: &[PortRange], port: u16) -> bool {
    ranges.iter().any(|range| range.has(port))
}

/// All families that a clause wants; with two it holds never.
fn families(clause: &Clause) -> impl Iterator<Item = Family> {
    let of_sets = clause.sets.iter().map(|lookup| match lookup.set.kind {
        SetKind::Addresses(family) | SetKind::Networks(family) | SetKind::AddressPorts(family) => family,
    });
    of_sets.chain(clause.family)
}
