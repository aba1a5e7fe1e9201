//! All pairs of some parties over some traffic. Never printed here.

use super::error::PolicyError;
use cni_core::policy::evaluate::{Connection, Evaluator, Party, TrafficClass};
use cni_core::policy::model::{Protocol, Workload, WorkloadKind};
use cni_core::policy::world::World;
use std::net::IpAddr;

/// Pairs of more parties take too long, and nobody reads them.
const MOST_PARTIES: usize = 2_000;

/// Pods of a world, sorted; of some namespaces where some are given.
pub(super) fn pods<'w>(world: &'w World, namespaces: &[String]) -> Vec<&'w Workload> {
    let wanted = |workload: &&Workload| {
        let namespace = workload.id.namespace.as_deref().unwrap_or_default();
        workload.identity.kind == WorkloadKind::Pod
            && !workload.host_network
            && (namespaces.is_empty() || namespaces.iter().any(|wanted| wanted == namespace))
    };
    world.workloads.values().map(|workload| &**workload).filter(wanted).collect()
}

pub(super) fn bounded(parties: usize) -> Result<(), PolicyError> {
    if parties > MOST_PARTIES { Err(PolicyError::TooMany { pods: parties }) } else { Ok(()) }
}

/// What of some traffic may go from one party to another, in the traffic's order.
pub(super) fn allowed(
    evaluator: &Evaluator<'_>,
    from: &Party,
    to: &Party,
    traffic: &[TrafficClass],
) -> Result<Vec<TrafficClass>, PolicyError> {
    let mut found = Vec::new();
    for class in traffic {
        let connection = Connection::new(from.clone(), to.clone(), class.protocol, class.ports.first);
        if evaluator.decide(&connection)?.allowed() {
            found.push(*class);
        }
    }
    Ok(found)
}

/// The traffic that can be between two parties: ICMP of their family only.
pub(super) fn between(traffic: &[TrafficClass], world: &World, from: &Party, to: &Party) -> Vec<TrafficClass> {
    let is_v4 = |party: &Party| match party {
        Party::Address(address) => Some(address.is_ipv4()),
        Party::Workload(id) => {
            let addresses = &world.workloads.get(id)?.addresses;
            let v4 = addresses.iter().any(IpAddr::is_ipv4);
            (!addresses.is_empty() && (v4 != addresses.iter().any(IpAddr::is_ipv6))).then_some(v4)
        }
    };
    let v4 = is_v4(from).or(is_v4(to)).unwrap_or(true);
    let fits = |class: &&TrafficClass| match class.protocol {
        Protocol::ICMP => v4,
        Protocol::ICMPV6 => !v4,
        _ => true,
    };
    traffic.iter().filter(fits).copied().collect()
}
