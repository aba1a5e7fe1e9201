//! Which endpoints a frontend uses, and for what. Never what the frontend is.
//!
//! | there are | used |
//! |---|---|
//! | ready endpoints | those |
//! | none ready, but some that serve while they go (KEP-1669) | those |
//! | neither | none: connections are refused |
//!
//! With scope `Local` only endpoints of this node count. With scope `Cluster`, ready endpoints with hints for this node or
//! zone are preferred, if every ready endpoint has hints. Endpoints that go and are not used keep the connections they have.

use super::read::{Distribution, Endpoint};
use crate::model::{BackendUse, ServiceBackend, TrafficScope};
use std::cmp::Reverse;
use std::sync::Arc;

/// An endpoint with the number of the service's port on it.
pub(super) struct Candidate<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) port: u16,
}

/// Where we are, and what the service says.
pub(super) struct Wish<'a> {
    pub(super) node: &'a str,
    pub(super) zone: Option<&'a str>,
    pub(super) scope: TrafficScope,
    pub(super) distribution: Option<Distribution>,
    /// Endpoints that are not ready count as ready.
    pub(super) publish_not_ready: bool,
}

impl Wish<'_> {
    fn is_local(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_deref() == Some(self.node)
    }

    fn is_ready(&self, endpoint: &Endpoint) -> bool {
        endpoint.conditions.ready || self.publish_not_ready
    }

    /// The ready endpoints that are nearest, by what slices say or, where they say nothing, by what the service prefers.
    fn prefers(&self, ready: &[&Endpoint]) -> fn(&Self, &Endpoint) -> bool {
        let hints = |endpoint: &Endpoint| endpoint.hints.as_deref().cloned().unwrap_or_default();
        let for_node: fn(&Self, &Endpoint) -> bool =
            |wish, endpoint| endpoint.hints.iter().any(|hints| hints.nodes.iter().any(|node| **node == *wish.node));
        let for_zone: fn(&Self, &Endpoint) -> bool = |wish, endpoint| {
            endpoint.hints.iter().any(|hints| hints.zones.iter().any(|zone| Some(&**zone) == wish.zone))
        };
        let on_node: fn(&Self, &Endpoint) -> bool = |wish, endpoint| wish.is_local(endpoint);
        let in_zone: fn(&Self, &Endpoint) -> bool =
            |wish, endpoint| wish.zone.is_some() && endpoint.zone.as_deref() == wish.zone;
        let hinted = ready.iter().any(|endpoint| endpoint.hints.is_some());
        let mut orders: Vec<fn(&Self, &Endpoint) -> bool> = Vec::new();
        if hinted {
            if ready.iter().all(|endpoint| !hints(endpoint).nodes.is_empty()) {
                orders.push(for_node);
            }
            if ready.iter().all(|endpoint| !hints(endpoint).zones.is_empty()) {
                orders.push(for_zone);
            }
        } else {
            match self.distribution {
                Some(Distribution::SameNode) => orders.extend([on_node, in_zone]),
                Some(Distribution::SameZone) => orders.push(in_zone),
                None => {}
            }
        }
        let found = orders.into_iter().find(|near| ready.iter().any(|endpoint| near(self, endpoint)));
        found.unwrap_or(|_, _| true)
    }

    /// The backends, in order of address and port, each once.
    pub(super) fn select(&self, mut candidates: Vec<Candidate<'_>>) -> Arc<[ServiceBackend]> {
        if self.scope == TrafficScope::Local {
            candidates.retain(|candidate| self.is_local(candidate.endpoint));
        }
        // An endpoint that moves from slice to slice is in two for a moment: the better word counts, then the greater weight.
        let better = |endpoint: &Endpoint| {
            let conditions = endpoint.conditions;
            (!conditions.ready, !conditions.serving, conditions.terminating, Reverse(endpoint.weight))
        };
        candidates.sort_by(|one, other| {
            let key =
                |candidate: &Candidate<'_>| (candidate.endpoint.address, candidate.port, better(candidate.endpoint));
            key(one).cmp(&key(other))
        });
        candidates.dedup_by_key(|candidate| (candidate.endpoint.address, candidate.port));
        let endpoints = || candidates.iter().map(|candidate| candidate.endpoint);
        let ready: Vec<&Endpoint> = endpoints().filter(|endpoint| self.is_ready(endpoint)).collect();
        let near = match self.scope {
            TrafficScope::Cluster => self.prefers(&ready),
            TrafficScope::Local => |_: &Self, _: &Endpoint| true,
        };
        let active = |endpoint: &Endpoint| {
            if ready.is_empty() {
                endpoint.conditions.serving && endpoint.conditions.terminating
            } else {
                self.is_ready(endpoint) && near(self, endpoint)
            }
        };
        let backend = |candidate: &Candidate<'_>| {
            let endpoint = candidate.endpoint;
            let usage = match (active(endpoint), endpoint.conditions.terminating) {
                (true, _) => BackendUse::Active,
                (false, true) => BackendUse::Draining,
                (false, false) => return None,
            };
            Some(ServiceBackend {
                address: endpoint.address,
                port: candidate.port,
                usage,
                weight: endpoint.weight,
                conditions: endpoint.conditions,
                local: self.is_local(endpoint),
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
            })
        };
        candidates.iter().filter_map(backend).collect()
    }
}
