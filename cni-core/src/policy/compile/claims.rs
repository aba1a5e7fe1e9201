//! Who else says that it has the address of a local endpoint. Never a judgement between two that are not here.

use super::endpoints::Endpoints;
use super::workloads::Workloads;
use crate::policy::model::{Effect, Problem, Workload, WorkloadKind};
use crate::store::{Kind, ObjectKey};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The addresses that a workload claims and that local endpoints of others have.
pub(super) fn lost(workload: &Workload, endpoints: &Endpoints) -> BTreeSet<IpAddr> {
    let is_of_another = |address: &IpAddr| {
        endpoints.at(*address).is_some_and(|endpoint| endpoint.workload().as_ref() != Some(&workload.id))
    };
    let claimed = workload.addresses.iter().filter(|_| !workload.host_network);
    claimed.copied().filter(is_of_another).collect()
}

/// What is wrong with those claims.
pub(super) fn problems(workloads: &Workloads, endpoints: &Endpoints) -> impl Iterator<Item = Problem> {
    workloads.lost().filter_map(|(address, workload)| {
        let holder = endpoints.at(address)?;
        let (kind, path) = match workload.id.kind {
            WorkloadKind::Pod => (Kind::POD, "status.podIPs"),
            WorkloadKind::Node => (Kind::NODE, "status.addresses"),
            WorkloadKind::HostEndpoint => (Kind::new("projectcalico.org/v3", "HostEndpoint"), "spec.expectedIPs"),
            _ => return None,
        };
        let object = ObjectKey { kind, namespace: workload.id.namespace.clone(), name: workload.id.name.clone() };
        let whose = match holder.workload() {
            Some(pod) => pod.to_string(),
            None => format!("container {}", holder.id),
        };
        let detail =
            format!("{address} is the address of {whose}, which is attached to this node, and counts as its own only");
        Some(Problem { object, path: path.to_owned(), detail, effect: Effect::LeftOut })
    })
}
