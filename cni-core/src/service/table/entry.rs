//! One service: what its objects say, what it wants, and what was told of it. Never another service.

use super::super::read::{ServiceSpec, Slice, family_of};
use super::super::select::{Candidate, Wish};
use super::announce::announced;
use super::claims::{Claim, Claims};
use super::frontends::{Wishes, wishes};
use super::health::checks;
use super::surroundings::Surroundings;
use crate::model::{FrontendKind, HealthCheck, ServiceBackend, ServiceItem, TrafficScope};
use crate::policy::model::{Effect, Family, Problem};
use crate::store::{Kind, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// An endpoint outside of all pools: the slice, its place in it, its address.
type Stranger = (Arc<str>, u16, IpAddr);

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The Service, also one that could not be read.
    pub(super) object: Option<ObjectKey>,
    pub(super) spec: Option<Arc<ServiceSpec>>,
    /// By their names.
    pub(super) slices: BTreeMap<Arc<str>, Slice>,
    /// When the object was made, as its claims have it.
    pub(super) age: Option<Arc<str>>,
    /// Addresses under which it is found when they become somebody's.
    pub(super) outer: Vec<IpAddr>,
    wishes: Wishes,
    /// What was told, in order of keys.
    pub(super) told: Vec<ServiceItem>,
    /// Addresses of it that this node takes.
    pub(super) announced: BTreeSet<IpAddr>,
    /// Where this node says whether it has endpoints of it.
    pub(super) checks: Vec<HealthCheck>,
    /// Who else has what it wants.
    lost: Vec<Problem>,
    /// Slices or pools changed since strangers were looked for.
    pub(super) look_for_strangers: bool,
    strangers: Vec<Stranger>,
}

impl Entry {
    pub(super) fn is_empty(&self) -> bool {
        self.object.is_none() && self.slices.is_empty() && self.told.is_empty()
    }

    pub(super) fn make_wishes(&mut self, around: &Surroundings) {
        self.wishes = match (&self.object, &self.spec) {
            (Some(object), Some(spec)) => wishes(object, spec, around),
            _ => Wishes::default(),
        };
    }

    /// What it wants, and as what.
    pub(super) fn claims(&self) -> impl Iterator<Item = (Claim, FrontendKind)> {
        let frontends = self.wishes.frontends.iter().map(|wanted| {
            let key = &wanted.key;
            let claim = Claim { address: Some(key.address), port: key.port, protocol: key.protocol };
            (claim, wanted.kind)
        });
        let everywhere = self.wishes.node_ports.iter().chain(&self.wishes.health_check);
        frontends.chain(everywhere.map(|(claim, _)| (*claim, FrontendKind::NodePort)))
    }

