//! Where this node says whether it has endpoints of a service. Never which service gets a port: its claims decide.

use super::super::read::{ServiceSpec, family_of};
use super::super::select::Candidate;
use super::surroundings::Surroundings;
use crate::backend::Change;
use crate::model::{HealthChange, HealthCheck, ServiceName};
use crate::policy::model::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// The checks of one service that has its port, by what `candidates` says of each port of it. At addresses of its own families
/// only.
pub(super) fn checks<'e>(
    spec: &ServiceSpec,
    port: u16,
    around: &Surroundings,
    candidates: impl Fn(usize, Family) -> Vec<Candidate<'e>>,
) -> Vec<HealthCheck> {
    let families: BTreeSet<Family> =
        spec.cluster_ips.iter().chain(&spec.ingress).map(|placed| family_of(placed.address)).collect();
    let count = |family| {
        let all = (0..spec.ports.len()).flat_map(|port| candidates(port, family));
        let counts = all.map(|candidate| candidate.endpoint).filter(|endpoint| {
            endpoint.node.as_deref() == Some(&*around.own) && (endpoint.conditions.ready || spec.publish_not_ready)
        });
        counts.map(|endpoint| endpoint.address).collect::<BTreeSet<IpAddr>>().len()
    };
    let counts: BTreeMap<Family, usize> = families.into_iter().map(|family| (family, count(family))).collect();
    let check = |address: IpAddr| {
        let endpoints = *counts.get(&family_of(address))?;
        Some(HealthCheck { at: SocketAddr::new(address, port), service: spec.name.clone(), endpoints })
    };
    around.node_port_addresses().filter_map(check).collect()
}

/// Those of all services, and what was told of them.
#[derive(Debug, Default)]
pub(super) struct HealthChecks {
    now: BTreeMap<SocketAddr, HealthCheck>,
    dirty: BTreeSet<SocketAddr>,
    told: BTreeMap<SocketAddr, HealthCheck>,
}

impl HealthChecks {
    /// A service's checks were these, and are those now.
    pub(super) fn set(&mut self, service: &ServiceName, old: &[HealthCheck], new: &[HealthCheck]) {
        for check in old.iter().filter(|old| !new.iter().any(|new| new.at == old.at)) {
            // Whoever has the port now may have been looked at before.
            if self.now.get(&check.at).is_some_and(|now| now.service == *service) {
                self.now.remove(&check.at);
                self.dirty.insert(check.at);
            }
        }
        for check in new.iter().filter(|new| !old.contains(new)) {
            self.now.insert(check.at, check.clone());
            self.dirty.insert(check.at);
        }
    }

    /// What changed since the last call.
    pub(super) fn drain(&mut self) -> Vec<HealthChange> {
        let mut changes = Vec::new();
        for at in std::mem::take(&mut self.dirty) {
            let new = self.now.get(&at).cloned();
            let old = match &new {
                Some(new) => self.told.insert(at, new.clone()),
                None => self.told.remove(&at),
            };
            match new {
                Some(new) if old.as_ref() != Some(&new) => changes.push(Change::Put(new)),
                None if old.is_some() => changes.push(Change::Remove(at)),
                _ => {}
            }
        }
        changes
    }

    /// All of them, in order of addresses.
    pub(super) fn all(&self) -> impl Iterator<Item = &HealthCheck> {
        self.now.values()
    }
}
