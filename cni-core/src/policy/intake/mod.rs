//! Objects of the store in, changes of the model out. Never evaluates a policy, and never remembers what was.
//!
//! ```text
//! Pod, Node, NetworkSet, ... ── facts ──┐
//! Namespace, ServiceAccount ── labels ──┼─> workloads ──┐
//! Service, EndpointSlice ─── services ──┤               ├─> ModelChange
//! NodeEndpoints, IPBlock ─── attached ──┘               │
//! policies, tiers ── dialect::read ── policies ─────────┘
//! ```
//!
//! # Laws
//! 1. The order of objects does not matter: the changes add up to [`World::read`] of the objects that are there.
//! 2. The same object again changes nothing.
//! 3. A change costs what it touches: a namespace's labels its pods, a pod's labels itself and the services that
//!    select it.
//! 4. No policy is ever in a tier that is not there.
//!
//! # What cannot be read
//! A pod or namespace that is not what its kind wants is left out and reported, also when it was right
//! before: what is in force follows from the objects that are there, not from what was. On the pod's own node that
//! closes it: an engine drops what has no program. No selector finds it, so nothing is allowed because of it. A node
//! without a program would be open, so such a node keeps its labels and has no address. Of a set of prefixes and of a
//! pod's named ports only what cannot be read is left out.

mod attached;
mod conflicts;
mod facts;
pub(crate) mod interner;
mod kinds;
mod lookup;
mod policies;
mod problems;
mod services;
#[cfg(test)]
mod tests;

use super::dialect::{self, Reader, Reading};
use super::model::{Effect, Identity, LabelMap, Problem, Tier, Workload, WorkloadKind};
use super::world::{ModelChange, World};
use crate::store::{Kind, Object, ObjectKey};
use attached::Attached;
use facts::Facts;
use interner::Interner;
use kinds::Role;
use policies::Policies;
use problems::{Cause, Problems};
use services::Services;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label that the API server gives every namespace: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What is known of all objects, for the model.
#[derive(Debug)]
pub struct Intake {
    read: fn(&Object) -> Option<Reading>,
    templates: bool,
    interner: Interner,
    /// Workloads by the object that makes them; where several make one, [`kinds::rivals`] says who speaks.
    workloads: BTreeMap<ObjectKey, Arc<Workload>>,
    /// Labels of namespaces that have an object.
    namespaces: BTreeMap<Arc<str>, LabelMap>,
    /// Labels of service accounts that have an object, by namespace and name.
    accounts: BTreeMap<(Arc<str>, Arc<str>), LabelMap>,
    /// Objects of pods by namespace and service account.
    runs_as: BTreeMap<(Arc<str>, Arc<str>), BTreeSet<ObjectKey>>,
    /// Pods by address, without those in their node's network.
    holders: BTreeSet<(IpAddr, ObjectKey)>,
    /// Nodes by address.
    nodes: BTreeSet<(IpAddr, ObjectKey)>,
    services: Services,
    attached: Attached,
    /// Pods that run and whose objects name no address.
    bare: BTreeSet<ObjectKey>,
    policies: Policies,
    /// Objects that another one may repeat.
    rivals: BTreeSet<ObjectKey>,
    problems: Problems,
}

impl Default for Intake {
    fn default() -> Self {
        Self::new()
    }
}

impl Intake {
    /// Knows no object.
    #[must_use]
    pub fn new() -> Self {
        Self::with_reader(dialect::read)
    }

    /// As [`new`](Self::new), for objects that people have not applied yet: a Deployment, Job or other owner of
    /// pods counts as one pod of its name without an address, unless there is a pod of that name.
    #[must_use]
    pub fn with_templates() -> Self {
        Self { templates: true, ..Self::new() }
    }

    fn with_reader(read: fn(&Object) -> Option<Reading>) -> Self {
        Self {
            read,
            templates: false,
            interner: Interner::default(),
            workloads: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            accounts: BTreeMap::new(),
            runs_as: BTreeMap::new(),
            holders: BTreeSet::new(),
            nodes: BTreeSet::new(),
            services: Services::default(),
            attached: Attached::default(),
            bare: BTreeSet::new(),
            policies: Policies::default(),
            rivals: BTreeSet::new(),
            problems: Problems::default(),
        }
    }

