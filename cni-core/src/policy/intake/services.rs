//! The addresses behind services: of the pods that a selector finds, or of endpoint slices. Never their ports:
//! policies that speak of services mean who is behind them. Whether an endpoint is ready does not count: it can be
//! talked to.

use super::interner::Interner;
use crate::policy::model::{Effect, LabelMap, Problem, Workload};
use crate::store::{Object, ObjectKey};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label of an endpoint slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Labels = BTreeMap<Arc<str>, Arc<str>>;
/// A namespace and the name of a service in it.
type Name = (Arc<str>, Arc<str>);
/// A namespace and a label of pods in it.
type Label = (Arc<str>, Arc<str>, Arc<str>);
/// The prefixes of each slice of a service.
type Slices = BTreeMap<ObjectKey, Vec<IpNet>>;

/// Where the addresses come from.
#[derive(Debug)]
enum Endpoints {
    /// Pods of its namespace that have all these labels, at least one; how often each prefix is there.
    Selected(Labels, BTreeMap<IpNet, usize>),
    /// Slices that name it.
    Sliced,
    /// A name of DNS.
    External,
}

#[derive(Debug, Default)]
pub(super) struct Services {
    services: BTreeMap<ObjectKey, Endpoints>,
    /// Services by namespace and the first label that they select: a pod finds those that may select it by its labels.
    selecting: BTreeMap<Label, BTreeSet<ObjectKey>>,
    /// Slices by namespace and name of their service.
    slices: BTreeMap<Name, Slices>,
    /// The service of each slice.
    service_of: BTreeMap<ObjectKey, Name>,
}

impl Services {
    /// Takes a service in; `pods` are those of its namespace.
    pub(super) fn put<'a>(
        &mut self,
        object: &Object,
        pods: impl Iterator<Item = &'a Arc<Workload>>,
        interner: &mut Interner,
    ) -> Vec<Problem> {
        self.remove(&object.key);
        let mut problems = Vec::new();
        let external = object.field("spec.type").and_then(Value::as_str) == Some("ExternalName");
        let mut selector = Labels::new();
        for (key, value) in object.field("spec.selector").and_then(Value::as_object).into_iter().flatten() {
            if let Some(text) = value.as_str() {
                selector.insert(interner.text(key), interner.text(text));
            } else {
                // Nothing is behind it rather than too much.
                let (path, detail) = (format!("spec.selector[{key}]"), "is no text; put it in quotes".to_owned());
                problems.push(Problem { object: object.key.clone(), path, detail, effect: Effect::LeftOut });
            }
        }
        let endpoints = match (external || !problems.is_empty(), first(&object.key, &selector)) {
            (true, _) => Endpoints::External,
            (false, None) => Endpoints::Sliced,
            (false, Some(first)) => {
                self.selecting.entry(first).or_default().insert(object.key.clone());
                let mut members = BTreeMap::new();
                for pod in pods.filter(|pod| has_all(&pod.identity.labels, &selector)) {
                    for address in &pod.addresses {
                        *members.entry(IpNet::from(*address)).or_default() += 1;
                    }
                }
                Endpoints::Selected(selector, members)
            }
        };
        self.services.insert(object.key.clone(), endpoints);
        problems
    }

    pub(super) fn remove(&mut self, key: &ObjectKey) {
        if let Some(Endpoints::Selected(selector, _)) = self.services.remove(key)
            && let Some(first) = first(key, &selector)
            && let Some(services) = self.selecting.get_mut(&first)
        {
            services.remove(key);
            if services.is_empty() {
                self.selecting.remove(&first);
            }
        }
    }

    /// The prefixes behind a service.
    pub(super) fn networks(&self, key: &ObjectKey) -> Vec<IpNet> {
        match self.services.get(key) {
            Some(Endpoints::Selected(_, members)) => members.keys().copied().collect(),
            Some(Endpoints::Sliced) => {
                let name = (key.namespace.clone().unwrap_or_default(), key.name.clone());
                let networks = self.slices.get(&name).into_iter().flat_map(BTreeMap::values).flatten();
                networks.copied().collect::<BTreeSet<_>>().into_iter().collect()
            }
            Some(Endpoints::External) | None => Vec::new(),
        }
    }

    /// A pod of a namespace is another one now. Names the services behind which something changed.
    pub(super) fn pod_changed(
        &mut self,
        namespace: &Arc<str>,
        old: Option<&Workload>,
        new: Option<&Workload>,
    ) -> BTreeSet<ObjectKey> {
        let mut changed = BTreeSet::new();
        let seen = |pod: Option<&Workload>| pod.map(|pod| (pod.identity.labels.clone(), pod.addresses.clone()));
        let (old, new) = (seen(old), seen(new));
        if old == new {
            return changed;
        }
        for (there, (labels, addresses)) in [(false, old), (true, new)].into_iter().filter_map(|(t, p)| Some((t, p?))) {
            if addresses.is_empty() {
                continue;
            }
            for (key, value) in labels.iter() {
                let label = (namespace.clone(), key.clone(), value.clone());
                for service in self.selecting.get(&label).into_iter().flatten() {
                    let Some(Endpoints::Selected(selector, members)) = self.services.get_mut(service) else { continue };
                    if has_all(&labels, selector) {
                        count(members, &addresses, there);
                        changed.insert(service.clone());
                    }
                }
            }
        }
        changed
    }

    /// Takes a slice in, or out without an object. Names the services behind which something may have changed.
    pub(super) fn slice_changed(&mut self, key: &ObjectKey, object: Option<&Object>) -> Vec<ObjectKey> {
        let mut changed = Vec::new();
        if let Some(name) = self.service_of.remove(key) {
            if let Some(slices) = self.slices.get_mut(&name) {
                slices.remove(key);
                if slices.is_empty() {
                    self.slices.remove(&name);
                }
            }
            changed.push(name);
        }
        let named = object.and_then(|object| Some((object, object.metadata.labels.get(SERVICE_NAME)?)));
        if let (Some((object, service)), Some(namespace)) = (named, &key.namespace) {
            let name: Name = (namespace.clone(), service.as_str().into());
            self.slices.entry(name.clone()).or_default().insert(key.clone(), addresses(object));
            self.service_of.insert(key.clone(), name.clone());
            changed.push(name);
        }
        changed.dedup();
        let key = |(namespace, name): Name| ObjectKey {
            kind: crate::store::Kind::new("v1", "Service"),
            namespace: Some(namespace),
            name,
        };
        changed.into_iter().map(key).collect()
    }
}

/// The addresses of a slice; host names (`addressType: FQDN`) are none.
fn addresses(slice: &Object) -> Vec<IpNet> {
    let endpoints = slice.fields.get("endpoints").and_then(Value::as_array).into_iter().flatten();
    let listed = endpoints.filter_map(|endpoint| endpoint.get("addresses")?.as_array()).flatten();
    listed.filter_map(|address| Some(IpNet::from(address.as_str()?.parse::<IpAddr>().ok()?))).collect()
}

fn first(key: &ObjectKey, selector: &Labels) -> Option<Label> {
    let (label, value) = selector.first_key_value()?;
    Some((key.namespace.clone()?, label.clone(), value.clone()))
}

fn has_all(labels: &LabelMap, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn count(members: &mut BTreeMap<IpNet, usize>, addresses: &[IpAddr], there: bool) {
    for address in addresses {
        let network = IpNet::from(*address);
        let number = members.entry(network).or_default();
        *number = if there { *number + 1 } else { number.saturating_sub(1) };
        if *number == 0 {
            members.remove(&network);
        }
    }
}
