//! Addresses of load balancers: what the record says, and what it should say. Never writes it.

use super::super::balancer::{AddressPool, BalancerRequest, assign};
use super::super::pools::BalancerRecord;
use super::ServiceTable;
use crate::model::{ServiceName, TrafficScope};
use crate::policy::model::{Effect, Problem};
use crate::store::{InvalidObject, Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the record should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// Who should have which addresses.
    pub record: BalancerRecord,
    /// Why some have none.
    pub problems: Vec<Problem>,
}

impl ServiceTable {
    /// Whether something was put or removed since the last call that addresses of load balancers depend on.
    #[must_use = "it is said once"]
    pub fn take_unbalanced(&mut self) -> bool {
        std::mem::take(&mut self.unbalanced)
    }

    /// The record as it was put.
    #[must_use]
    pub fn balancer_record(&self) -> BalancerRecord {
        BalancerRecord { services: self.around.given.clone() }
    }

    /// Whether there is a pool, or somebody has an address of one that is gone: else nobody has to write anything.
    #[must_use]
    pub fn is_balancing(&self) -> bool {
        !self.pools.is_empty() || !self.around.given.is_empty()
    }

    /// Pools without prefixes that overlap addresses of pods, which nobody gets.
    fn usable(&self) -> (Vec<AddressPool>, Vec<Problem>) {
        let (mut usable, mut problems) = (Vec::new(), Vec::new());
        for pool in self.pools.values() {
            let mut pool = pool.clone();
            pool.prefixes.retain(|prefix| {
                let of_pods = self.around.pods.iter().find(|pods| pods.contains(prefix) || prefix.contains(*pods));
                problems.extend(of_pods.map(|pods| Problem {
                    object: AddressPool::key(&pool.name),
                    path: "spec.prefixes".to_owned(),
                    detail: format!("{prefix} overlaps {pods} of pods; nobody gets an address of it"),
                    effect: Effect::LeftOut,
                }));
                of_pods.is_none()
            });
            usable.push(pool);
        }
        (usable, problems)
    }