    /// The kinds that a watch must bring. Those of templates are not among them: on a cluster, pods speak for
    /// themselves.
    pub fn kinds() -> impl Iterator<Item = Kind> {
        kinds::watched()
    }

    /// All that is wrong now, by object.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Pods that claim an address of another pod.
    pub fn shared_addresses(&self) -> impl Iterator<Item = &Problem> {
        self.problems.of(Cause::Address)
    }

    /// An object is there, or is this now. Objects of other kinds change nothing.
    pub fn put(&mut self, object: &Object) -> Vec<ModelChange> {
        let (key, mut out) = (&object.key, Vec::new());
        let role = kinds::role(&key.kind);
        match role {
            Role::Template if !self.templates => return out,
            Role::Namespace => {
                let labels = self.namespace_labels(&key.name, &object.metadata.labels);
                self.namespaces.insert(key.name.clone(), labels);
                self.namespace_changed(&key.name, &mut out);
            }
            Role::ServiceAccount => {
                if let Some(namespace) = &key.namespace {
                    let labels = self.interner.labels(&object.metadata.labels);
                    self.accounts.insert((namespace.clone(), key.name.clone()), labels);
                    self.account_changed(namespace, &key.name, &mut out);
                }
            }
            Role::EndpointSlice => {
                let services = self.services.slice_changed(key, Some(object));
                self.services_changed(services, &mut out);
            }
            Role::NodeEndpoints => self.records_changed(key, Some(object), &mut out),
            Role::Block => self.block_changed(key, Some(object), &mut out),
            Role::Other => self.put_policies(object, &mut out),
            _ => {
                let mut reader = Reader::new(object);
                let facts = facts::read(&mut reader, role, &mut self.interner);
                let mut problems = reader.problems;
                let networks = (role == Role::Service).then(|| {
                    let namespace = key.namespace.clone().unwrap_or_default();
                    let pods = in_namespace(&self.workloads, &Kind::POD, &namespace).map(|(_, pod)| pod);
                    problems.extend(self.services.put(object, pods, &mut self.interner));
                    self.services.networks(key)
                });
                self.problems.set(key, Cause::Content, problems);
                self.note_bare(key, facts.as_ref().is_some_and(|facts| facts.bare));
                let workload = facts.map(|mut facts| {
                    if facts.bare {
                        facts.addresses = self.attached.addresses(key, facts.node.as_deref());
                    }
                    let networks = networks.unwrap_or_else(|| facts.networks.clone());
                    self.workload(Facts { networks, ..facts })
                });
                let there = workload.is_some();
                self.set(key, workload, &mut out);
                self.repeated(key, there);
                if role == Role::Node {
                    let pods = self.attached.node_changed(key, Some(object));
                    self.attached_changed(pods, &mut out);
                }
            }
        }
        out
    }

    /// An object is gone.
    pub fn remove(&mut self, key: &ObjectKey) -> Vec<ModelChange> {
        let mut out = Vec::new();
        self.problems.set(key, Cause::Content, Vec::new());
        match kinds::role(&key.kind) {
            Role::Namespace => {
                self.namespaces.remove(&key.name);
                self.namespace_changed(&key.name, &mut out);
            }
            Role::ServiceAccount => {
                if let Some(namespace) = &key.namespace {
                    self.accounts.remove(&(namespace.clone(), key.name.clone()));
                    self.account_changed(namespace, &key.name, &mut out);
                }
            }
            Role::EndpointSlice => {
                let services = self.services.slice_changed(key, None);
                self.services_changed(services, &mut out);
            }
            Role::NodeEndpoints => self.records_changed(key, None, &mut out),
            Role::Block => self.block_changed(key, None, &mut out),
            Role::Other => {
                self.policies.put(key, Vec::new(), Vec::new(), &mut self.problems, &mut out);
                self.repeated(key, false);
            }
            role => {
                if role == Role::Service {
                    self.services.remove(key);
                }
                self.note_bare(key, false);
                self.set(key, None, &mut out);
                if role == Role::Node {
                    let pods = self.attached.node_changed(key, None);
                    self.attached_changed(pods, &mut out);
                }
                self.repeated(key, false);
            }
        }
        out
    }

