//! The laws of the service model. What the objects are is written as people write it.

mod announce;
mod backends;
mod bad_input;
mod balancer;
mod frontends;
mod health;
mod record;
mod walks;

use super::{ServiceSettings, ServiceTable};
use crate::backend::{Change, Item, ServiceChange};
use crate::model::{BackendUse, FrontendKind, ServiceItem, ServiceKey};
use crate::store::Object;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A table and what it told so far.
struct Told {
    table: ServiceTable,
    items: BTreeMap<ServiceKey, ServiceItem>,
}

impl Told {
    fn new(settings: ServiceSettings) -> Self {
        Self { table: ServiceTable::new("n1", settings), items: BTreeMap::new() }
    }

    fn of(objects: &[Object]) -> Self {
        let mut told = Self::new(settings());
        objects.iter().for_each(|object| told.table.put(object));
        told.drain();
        told
    }

    fn put(&mut self, object: &Object) -> usize {
        self.table.put(object);
        self.drain()
    }

    /// Takes the changes in, and answers how many they were.
    fn drain(&mut self) -> usize {
        let changes: Vec<ServiceChange> = self.table.drain();
        let number = changes.len();
        for change in changes {
            match change {
                Change::Put(item) => drop(self.items.insert(item.key(), item)),
                Change::Remove(key) => assert!(self.items.remove(&key).is_some(), "{key} was not there"),
                other => panic!("no change of services: {other:?}"),
            }
        }
        let now: BTreeMap<ServiceKey, ServiceItem> =
            self.table.items().map(|item| (item.key(), item.clone())).collect();
        assert_eq!(self.items, now, "what was told is not what is there");
        number
    }

    fn keys(&self) -> Vec<String> {
        self.items.keys().map(|key| key.to_string().replace("service ", "")).collect()
    }

    fn item(&self, address: &str) -> &ServiceItem {
        let found = self.items.values().find(|item| item.key.address.to_string() == address);
        found.unwrap_or_else(|| panic!("no {address} in {:?}", self.keys()))
    }

    /// The backends of the frontend at an address, `~` before those that drain.
    fn backends(&self, address: &str) -> Vec<String> {
        let show = |backend: &crate::model::ServiceBackend| {
            let sign = if backend.usage == BackendUse::Draining { "~" } else { "" };
            format!("{sign}{}:{}", backend.address, backend.port)
        };
        self.item(address).backends.iter().map(show).collect()
    }

    fn problems(&self) -> Vec<String> {
        self.table.problems().iter().map(ToString::to_string).collect()
    }
}

fn settings() -> ServiceSettings {
    let external_ips = vec!["198.51.100.0/24".parse().unwrap()];
    let announce = [FrontendKind::LoadBalancer].into();
    ServiceSettings { external_ips, announce, ..ServiceSettings::default() }
}

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn service(name: &str, spec: Value) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}))
}

/// A service with one port, and what else is written.
fn web(spec: Value) -> Object {
    let mut all = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    service("web", all)
}

fn slice(name: &str, of: &str, endpoints: Value) -> Object {
    slice_of("IPv4", name, of, json!([{"port": 8080}]), endpoints)
}

fn slice_of(family: &str, name: &str, of: &str, ports: Value, endpoints: Value) -> Object {
    object(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}},
        "ports": ports, "endpoints": endpoints}))
}

fn node(name: &str, address: &str, zone: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}}))
}

/// An endpoint on a node: `r`eady, `s`erving, `t`erminating.
fn endpoint(address: &str, node: &str, state: &str) -> Value {
    let is = |letter| state.contains(letter);
    json!({"addresses": [address], "nodeName": node,
        "conditions": {"ready": is('r'), "serving": is('r') || is('s'), "terminating": is('t')}})
}
