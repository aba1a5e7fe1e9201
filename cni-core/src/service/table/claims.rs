//! Who wants an address, port and protocol, and who of them gets it. Never why a service wants it.
//!
//! An address inside of the cluster comes before all others, since the API server gave it; then what balancers gave, external
//! addresses, node ports. Of one kind the older service gets it, one without a date after all others, and of one date the
//! first by name. So it follows from the objects that are there, whatever came first.

use crate::model::{FrontendKind, ServiceName};
use crate::policy::model::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What only one service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    /// `None`: the port of all nodes.
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

/// Who wants it. Ordered by precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claimant {
    pub(super) kind: FrontendKind,
    pub(super) undated: bool,
    pub(super) created: Option<Arc<str>>,
    pub(super) service: ServiceName,
}

/// All claims, those of one thing in order of precedence.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<Claim, Vec<Claimant>>);

impl Claims {
    /// Notes a claim, and answers who else has it.
    pub(super) fn add(&mut self, claim: Claim, claimant: Claimant) -> Vec<ServiceName> {
        let all = self.0.entry(claim).or_default();
        let others = all.iter().map(|other| other.service.clone()).collect();
        let at = all.partition_point(|other| *other < claimant);
        all.insert(at, claimant);
        others
    }

    /// Takes a service's claim away, and answers who else has it.
    pub(super) fn remove(&mut self, claim: &Claim, service: &ServiceName) -> Vec<ServiceName> {
        let Some(all) = self.0.get_mut(claim) else { return Vec::new() };
        all.retain(|claimant| claimant.service != *service);
        let others = all.iter().map(|other| other.service.clone()).collect();
        if all.is_empty() {
            self.0.remove(claim);
        }
        others
    }

    /// Who gets it.
    pub(super) fn winner(&self, claim: &Claim) -> Option<&Claimant> {
        self.0.get(claim)?.first()
    }

    /// Services that want a port of all nodes.
    pub(super) fn of_node_ports(&self) -> impl Iterator<Item = &ServiceName> {
        // Claims without an address are before all others.
        let claims = self.0.iter().take_while(|(claim, _)| claim.address.is_none());
        claims.flat_map(|(_, claimants)| claimants).map(|claimant| &claimant.service)
    }
}
