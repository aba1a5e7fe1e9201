//! What traffic a rule is about, as the fewest conjunctions. Never an address: names of ports are left to the sets.

use crate::policy::model::{PortRange, Ports, Protocol, Traffic};
use crate::policy::program::Clause;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names of ports, each of one protocol or (`None`) of any.
pub(super) type PortNames = BTreeSet<(Arc<str>, Option<Protocol>)>;

/// One conjunction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Alternative {
    /// Everything but sets.
    pub(super) clause: Clause,
    /// The destination must call its port one of these.
    pub(super) named: Option<PortNames>,
    /// It must call it none of these.
    pub(super) not_named: Option<PortNames>,
}

/// All alternatives. Entries that differ in their destination ports only become one.
pub(super) fn alternatives(traffic: &[Traffic]) -> Vec<Alternative> {
    let mut merged: BTreeMap<Traffic, Option<Ports>> = BTreeMap::new();
    for entry in traffic.iter().filter(|entry| is_possible(entry)) {
        let ports = entry.destination_ports.clone();
        let rest = Traffic { destination_ports: None, ..entry.clone() };
        match merged.get_mut(&rest) {
            None => _ = merged.insert(rest, ports),
            Some(known) => match (known.as_mut(), ports) {
                (Some(known), Some(ports)) => {
                    known.ranges.extend(ports.ranges);
                    known.names.extend(ports.names);
                }
                // Any port, and protocols without ports: the rest alone.
                _ => *known = None,
            },
        }
    }
    merged.iter().flat_map(|(rest, ports)| split(rest, ports.as_ref())).collect()
}

/// Whether a packet could be this at all.
fn is_possible(traffic: &Traffic) -> bool {
    let none = |ports: &Option<Ports>| ports.as_ref().is_some_and(|p| p.ranges.is_empty() && p.names.is_empty());
    // Sources are not asked what they call their ports.
    let no_source = traffic.source_ports.as_ref().is_some_and(|ports| ports.ranges.is_empty());
    let ports =
        [&traffic.source_ports, &traffic.not_source_ports, &traffic.destination_ports, &traffic.not_destination_ports];
    let wants_ports = ports.iter().any(|ports| ports.is_some());
    let wants_message = traffic.icmp.is_some() || traffic.not_icmp.is_some();
    let is_icmp = |protocol| matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    let contradicts = |protocol: Protocol| {
        (wants_ports && !protocol.has_ports())
            || (wants_message && !is_icmp(protocol))
            || traffic.not_protocol == Some(protocol)
    };
    let contradictory = (wants_ports && wants_message) || traffic.protocol.is_some_and(contradicts);
    !(contradictory || no_source || none(&traffic.destination_ports))
}

fn split(rest: &Traffic, ports: Option<&Ports>) -> Vec<Alternative> {
    let ranges = |ports: &Option<Ports>| ports.as_ref().map(|ports| joined(&ports.ranges));
    let names = |ports: &Ports| {
        let names: PortNames = ports.names.iter().map(|name| (name.clone(), rest.protocol)).collect();
        (!names.is_empty()).then_some(names)
    };
    let base = Alternative {
        clause: Clause {
            family: rest.family,
            protocol: rest.protocol,
            // With one protocol wanted, it says nothing about another.
            not_protocol: rest.not_protocol.filter(|_| rest.protocol.is_none()),
            source_ports: ranges(&rest.source_ports),
            not_source_ports: ranges(&rest.not_source_ports),
            not_destination_ports: ranges(&rest.not_destination_ports),
            icmp: rest.icmp,
            not_icmp: rest.not_icmp,
            ..Clause::default()
        },
        named: None,
        not_named: rest.not_destination_ports.as_ref().and_then(names),
    };
    let Some(ports) = ports else { return vec![base] };
    let mut alternatives = Vec::new();
    if !ports.ranges.is_empty() {
        let clause = Clause { destination_ports: Some(joined(&ports.ranges)), ..base.clause.clone() };
        alternatives.push(Alternative { clause, ..base.clone() });
    }
    if let Some(names) = names(ports) {
        alternatives.push(Alternative { named: Some(names), ..base });
    }
    alternatives
}

/// In order, and without two that overlap or touch.
fn joined(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(before) if range.first <= before.last.saturating_add(1) => before.last = before.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(ranges: &[(u16, u16)], names: &[&str]) -> Ports {
        Ports {
            ranges: ranges.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect(),
            names: names.iter().map(|name| Arc::from(*name)).collect(),
        }
    }

    #[test]
    fn ports_of_one_protocol_are_one_alternative_and_their_names_another() {
        let tcp = |ports| Traffic::to_ports(Protocol::TCP, ports);
        let found = alternatives(&[tcp(ports(&[(443, 443)], &[])), tcp(ports(&[(80, 81), (82, 90)], &["web"]))]);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].clause.destination_ports, Some(ports(&[(80, 90), (443, 443)], &[]).ranges));
        assert_eq!(found[1].named, Some([("web".into(), Some(Protocol::TCP))].into()));
        assert_eq!(found[1].clause.destination_ports, None);
    }

    #[test]
    fn what_no_packet_can_be_has_no_alternative() {
        let icmp = Some(crate::policy::model::Icmp { kind: 8, code: None });
        let some = Some(ports(&[(80, 80)], &[]));
        let impossible = [
            Traffic { destination_ports: Some(Ports::default()), ..Traffic::any() },
            Traffic { destination_ports: some.clone(), ..Traffic::of(Protocol::ICMP) },
            Traffic { icmp, ..Traffic::of(Protocol::TCP) },
            Traffic { icmp, source_ports: some, ..Traffic::any() },
            Traffic { not_protocol: Some(Protocol::TCP), ..Traffic::of(Protocol::TCP) },
        ];
        assert_eq!(alternatives(&impossible), []);
        assert_eq!(alternatives(&[]), []);
    }

    #[test]
    fn any_port_swallows_some_ports() {
        let all =
            alternatives(&[Traffic::to_ports(Protocol::UDP, ports(&[(53, 53)], &["dns"])), Traffic::of(Protocol::UDP)]);
        assert_eq!(all.len(), 1);
        assert_eq!((&all[0].clause.destination_ports, &all[0].named), (&None, &None));
    }
}
