//! The services of a cluster as one node sees them, kept up to date object by object. Never remembers what was.
//!
//! # Laws
//! 1. What is told adds up to what a fresh table tells of the objects that are there, whatever their order and history.
//! 2. The same object again tells nothing.
//! 3. A change costs what it touches: a slice its service, a Service itself and who wants the same address and port, a node
//!    those that its addresses or its zone matter to.
//! 4. No two items have one key.
//! 5. The same holds for the addresses that routers outside are told of, and for health checks.

mod announce;
mod balance;
mod claims;
mod entry;
mod frontends;
mod health;
mod surroundings;

use super::balancer::AddressPool;
use super::read::{self, Slice};
use super::settings::ServiceSettings;
use crate::backend::{Change, Item, NetworkChange, ServiceChange};
use crate::model::{FrontendKind, HealthChange, HealthCheck, ServiceAddress, ServiceItem, ServiceKey, ServiceName};
use crate::policy::dialect::Reader;
use crate::policy::intake::interner::Interner;
use crate::policy::model::{Effect, Problem};
use crate::store::resources::Node;
use crate::store::{Kind, Object, ObjectKey};
use announce::Announcements;
pub use balance::Balance;
use claims::{Claim, Claims};
use entry::Entry;
use health::HealthChecks;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use surroundings::Surroundings;

/// The service of the API server.
const API_SERVER: [&str; 2] = ["default", "kubernetes"];

/// The services of a cluster, for one node.
#[derive(Debug)]
pub struct ServiceTable {
    around: Surroundings,
    texts: Interner,
    entries: BTreeMap<ServiceName, Entry>,
    /// The service of each slice.
    slices: BTreeMap<ObjectKey, ServiceName>,
    claims: Claims,
    /// Services by addresses that others might have.
    places: BTreeSet<(IpAddr, ServiceName)>,
    /// Services whose items have to be looked at.
    dirty: BTreeSet<ServiceName>,
    /// What is wrong with objects by themselves.
    content: BTreeMap<ObjectKey, Vec<Problem>>,
    /// Services with which something else is wrong.
    troubled: BTreeSet<ServiceName>,
    announcements: Announcements,
    checks: HealthChecks,
    /// Pools of load balancers' addresses, by the names of their objects.
    pools: BTreeMap<Arc<str>, AddressPool>,
    /// Whether something was changed that addresses of load balancers depend on.
    unbalanced: bool,
}

impl ServiceTable {
    /// Knows no object. `node` is ours.
    #[must_use]
    pub fn new(node: &str, settings: ServiceSettings) -> Self {
        Self {
            around: Surroundings::new(node, settings),
            texts: Interner::default(),
            entries: BTreeMap::new(),
            slices: BTreeMap::new(),
            claims: Claims::default(),
            places: BTreeSet::new(),
            dirty: BTreeSet::new(),
            content: BTreeMap::new(),
            troubled: BTreeSet::new(),
            announcements: Announcements::default(),
            checks: HealthChecks::default(),
            pools: BTreeMap::new(),
            unbalanced: false,
        }
    }

    /// The kinds that a watch must bring.
    #[must_use]
    pub fn kinds() -> [Kind; 5] {
        [Kind::NODE, Kind::SERVICE, Kind::ENDPOINT_SLICE, Kind::BALANCER_POOL, Kind::BALANCER_ADDRESSES]
    }

    /// Where pods have addresses. Costs a look at everything when it is something else than before.
    pub fn set_pod_prefixes(&mut self, prefixes: &[IpNet]) {
        if self.around.pods == prefixes {
            return;
        }
        self.around.pods = prefixes.to_vec();
        self.unbalanced = true;
        let names: Vec<ServiceName> = self.entries.keys().cloned().collect();
        for name in names {
            self.entry(&name).look_for_strangers = true;
            self.refresh(&name);
        }
    }

