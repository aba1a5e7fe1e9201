//! The kinds of traffic and the addresses that policies of some worlds can tell apart. Never more than they need: what no
//! policy tells apart has one sample.

use crate::policy::model::{Peer, Policy, PortRange, Ports, Protocol, Rule};
use crate::policy::world::World;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Traffic that all policies treat alike: a protocol and a range of its destination ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficClass {
    /// The protocol.
    pub protocol: Protocol,
    /// Ports from 1 on; for protocols without ports, all.
    pub ports: PortRange,
}

impl TrafficClass {
    /// All ports.
    pub const ALL_PORTS: PortRange = PortRange { first: 1, last: u16::MAX };
}

fn rules(worlds: &[&World], mut each: impl FnMut(&Rule)) {
    let policies = worlds.iter().flat_map(|world| world.policies.values());
    for Policy { ingress, egress, .. } in policies.map(|policy| &**policy) {
        ingress.iter().chain(egress).flat_map(|rules| &rules.rules).for_each(&mut each);
    }
}

/// The classes of TCP, UDP, SCTP, ICMP and ICMPv6 that rules of these worlds can tell apart, sorted.
///
/// ICMP types and source ports are not told apart: the sample is an echo request, and a port that clients are given.
#[must_use]
pub fn traffic_classes(worlds: &[&World]) -> Vec<TrafficClass> {
    // Where a class begins.
    let mut starts = BTreeSet::from([1_u32]);
    let mut cut = |range: PortRange| starts.extend([u32::from(range.first.max(1)), u32::from(range.last) + 1]);
    let mut names = BTreeSet::new();
    rules(worlds, |rule| {
        for traffic in &rule.traffic {
            for Ports { ranges, names: named } in traffic.destination_ports.iter().chain(&traffic.not_destination_ports)
            {
                ranges.iter().for_each(|range| cut(*range));
                names.extend(named.iter().cloned());
            }
        }
    });
    let workloads = worlds.iter().flat_map(|world| world.workloads.values());
    for port in workloads.flat_map(|workload| &workload.ports).filter(|port| names.contains(&port.name)) {
        cut(PortRange::one(port.port));
    }
    let starts: Vec<u32> = starts.into_iter().filter(|start| *start <= u32::from(u16::MAX)).collect();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u32::from(u16::MAX)]);
    let port = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let ranges: Vec<PortRange> =
        starts.iter().zip(ends).map(|(first, last)| PortRange { first: port(*first), last: port(last) }).collect();
    let mut classes = Vec::new();
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
        classes.extend(ranges.iter().map(|ports| TrafficClass { protocol, ports: *ports }));
    }
    for protocol in [Protocol::ICMP, Protocol::ICMPV6] {
        classes.push(TrafficClass { protocol, ports: TrafficClass::ALL_PORTS });
    }
    classes
}

fn networks(peer: &Peer, found: &mut BTreeSet<IpNet>) {
    match peer {
        Peer::Networks(networks) => found.extend(networks),
        Peer::AnyOf(parts) | Peer::AllOf(parts) => parts.iter().for_each(|part| networks(part, found)),
        Peer::Not(inner) => networks(inner, found),
        _ => {}
    }
}

/// The address after the last one of a prefix, and the last one.
fn around(network: IpNet) -> [Option<IpAddr>; 2] {
    let last = network.broadcast();
    let next = match last {
        IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| IpAddr::V6(next.into())),
    };
    [Some(last), next]
}

/// Addresses that belong to nobody in these worlds, with at least one of each set that prefixes in their rules and groups
/// can tell apart, sorted. Prefixes are laminar (one within another, or apart), so the last address of each prefix and the
/// one after it are enough, with one that no prefix names.
#[must_use]
pub fn outside_addresses(worlds: &[&World]) -> Vec<IpAddr> {
    let mut found = BTreeSet::new();
    rules(worlds, |rule| {
        networks(&rule.source, &mut found);
        networks(&rule.destination, &mut found);
    });
    let workloads = || worlds.iter().flat_map(|world| world.workloads.values());
    found.extend(workloads().flat_map(|workload| &workload.networks));
    let taken: BTreeSet<IpAddr> = workloads().flat_map(|workload| &workload.addresses).copied().collect();
    let inner = found.iter().flat_map(|network| {
        // Its first address, and where that is a pod's the next ones.
        network.hosts().take(64).find(|address| !taken.contains(address))
    });
    let mut samples: BTreeSet<IpAddr> = inner.collect();
    samples
        .extend(found.iter().flat_map(|network| around(*network)).flatten().filter(|address| !taken.contains(address)));
    // RFC 5737, section 3; RFC 3849.
    let documentation: [IpAddr; 2] = [[203, 0, 113, 77].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 77].into()];
    let families: BTreeSet<bool> = taken.iter().map(IpAddr::is_ipv4).collect();
    samples
        .extend(documentation.into_iter().filter(|sample| families.is_empty() || families.contains(&sample.is_ipv4())));
    samples.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::{Action, Rules, Traffic};
    use crate::policy::world::ModelChange;
    use std::sync::Arc;

    #[test]
    fn classes_are_apart_cover_every_port_and_begin_where_a_rule_does() {
        let ports = Ports { ranges: vec![PortRange { first: 80, last: 90 }], ..Ports::default() };
        let rule = Rule {
            traffic: vec![Traffic::to_ports(Protocol::TCP, ports)],
            source: Peer::Networks(vec!["10.0.0.0/8".parse().unwrap()]),
            ..Rule::new("r", Action::Allow)
        };
        let object = crate::store::ObjectKey::cluster(crate::store::Kind::new("a/v1", "P"), "p");
        let subject = crate::policy::model::Subject {
            kinds: crate::policy::model::Kinds::PODS,
            selector: crate::policy::model::Selector::Everything,
        };
        let mut policy = Policy::closed(object, subject);
        policy.ingress = Some(Rules { rules: vec![rule], isolates: true });
        let mut world = World::default();
        world.apply(ModelChange::PutPolicy(Arc::new(policy)));
        let classes = traffic_classes(&[&world]);
        let tcp: Vec<_> = classes.iter().filter(|class| class.protocol == Protocol::TCP).collect();
        let ranges: Vec<_> = tcp.iter().map(|class| (class.ports.first, class.ports.last)).collect();
        assert_eq!(ranges, [(1, 79), (80, 90), (91, 65535)]);
        let outside = outside_addresses(&[&world]);
        assert!(outside.contains(&"10.255.255.255".parse().unwrap()));
        assert!(outside.contains(&"11.0.0.0".parse().unwrap()));
    }
}