    fn put_policies(&mut self, object: &Object, out: &mut Vec<ModelChange>) {
        let key = &object.key;
        let Some(Reading { policies, mut tiers, mut problems }) = (self.read)(object) else {
            self.misspelt(key);
            return;
        };
        let all = tiers.len();
        tiers.retain(|tier| &*tier.name != Tier::CLOSED);
        if tiers.len() < all {
            let detail = format!("{:?} is the tier of policies that cannot be read; choose another name", Tier::CLOSED);
            let path = "metadata.name".to_owned();
            problems.push(Problem { object: key.clone(), path, detail, effect: Effect::LeftOut });
        }
        self.problems.set(key, Cause::Content, problems);
        self.policies.put(key, policies, tiers, &mut self.problems, out);
        self.repeated(key, true);
    }

    /// A policy whose kind or version is misspelt would be nobody's. An API server refuses it; files have none.
    fn misspelt(&mut self, key: &ObjectKey) {
        let meant = if self.templates { kinds::meant(&key.kind) } else { None };
        let problem = meant.map(|meant| {
            let (kind, api, right) = (key.kind.kind(), key.kind.api_version(), meant.api_version());
            let detail = format!("{kind} of {api} is not read here; did you mean {} of {right}?", meant.kind());
            Problem { object: key.clone(), path: "kind".to_owned(), detail, effect: Effect::LeftOut }
        });
        self.problems.set(key, Cause::Content, problem.into_iter().collect());
    }

    /// A workload with its identity as of now.
    fn workload(&mut self, facts: Facts) -> Arc<Workload> {
        let Facts { id, labels, service_account, addresses, networks, node, ports, host_network, bare: _, host } =
            facts;
        let identity = Identity {
            kind: id.kind,
            labels,
            namespace: id.namespace.clone(),
            namespace_labels: LabelMap::default(),
            service_account,
            service_account_labels: LabelMap::default(),
            name: (id.kind != WorkloadKind::Pod).then(|| id.name.clone()),
        };
        let identity = self.identity(identity);
        Arc::new(Workload { id, identity, addresses, networks, node, ports, host_network, host })
    }

    /// The identity with the labels that its namespace and service account have now.
    fn identity(&mut self, identity: Identity) -> Arc<Identity> {
        let namespace_labels = match &identity.namespace {
            None => self.interner.map(BTreeMap::new()),
            Some(namespace) => match self.namespaces.get(namespace) {
                Some(labels) => labels.clone(),
                None => self.namespace_labels(namespace, &BTreeMap::new()),
            },
        };
        let account = identity.namespace.clone().zip(identity.service_account.clone());
        let service_account_labels = match account.and_then(|account| self.accounts.get(&account)) {
            Some(labels) => labels.clone(),
            None => self.interner.map(BTreeMap::new()),
        };
        self.interner.identity(Identity { namespace_labels, service_account_labels, ..identity })
    }

    fn namespace_labels(&mut self, name: &str, labels: &BTreeMap<String, String>) -> LabelMap {
        let mut all: BTreeMap<Arc<str>, Arc<str>> =
            labels.iter().map(|(key, value)| (self.interner.text(key), self.interner.text(value))).collect();
        all.insert(self.interner.text(NAMESPACE_NAME), self.interner.text(name));
        self.interner.map(all)
    }

    fn namespace_changed(&mut self, namespace: &str, out: &mut Vec<ModelChange>) {
        let keys = |kind| in_namespace(&self.workloads, kind, namespace).map(|(key, _)| key.clone());
        let keys: Vec<ObjectKey> = kinds::scoped().iter().flat_map(keys).collect();
        self.identities_changed(keys, out);
    }