    /// What the record should be, by the objects that are there. With `keep_gone`, services that are not there keep what they have:
    /// for who cannot read all objects.
    #[must_use]
    pub fn balance(&self, keep_gone: bool) -> Balance {
        let (pools, mut problems) = self.usable();
        // A slip in a pool, in the record itself, or in a Node, whose addresses are not known then, moves nobody: all is left as it is
        // until it can be read.
        let is_ours =
            |key: &&ObjectKey| [Kind::BALANCER_POOL, Kind::BALANCER_ADDRESSES, Kind::NODE].contains(&key.kind);
        if self.content.keys().any(|key| is_ours(&key)) {
            return Balance { record: self.balancer_record(), problems };
        }
        let in_pools = |address: &IpAddr| pools.iter().flat_map(|pool| &pool.prefixes).any(|net| net.contains(address));
        // Who has an address by the record keeps it, whoever writes it into a status later.
        let holders: BTreeMap<IpAddr, &ServiceName> = self
            .around
            .given
            .iter()
            .flat_map(|(name, addresses)| addresses.iter().map(move |address| (*address, name)))
            .collect();
        let is_anothers =
            |address: &IpAddr, name: &ServiceName| holders.get(address).is_some_and(|holder| *holder != name);
        let mut foreign: BTreeSet<IpAddr> =
            self.around.of_nodes().chain(self.around.api_server.iter().copied()).collect();
        let mut requests = Vec::new();
        let mut kept: BTreeMap<ServiceName, Vec<IpAddr>> = BTreeMap::new();
        for (name, entry) in &self.entries {
            let Some(spec) = entry.spec.as_deref() else { continue };
            // Who answers there already goes on to do so.
            let used = spec.cluster_ips.iter().chain(&spec.external_ips).map(|placed| placed.address);
            foreign.extend(used.filter(|address| !holders.contains_key(address)));
            let of_object: Vec<IpAddr> = spec.ingress.iter().map(|placed| placed.address).collect();
            // What stands in the object's own status was given by somebody else, unless it is of our pools.
            if !spec.placement.ours || spec.headless || !of_object.iter().all(in_pools) {
                foreign.extend(of_object.into_iter().filter(|address| !is_anothers(address, name)));
                continue;
            }
            let mut current = self.around.given(name).to_vec();
            current.extend(of_object.into_iter().filter(|address| !is_anothers(address, name)));
            requests.push(BalancerRequest {
                service: spec.name.clone(),
                created: spec.created.clone(),
                families: spec.placement.families.clone(),
                all_families: spec.placement.all_families,
                wanted: spec.placement.wanted.clone(),
                pool: spec.placement.pool.clone(),
                sharing: spec.placement.sharing.clone(),
                ports: spec.ports.iter().map(|port| (port.port, port.protocol)).collect(),
                local: spec.external == TrafficScope::Local,
                current,
            });
        }
        for (name, addresses) in &self.around.given {
            // One that cannot be read is there.
            let is_there = self.entries.get(name).is_some_and(|entry| entry.object.is_some());
            let is_readable = self.entries.get(name).is_some_and(|entry| entry.spec.is_some());
            if !is_readable && (is_there || keep_gone) {
                foreign.extend(addresses);
                kept.insert(name.clone(), addresses.clone());
            }
        }
        let given = assign(&pools, &foreign, &requests);
        let told = !self.pools.is_empty();
        for (name, assignment) in &given {
            let object = self.entries.get(name).and_then(|entry| entry.object.clone());
            let Some(object) = object.filter(|_| told) else { continue };
            problems.extend(assignment.refusals.iter().map(|refusal| Problem {
                object: object.clone(),
                path: "status.loadBalancer".to_owned(),
                detail: refusal.to_string(),
                effect: Effect::LeftOut,
            }));
        }
        let given = given.into_iter().map(|(name, assignment)| (name, assignment.addresses));
        let services = given.chain(kept).filter(|(_, addresses)| !addresses.is_empty()).collect();
        Balance { record: BalancerRecord { services }, problems }
    }

    pub(super) fn put_balancing(&mut self, object: &Object) -> Result<(), InvalidObject> {
        if object.key.kind == Kind::BALANCER_POOL {
            // Of one that cannot be read any more what was known stays.
            let pool = AddressPool::from_object(object)?;
            self.unbalanced |= self.pools.insert(object.key.name.clone(), pool.clone()).as_ref() != Some(&pool);
        } else if object.key == BalancerRecord::key() {
            self.set_given(BalancerRecord::try_from(object)?);
        }
        Ok(())
    }

    pub(super) fn remove_balancing(&mut self, key: &ObjectKey) {
        if key.kind == Kind::BALANCER_POOL {
            self.unbalanced |= self.pools.remove(&key.name).is_some();
        } else if *key == BalancerRecord::key() {
            self.set_given(BalancerRecord::default());
        }
    }

    pub(super) fn keys_of_balancing(&self, kind: &Kind) -> Vec<ObjectKey> {
        if *kind == Kind::BALANCER_POOL {
            self.pools.keys().map(|name| AddressPool::key(name)).collect()
        } else if *kind == Kind::BALANCER_ADDRESSES {
            (!self.around.given.is_empty()).then(BalancerRecord::key).into_iter().collect()
        } else {
            Vec::new()
        }
    }

    fn set_given(&mut self, record: BalancerRecord) {
        let old = std::mem::replace(&mut self.around.given, record.services);
        let names: BTreeSet<&ServiceName> = old.keys().chain(self.around.given.keys()).collect();
        let others = names.into_iter().filter(|name| old.get(*name) != self.around.given.get(*name));
        let others: Vec<ServiceName> = others.cloned().collect();
        self.unbalanced |= !others.is_empty();
        others.iter().for_each(|name| self.refresh(name));
    }
}
