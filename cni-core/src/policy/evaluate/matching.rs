//! Whether one rule matches one connection. Never what follows from it.

use super::end::{End, Ends};
use super::{Connection, Evaluator, Miss};
use crate::policy::model::{Action, Direction, Icmp, Peer, Ports, Protocol, Rule, Traffic, Workload};

impl Evaluator<'_> {
    /// `Ok` when the rule matches; else the first condition that does not hold.
    pub(super) fn rule(
        &self,
        rule: &Rule,
        connection: &Connection,
        ends: &Ends<'_>,
        direction: Direction,
    ) -> Result<(), Miss> {
        if let Some(reason) = rule.unenforceable()
            && matches!(rule.action, Action::Allow | Action::Log)
        {
            return Err(Miss::Unenforceable(reason));
        }
        // The subject itself is never its own node.
        let own_node = ends.other_is_own_node(direction);
        let is_own_node = |other_in: Direction| own_node && direction == other_in;
        if !self.peer(&rule.source, &ends.source, is_own_node(Direction::Ingress)) {
            return Err(Miss::Source);
        }
        if !self.peer(&rule.destination, &ends.destination, is_own_node(Direction::Egress)) {
            return Err(Miss::Destination);
        }
        let to = &ends.destination.workloads;
        if !rule.traffic.iter().any(|traffic| matches_traffic(traffic, connection, ends, to)) {
            return Err(Miss::Traffic);
        }
        Ok(())
    }

    fn peer(&self, peer: &Peer, end: &End<'_>, own_node: bool) -> bool {
        // Only rules that deny or pass come here with names: nobody can say whose they are, so they are everybody's.
        if peer.has_names() {
            return true;
        }
        match peer {
            Peer::Anything | Peer::Names(_) => true,
            Peer::Nothing => false,
            Peer::Labelled { kinds, selector } => {
                let is_in =
                    |workload: &Workload| kinds.has(workload.identity.kind) && selector.matches(&workload.identity);
                let in_group = || {
                    let groups = end.address.map(|address| self.groups_of(address)).unwrap_or_default();
                    groups.iter().any(|index| is_in(self.groups[*index].workload))
                };
                end.workloads.iter().any(|workload| is_in(workload)) || in_group()
            }
            Peer::Networks(networks) => {
                end.address.is_some_and(|address| networks.iter().any(|network| network.contains(&address)))
            }
            Peer::OwnNode => own_node,
            Peer::AnyOf(any) => any.iter().any(|peer| self.peer(peer, end, own_node)),
            Peer::AllOf(all) => all.iter().all(|peer| self.peer(peer, end, own_node)),
            Peer::Not(inner) => !self.peer(inner, end, own_node),
        }
    }
}

fn matches_traffic(traffic: &Traffic, connection: &Connection, ends: &Ends<'_>, to: &[&Workload]) -> bool {
    let protocol = connection.protocol;
    let source = |ports: &Ports| in_ports(ports, connection.source_port, protocol, &[]);
    let destination = |ports: &Ports| in_ports(ports, connection.destination_port, protocol, to);
    let holds = |condition: &Option<Ports>, check: &dyn Fn(&Ports) -> bool| {
        condition.as_ref().is_none_or(|ports| protocol.has_ports() && check(ports))
    };
    let is_icmp = matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    let message = |wanted: Icmp| {
        connection
            .icmp
            .is_some_and(|found| found.kind == wanted.kind && (wanted.code.is_none() || wanted.code == found.code))
    };
    traffic.family.is_none_or(|family| ends.family().is_none_or(|found| found == family))
        && traffic.protocol.is_none_or(|wanted| wanted == protocol)
        && traffic.not_protocol.is_none_or(|unwanted| unwanted != protocol)
        && holds(&traffic.source_ports, &source)
        && holds(&traffic.not_source_ports, &|ports| !source(ports))
        && holds(&traffic.destination_ports, &destination)
        && holds(&traffic.not_destination_ports, &|ports| !destination(ports))
        && traffic.icmp.is_none_or(|wanted| is_icmp && message(wanted))
        && traffic.not_icmp.is_none_or(|unwanted| is_icmp && !message(unwanted))
}

/// A port that was not told is in no list: no rule names the ports that clients are given.
fn in_ports(ports: &Ports, port: Option<u16>, protocol: Protocol, named_by: &[&Workload]) -> bool {
    let Some(port) = port else { return false };
    let mut named = named_by.iter().flat_map(|workload| &workload.ports);
    ports.ranges.iter().any(|range| range.has(port))
        || named.any(|named| named.port == port && named.protocol == protocol && ports.names.contains(&named.name))
}