    fn account_changed(&mut self, namespace: &Arc<str>, name: &Arc<str>, out: &mut Vec<ModelChange>) {
        let keys = self.runs_as.get(&(namespace.clone(), name.clone())).cloned().unwrap_or_default();
        self.identities_changed(keys, out);
    }

    fn identities_changed(&mut self, keys: impl IntoIterator<Item = ObjectKey>, out: &mut Vec<ModelChange>) {
        for key in keys {
            let Some(old) = self.workloads.get(&key).cloned() else { continue };
            let identity = self.identity(Identity::clone(&old.identity));
            if !Arc::ptr_eq(&identity, &old.identity) {
                self.set(&key, Some(Arc::new(Workload { identity, ..Workload::clone(&old) })), out);
            }
        }
    }

    fn services_changed(&mut self, keys: impl IntoIterator<Item = ObjectKey>, out: &mut Vec<ModelChange>) {
        for key in keys {
            let Some(old) = self.workloads.get(&key).cloned() else { continue };
            let networks = self.services.networks(&key);
            self.set(&key, Some(Arc::new(Workload { networks, ..Workload::clone(&old) })), out);
        }
    }

    /// The workload of an object is this now. Says so unless another object speaks for it, and tells who depends on it.
    fn set(&mut self, key: &ObjectKey, new: Option<Arc<Workload>>, out: &mut Vec<ModelChange>) {
        let old = match &new {
            Some(workload) => self.workloads.insert(key.clone(), workload.clone()),
            None => self.workloads.remove(key),
        };
        if old == new {
            return;
        }
        let (mut before, mut after) = kinds::rivals(key);
        if !before.any(|rival| self.workloads.contains_key(&rival)) {
            let speaker = new.clone().or_else(|| after.find_map(|rival| self.workloads.get(&rival).cloned()));
            match (speaker, &old) {
                (Some(workload), _) => out.push(ModelChange::PutWorkload(workload)),
                (None, Some(old)) => out.push(ModelChange::RemoveWorkload(old.id.clone())),
                (None, None) => {}
            }
        }
        let accounts = |workload: &Option<Arc<Workload>>| {
            let identity = &workload.as_ref()?.identity;
            identity.namespace.clone().zip(identity.service_account.clone())
        };
        let (left, joined) = (accounts(&old), accounts(&new));
        if left != joined {
            if let Some(account) = left
                && let Some(pods) = self.runs_as.get_mut(&account)
            {
                pods.remove(key);
                if pods.is_empty() {
                    self.runs_as.remove(&account);
                }
            }
            if let Some(account) = joined {
                self.runs_as.entry(account).or_default().insert(key.clone());
            }
        }
        if key.kind == Kind::NODE {
            self.node_addresses_changed(key, old.as_deref(), new.as_deref());
        }
        if key.kind == Kind::POD {
            self.addresses_changed(key, old.as_deref(), new.as_deref());
            let namespace = key.namespace.clone().unwrap_or_default();
            let services = self.services.pod_changed(&namespace, old.as_deref(), new.as_deref());
            self.services_changed(services, out);
        }
    }
}

impl World {
    /// The world of objects that people have in files, and what is wrong with them; see [`Intake::with_templates`].
    #[must_use]
    pub fn read<'a>(objects: impl IntoIterator<Item = &'a Object>) -> (Self, Vec<Problem>) {
        let mut intake = Intake::with_templates();
        let mut world = Self::default();
        for object in objects {
            intake.put(object).into_iter().for_each(|change| world.apply(change));
        }
        (world, intake.problems().cloned().collect())
    }
}

/// Workloads of a kind of object in a namespace.
fn in_namespace<'a>(
    workloads: &'a BTreeMap<ObjectKey, Arc<Workload>>,
    kind: &'a Kind,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectKey, &'a Arc<Workload>)> {
    let first = ObjectKey { kind: kind.clone(), namespace: Some(namespace.into()), name: Arc::default() };
    let here = move |key: &ObjectKey| key.kind == *kind && key.namespace.as_deref() == Some(namespace);
    workloads.range(first..).take_while(move |(key, _)| here(key))
}