    /// An object is there, or is this now. Objects of other kinds change nothing.
    pub fn put(&mut self, object: &Object) {
        let mut reader = Reader::new(object);
        let kind = &object.key.kind;
        if *kind == Kind::SERVICE {
            let spec = read::service(&mut reader, &mut self.texts);
            let name = read::name(object);
            self.unbalanced |= self.entry(&name).spec.as_deref() != spec.as_ref();
            self.entry(&name).spec = spec.map(Arc::new);
            self.entry(&name).object = Some(object.key.clone());
            self.refresh(&name);
        } else if *kind == Kind::ENDPOINT_SLICE {
            let slice = read::slice(&mut reader, &mut self.texts);
            self.set_slice(&object.key, slice);
        } else if *kind == Kind::NODE {
            match Node::try_from(object) {
                Ok(node) => self.set_node(&object.key.name, Some(&node)),
                Err(error) => {
                    reader.problem(Effect::LeftOut, error.field, error.detail);
                    self.set_node(&object.key.name, None);
                }
            }
        } else if *kind == Kind::BALANCER_POOL || *kind == Kind::BALANCER_ADDRESSES {
            // One that could not be read held everything back.
            self.unbalanced |= self.content.contains_key(&object.key);
            if let Err(error) = self.put_balancing(object) {
                reader.problem(Effect::LeftOut, error.field, error.detail);
            }
        } else {
            return;
        }
        let problems = reader.problems;
        if problems.is_empty() {
            self.content.remove(&object.key);
        } else {
            self.content.insert(object.key.clone(), problems);
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &ObjectKey) {
        let was_wrong = self.content.remove(key).is_some();
        if key.kind == Kind::SERVICE {
            let name = read::name(&Object::new(key.clone()));
            let entry = self.entry(&name);
            (entry.spec, entry.object) = (None, None);
            self.unbalanced = true;
            self.refresh(&name);
        } else if key.kind == Kind::ENDPOINT_SLICE {
            self.set_slice(key, None);
        } else if key.kind == Kind::NODE {
            self.set_node(&key.name, None);
        } else {
            self.unbalanced |= was_wrong;
            self.remove_balancing(key);
        }
    }

    /// The objects of a kind that are there, for comparison with a list: what it does not have is to be removed.
    #[must_use]
    pub fn keys_of(&self, kind: &Kind) -> BTreeSet<ObjectKey> {
        let mut keys: BTreeSet<ObjectKey> = self.content.keys().filter(|key| key.kind == *kind).cloned().collect();
        if *kind == Kind::SERVICE {
            keys.extend(self.entries.values().filter_map(|entry| entry.object.clone()));
        } else if *kind == Kind::ENDPOINT_SLICE {
            keys.extend(self.slices.keys().cloned());
        } else if *kind == Kind::NODE {
            keys.extend(self.around.nodes().map(|name| ObjectKey::cluster(Kind::NODE, name)));
        } else {
            keys.extend(self.keys_of_balancing(kind));
        }
        keys
    }

    /// What changed since the last call: first what is gone, then what is there.
    #[must_use = "the changes are given once"]
    pub fn drain(&mut self) -> Vec<ServiceChange> {
        let (mut gone, mut there) = (BTreeSet::new(), BTreeMap::<ServiceKey, ServiceItem>::new());
        for name in std::mem::take(&mut self.dirty) {
            let Some(mut entry) = self.entries.remove(&name) else { continue };
            let (taken, checks) = (entry.announced.clone(), entry.checks.clone());
            let items = entry.items(&self.around, &self.claims);
            self.announcements.set(&name, &taken, &entry.announced);
            self.checks.set(&name, &checks, &entry.checks);
            let old = std::mem::replace(&mut entry.told, items);
            for item in &entry.told {
                let before = old.binary_search_by(|before| before.key.cmp(&item.key));
                if before.ok().and_then(|at| old.get(at)) != Some(item) {
                    there.insert(item.key(), item.clone());
                }
            }
            let is_there = |key: &ServiceKey| entry.told.binary_search_by(|item| item.key.cmp(key)).is_ok();
            gone.extend(old.into_iter().map(|item| item.key).filter(|key| !is_there(key)));
            if entry.is_troubled() {
                self.troubled.insert(name.clone());
            } else {
                self.troubled.remove(&name);
            }
            if !entry.is_empty() {
                self.entries.insert(name, entry);
            }
        }
        // What one service lost and another one got is a change of one item.
        let gone = gone.into_iter().filter(|key| !there.contains_key(key)).map(Change::Remove).collect::<Vec<_>>();
        gone.into_iter().chain(there.into_values().map(Change::Put)).collect()
    }

    /// What changed since the last call of the addresses that this node takes from outside, as of the last
    /// [`drain`](Self::drain).
    #[must_use = "the changes are given once"]
    pub fn drain_addresses(&mut self) -> Vec<NetworkChange> {
        self.announcements.drain()
    }

    /// All addresses that this node takes from outside, as of the last [`drain_addresses`](Self::drain_addresses).
    pub fn addresses(&self) -> impl Iterator<Item = &ServiceAddress> {
        self.announcements.all()
    }

    /// What changed since the last call of where this node says whether it has endpoints of services, as of the last
    /// [`drain`](Self::drain).
    #[must_use = "the changes are given once"]
    pub fn drain_health_checks(&mut self) -> Vec<HealthChange> {
        self.checks.drain()
    }

    /// Where this node says whether it has endpoints of services, as of the last [`drain`](Self::drain).
    pub fn health_checks(&self) -> impl Iterator<Item = &HealthCheck> {
        self.checks.all()
    }

    /// All that is wrong now, as of the last [`drain`](Self::drain).
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.content.values().flatten().cloned().collect();
        for entry in self.troubled.iter().filter_map(|name| self.entries.get(name)) {
            problems.extend(entry.problems(&self.around));
        }
        problems.sort_by(|one, other| (&one.object, &one.path).cmp(&(&other.object, &other.path)));
        problems
    }

