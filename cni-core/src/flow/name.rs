//! Events with names: whose the addresses are, and of which tier a policy is. Never keeps what it is told.

use super::record::{End, Flow, Kind};
use super::source::Event;
use crate::policy::model::{Direction, Identity, LabelMap, Workload, WorkloadKind};
use std::net::IpAddr;
use std::sync::Arc;

/// Who an end is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// What it is.
    pub kind: Kind,
    /// A pod's namespace.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its labels.
    pub labels: LabelMap,
}

impl From<&Workload> for Who {
    fn from(workload: &Workload) -> Self {
        let Identity { kind, labels, .. } = &*workload.identity;
        Self {
            kind: if *kind == WorkloadKind::Pod { Kind::Pod } else { Kind::Node },
            namespace: workload.id.namespace.clone(),
            name: Some(workload.id.name.clone()),
            labels: labels.clone(),
        }
    }
}

/// What is known of names.
pub trait Names {
    /// Who is behind an interface of this node. It wins over the address: a pod may send from one that is not its own.
    fn behind(&self, interface: &str) -> Option<Who>;
    /// Who has an address.
    fn at(&self, address: IpAddr) -> Option<Who>;
    /// Who had an address behind an interface of this node that may be gone: never who has it behind another one now.
    fn had(&self, address: IpAddr) -> Option<Who>;
    /// The tier of a policy of this text, `NetworkPolicy shop/web`.
    fn tier_of(&self, policy: &str) -> Option<Arc<str>>;
}

/// The record of an event, heard on a node at a time (microseconds since the Unix epoch).
#[must_use]
pub fn name(event: Event, node: &Arc<str>, heard_unix_us: u64, names: &impl Names) -> Flow {
    let Event { packet, mut by, .. } = event;
    // The end at which a connection was that is over, perhaps because its interface is.
    let left = event.direction.filter(|_| event.ended.is_some());
    let end = |side, interface: &Option<Arc<str>>, address: Option<IpAddr>, port, identity| {
        let who = interface.as_deref().and_then(|interface| names.behind(interface));
        let who = who.or_else(|| if left == Some(side) { names.had(address?) } else { names.at(address?) });
        let end = End { address, port, identity, ..End::default() };
        match who {
            Some(Who { kind, namespace, name, labels }) => End { kind: Some(kind), namespace, name, labels, ..end },
            None => end,
        }
    };
    let ports = packet.and_then(|packet| packet.ports).unzip();
    let (from, to) = packet.map(|packet| (packet.source, packet.destination)).unzip();
    let source = end(Direction::Egress, &event.input, from, ports.0, event.identities[0]);
    let destination = end(Direction::Ingress, &event.output, to, ports.1, event.identities[1]);
    if by.tier.is_none() {
        by.tier = by.policy.as_deref().and_then(|policy| names.tier_of(policy));
    }
    Flow {
        time_unix_us: event.time_unix_us.unwrap_or(heard_unix_us),
        node: node.clone(),
        direction: event.direction,
        verdict: event.verdict,
        reason: event.reason,
        source,
        destination,
        protocol: packet.map(|packet| packet.protocol),
        icmp: packet.and_then(|packet| packet.icmp),
        tcp_flags: packet.and_then(|packet| packet.tcp_flags),
        by,
        translated: event.translated,
        ended: event.ended,
        sampled: event.sampled,
        packets: event.packets,
        bytes: event.bytes,
    }
}
