//! Which addresses of services this node takes, so that routers outside are to be told. Never the telling.
//!
//! | policy of the service | an address is announced by |
//! |---|---|
//! | Cluster | every node, while the service has an endpoint that takes connections |
//! | Local (external; of cluster IPs also internal) | nodes with a ready endpoint of it |
//!
//! Of addresses that several services have, one is enough. An address that a node or the API server has is never announced.

use super::super::read::ServiceSpec;
use super::surroundings::Surroundings;
use crate::backend::{Change, NetworkChange};
use crate::model::{FrontendKind, NetworkItem, NetworkKey, ServiceAddress, ServiceItem, ServiceName, TrafficScope};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The addresses of one service that this node takes.
pub(super) fn announced(spec: &ServiceSpec, items: &[ServiceItem], around: &Surroundings) -> BTreeSet<IpAddr> {
    let kinds = spec.announce.as_ref().unwrap_or(&around.settings.announce);
    let is_taken = |item: &ServiceItem| {
        let inner = item.kind == FrontendKind::ClusterIp && spec.internal == TrafficScope::Local;
        if inner || spec.external == TrafficScope::Local {
            item.backends.iter().any(|backend| backend.local && backend.is_in_full_use())
        } else {
            item.active().next().is_some()
        }
    };
    let of_others =
        |address| around.is_of_node(address) || around.api_server.contains(&address) || around.is_of_pods(address);
    let taken = items.iter().filter(|item| item.kind != FrontendKind::NodePort && kinds.contains(&item.kind));
    taken.filter(|item| is_taken(item) && !of_others(item.key.address)).map(|item| item.key.address).collect()
}

/// What this node takes of all services, and what was told of that.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    by_address: BTreeMap<IpAddr, BTreeSet<ServiceName>>,
    dirty: BTreeSet<IpAddr>,
    told: BTreeMap<IpAddr, ServiceAddress>,
}

impl Announcements {
    /// A service's addresses were these, and are those now.
    pub(super) fn set(&mut self, service: &ServiceName, old: &BTreeSet<IpAddr>, new: &BTreeSet<IpAddr>) {
        for address in old.symmetric_difference(new) {
            let services = self.by_address.entry(*address).or_default();
            if new.contains(address) {
                services.insert(service.clone());
            } else {
                services.remove(service);
            }
            if services.is_empty() {
                self.by_address.remove(address);
            }
            self.dirty.insert(*address);
        }
    }

    /// What changed since the last call.
    pub(super) fn drain(&mut self) -> Vec<NetworkChange> {
        let mut changes = Vec::new();
        for address in std::mem::take(&mut self.dirty) {
            let new = self.by_address.get(&address).map(|services| {
                let services = services.iter().map(ToString::to_string).collect();
                ServiceAddress { address, services }
            });
            let old = match &new {
                Some(new) => self.told.insert(address, new.clone()),
                None => self.told.remove(&address),
            };
            match new {
                Some(new) if old.as_ref() != Some(&new) => changes.push(Change::Put(NetworkItem::ServiceAddress(new))),
                None if old.is_some() => changes.push(Change::Remove(NetworkKey::ServiceAddress(address))),
                _ => {}
            }
        }
        changes
    }

    /// All of it, in order of addresses.
    pub(super) fn all(&self) -> impl Iterator<Item = &ServiceAddress> {
        self.told.values()
    }
}