    /// All items as they are now, as of the last [`drain`](Self::drain).
    pub fn items(&self) -> impl Iterator<Item = &ServiceItem> {
        self.entries.values().flat_map(|entry| &entry.told)
    }

    /// The addresses of our node, of which none is where node ports are to be: then it has no node port. `None`: one is, or our
    /// node is not known yet.
    #[must_use]
    pub fn without_node_ports(&self) -> Option<Vec<IpAddr>> {
        let own: Vec<IpAddr> = self.around.own_addresses().collect();
        (!own.is_empty() && self.around.node_port_addresses().next().is_none()).then_some(own)
    }

    fn entry(&mut self, name: &ServiceName) -> &mut Entry {
        self.entries.entry(name.clone()).or_default()
    }

    fn set_slice(&mut self, key: &ObjectKey, slice: Option<Slice>) {
        let new = slice.as_ref().map(|slice| slice.service.clone());
        let old = self.slices.get(key).cloned();
        if let Some(old) = old.filter(|old| Some(old) != new.as_ref()) {
            self.slices.remove(key);
            self.entry(&old).slices.remove(&key.name);
            self.endpoints_changed(&old);
        }
        if let (Some(slice), Some(name)) = (slice, new) {
            self.slices.insert(key.clone(), name.clone());
            let known = self.entry(&name).slices.insert(key.name.clone(), slice.clone());
            if known != Some(slice) {
                self.endpoints_changed(&name);
            }
        }
    }

    fn endpoints_changed(&mut self, name: &ServiceName) {
        self.entry(name).look_for_strangers = true;
        self.dirty.insert(name.clone());
        if [&*name.namespace, &*name.name] == API_SERVER {
            let addresses = self.entry(name).addresses();
            let old = std::mem::replace(&mut self.around.api_server, addresses.clone());
            self.unbalanced = true;
            let changed: Vec<IpAddr> = old.symmetric_difference(&addresses).copied().collect();
            self.addresses_changed(&changed);
        }
    }

    fn set_node(&mut self, name: &str, node: Option<&Node>) {
        let change = self.around.set_node(name, node);
        self.unbalanced |= !change.addresses.is_empty();
        self.addresses_changed(&change.addresses);
        if change.own_addresses {
            let services: BTreeSet<ServiceName> = self.claims.of_node_ports().cloned().collect();
            services.iter().for_each(|name| self.refresh(name));
        }
        if change.own_zone {
            self.dirty.extend(self.entries.keys().cloned());
        }
    }

    /// Addresses became those of nodes or of the API server, or ceased to be.
    fn addresses_changed(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            let least = ServiceName { namespace: "".into(), name: "".into() };
            let here = self.places.range((*address, least)..).take_while(|(other, _)| other == address);
            let services: Vec<ServiceName> = here.map(|(_, service)| service.clone()).collect();
            services.iter().for_each(|name| self.refresh(name));
        }
    }

    /// What a service wants may be something else now: its claims, and whoever has the same, follow.
    fn refresh(&mut self, name: &ServiceName) {
        let Some(mut entry) = self.entries.remove(name) else { return };
        for address in std::mem::take(&mut entry.outer) {
            self.places.remove(&(address, name.clone()));
        }
        entry.outer = entry.spec.iter().flat_map(|spec| spec.outer_addresses()).collect();
        entry.outer.extend(self.around.given(name));
        self.places.extend(entry.outer.iter().map(|address| (*address, name.clone())));
        let old: BTreeMap<Claim, FrontendKind> = entry.claims().collect();
        entry.make_wishes(&self.around);
        let new: BTreeMap<Claim, FrontendKind> = entry.claims().collect();
        // Of another age, claims have another place in the order: they are made anew.
        let age = entry.spec.as_ref().and_then(|spec| spec.created.clone());
        let aged = std::mem::replace(&mut entry.age, age.clone()) != age;
        for (claim, _) in old.iter().filter(|(claim, kind)| aged || new.get(claim) != Some(kind)) {
            self.dirty.extend(self.claims.remove(claim, name));
        }
        for (claim, kind) in new.iter().filter(|(claim, kind)| aged || old.get(claim) != Some(kind)) {
            let Some(spec) = &entry.spec else { continue };
            self.dirty.extend(self.claims.add(*claim, spec.claimant(*kind)));
        }
        self.entries.insert(name.clone(), entry);
        self.dirty.insert(name.clone());
    }
}