    /// The addresses of its endpoints.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        self.slices.values().flat_map(|slice| &slice.endpoints).map(|endpoint| endpoint.address).collect()
    }

    /// The items that it has now, in order of keys; notes what others have.
    pub(super) fn items(&mut self, around: &Surroundings, claims: &Claims) -> Vec<ServiceItem> {
        self.lost.clear();
        self.announced.clear();
        self.checks.clear();
        if std::mem::take(&mut self.look_for_strangers) {
            self.strangers = strangers(&self.slices, around);
        }
        let (Some(object), Some(spec)) = (&self.object, &self.spec) else { return Vec::new() };
        let mut lost: BTreeMap<String, String> = BTreeMap::new();
        let mut wins = |claim: Claim, path: &str| match claims.winner(&claim) {
            Some(winner) if winner.service != spec.name => {
                let place = claim.address.map_or_else(String::new, |address| format!("{address} "));
                let detail = format!(
                    "{place}port {}/{} is {} of Service {}, which comes first; choose another",
                    claim.port, claim.protocol, winner.kind, winner.service
                );
                lost.entry(path.to_owned()).or_insert(detail);
                false
            }
            _ => true,
        };
        let won: BTreeSet<Claim> =
            self.wishes.node_ports.iter().filter(|(claim, path)| wins(*claim, path)).map(|(claim, _)| *claim).collect();
        let check = self.wishes.health_check.as_ref().filter(|(claim, path)| wins(*claim, path));
        self.checks = check.map_or_else(Vec::new, |(claim, _)| {
            checks(spec, claim.port, around, |port, family| self.candidates(spec, port, family))
        });
        let mut backends: Vec<(usize, Family, TrafficScope, Arc<[ServiceBackend]>)> = Vec::new();
        let mut items = Vec::with_capacity(self.wishes.frontends.len());
        for wanted in &self.wishes.frontends {
            let (key, kind) = (&wanted.key, wanted.kind);
            let everywhere = Claim { address: None, port: key.port, protocol: key.protocol };
            if kind == FrontendKind::NodePort && !won.contains(&everywhere) {
                continue;
            }
            let claim = Claim { address: Some(key.address), ..everywhere };
            let (Some(port), true) = (spec.ports.get(wanted.port), wins(claim, &wanted.path)) else { continue };
            let scope = spec.scope(kind);
            let family = family_of(key.address);
            let known = backends.iter().find(|known| (known.0, known.1, known.2) == (wanted.port, family, scope));
            let found = match known {
                Some(known) => known.3.clone(),
                None => {
                    let wish = Wish {
                        node: &around.own,
                        zone: around.own_zone(),
                        scope,
                        distribution: spec.distribution,
                        publish_not_ready: spec.publish_not_ready,
                    };
                    let found = wish.select(self.candidates(spec, wanted.port, family));
                    backends.push((wanted.port, family, scope, found.clone()));
                    found
                }
            };
            items.push(ServiceItem {
                key: key.clone(),
                service: spec.name.clone(),
                port_name: port.name.clone(),
                kind,
                scope,
                scheduler: spec.scheduler,
                affinity_seconds: spec.affinity_seconds,
                sources: spec.sources.clone().filter(|_| kind == FrontendKind::LoadBalancer),
                health_check_port: spec.health_check_port,
                direct_return: spec.direct_return && kind.is_external(),
                backends: found,
            });
        }
        items.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let problem = |(path, detail)| Problem { object: object.clone(), path, detail, effect: Effect::LeftOut };
        self.lost = lost.into_iter().map(problem).collect();
        self.announced = announced(spec, &items, around);
        items
    }

    /// Endpoints of a family with the numbers that they have for a port of the service.
    fn candidates(&self, spec: &ServiceSpec, port: usize, family: Family) -> Vec<Candidate<'_>> {
        let mut found = Vec::new();
        let Some(port) = spec.ports.get(port) else { return found };
        for slice in self.slices.values().filter(|slice| slice.family == family) {
            let numbers = slice.ports.iter().filter(|of| of.name == port.name && of.protocol == port.protocol);
            for number in numbers {
                found.extend(slice.endpoints.iter().map(|endpoint| Candidate { endpoint, port: number.port }));
            }
        }
        found
    }

    /// Whether there is something to report besides what objects say by themselves.
    pub(super) fn is_troubled(&self) -> bool {
        let orphaned = self.object.is_none() && !self.slices.is_empty();
        orphaned || !self.lost.is_empty() || !self.wishes.problems.is_empty() || !self.strangers.is_empty()
    }

    /// What is wrong besides what objects say by themselves.
    pub(super) fn problems(&self, around: &Surroundings) -> Vec<Problem> {
        let mut problems = self.wishes.problems.clone();
        problems.extend(self.lost.iter().cloned());
        let namespace = self.slices.values().map(|slice| &slice.service.namespace).next();
        let slice = |name: &Arc<str>| ObjectKey {
            kind: Kind::ENDPOINT_SLICE,
            namespace: namespace.cloned(),
            name: name.clone(),
        };
        let warn = |name: &Arc<str>, path: String, detail: String| Problem {
            object: slice(name),
            path,
            detail,
            effect: Effect::Warning,
        };
        if self.object.is_none() {
            problems.extend(self.slices.iter().map(|(name, slice)| {
                let detail = format!("there is no Service {}, so its endpoints serve nobody", slice.service);
                warn(name, "metadata.labels".to_owned(), detail)
            }));
        }
        for (name, index, address) in self.strangers.iter().filter(|(.., address)| !around.is_of_node(*address)) {
            let detail = format!("{address} is in no pool of pods and no node's; connections go there all the same");
            problems.push(warn(name, format!("endpoints[{index}].addresses[0]"), detail));
        }
        problems
    }
}

fn strangers(slices: &BTreeMap<Arc<str>, Slice>, around: &Surroundings) -> Vec<Stranger> {
    let mut found = Vec::new();
    for (name, slice) in slices {
        let strange = slice.endpoints.iter().filter(|endpoint| around.is_strange(endpoint.address));
        found.extend(strange.map(|endpoint| (name.clone(), endpoint.index, endpoint.address)));
    }
    found
}
