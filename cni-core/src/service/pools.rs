//! Pools of load balancers' addresses, and the record of who has which, as objects of a store. Never who gets one:
//! [`balancer`](super::balancer) says.

use super::balancer::AddressPool;
use crate::model::{ServiceName, never_of_pods};
use crate::store::{InvalidObject, Kind, Object, ObjectKey};
use crate::strict;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The name of the one record of a cluster.
const RECORD: &str = "services";

/// `spec` of a `LoadBalancerPool` as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawAddressPool {
    /// Its addresses: prefixes without host bits, `203.0.113.0/24`, or single addresses.
    pub prefixes: Vec<String>,
    /// Whether services that name no pool get addresses of it; `true` where nothing is written.
    #[serde(default = "yes")]
    pub automatic: bool,
}

const fn yes() -> bool {
    true
}

impl AddressPool {
    /// The key of a pool's object.
    #[must_use]
    pub fn key(name: &str) -> ObjectKey {
        ObjectKey::cluster(Kind::BALANCER_POOL, name)
    }

    /// Checks what was written.
    ///
    /// # Errors
    /// [`InvalidObject`], which names pool, field and what would be right.
    pub fn new(name: &str, raw: &RawAddressPool) -> Result<Self, InvalidObject> {
        let key = Self::key(name);
        let wrong = |index: usize, detail: String| InvalidObject::new(&key, format!("spec.prefixes[{index}]"), detail);
        if raw.prefixes.is_empty() {
            return Err(InvalidObject::new(
                &key,
                "spec.prefixes",
                "is empty; write at least one, as in 203.0.113.0/24",
            ));
        }
        let mut prefixes: Vec<IpNet> = Vec::with_capacity(raw.prefixes.len());
        for (index, text) in raw.prefixes.iter().enumerate() {
            let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let Ok(prefix) = parsed else {
                return Err(wrong(index, format!("{text:?} is no prefix; write one as in 203.0.113.0/24")));
            };
            if prefix != prefix.trunc() {
                return Err(wrong(index, format!("{prefix} has host bits; write {}", prefix.trunc())));
            }
            if let Some(special) = never_of_pods(&prefix) {
                return Err(wrong(index, format!("{prefix} overlaps {special}, which no service has")));
            }
            if let Some(other) = prefixes.iter().find(|other| other.contains(&prefix) || prefix.contains(*other)) {
                return Err(wrong(index, format!("{prefix} overlaps {other} of the same pool")));
            }
            prefixes.push(prefix);
        }
        Ok(Self { name: name.into(), prefixes, automatic: raw.automatic })
    }

    /// Reads the object of a store.
    ///
    /// # Errors
    /// As [`new`](Self::new); an unknown key is answered with the nearest right one.
    pub fn from_object(object: &Object) -> Result<Self, InvalidObject> {
        let spec = object.fields.get("spec").cloned().unwrap_or_default();
        let raw = strict::from_value(spec, "spec")
            .map_err(|error| InvalidObject::new(&object.key, "spec", error.to_string()))?;
        Self::new(&object.key.name, &raw)
    }

    /// Its object.
    #[must_use]
    pub fn to_object(&self) -> Object {
        let prefixes: Vec<String> = self.prefixes.iter().map(ToString::to_string).collect();
        let mut object = Object::new(Self::key(&self.name));
        object.fields.insert("spec".to_owned(), json!({"prefixes": prefixes, "automatic": self.automatic}));
        object
    }
}

/// Who has which addresses of the pools: one object for a cluster, so that one compare-and-swap decides who was first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalancerRecord {
    /// Addresses of each service, in order of its families. None is empty.
    pub services: BTreeMap<ServiceName, Vec<IpAddr>>,
}

#[derive(Deserialize)]
struct RawEntry {
    namespace: String,
    name: String,
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize, Default)]
struct RawRecord {
    #[serde(default)]
    services: Option<Vec<RawEntry>>,
}

impl BalancerRecord {
    /// The key of the record.
    #[must_use]
    pub fn key() -> ObjectKey {
        ObjectKey::cluster(Kind::BALANCER_ADDRESSES, RECORD)
    }

    /// Writes it into the object; fields of newer versions stay.
    pub fn write(&self, object: &mut Object) {
        let spec = object.fields.entry("spec").or_insert_with(|| Map::new().into());
        if !spec.is_object() {
            *spec = Map::new().into();
        }
        let entry = |(service, addresses): (&ServiceName, &Vec<IpAddr>)| json!({"namespace": &*service.namespace, "name": &*service.name, "addresses": addresses});
        spec["services"] = self.services.iter().map(entry).collect::<Vec<Value>>().into();
    }

    /// Its object, where there was none.
    #[must_use]
    pub fn to_object(&self) -> Object {
        let mut object = Object::new(Self::key());
        self.write(&mut object);
        object
    }
}

impl TryFrom<&Object> for BalancerRecord {
    type Error = InvalidObject;

    fn try_from(object: &Object) -> Result<Self, InvalidObject> {
        let spec = object.read::<Option<RawRecord>>("spec")?.unwrap_or_default();
        let entries = spec.services.unwrap_or_default().into_iter().filter(|entry| !entry.addresses.is_empty());
        let services = entries.map(|entry| {
            let service = ServiceName { namespace: entry.namespace.into(), name: entry.name.into() };
            (service, entry.addresses)
        });
        Ok(Self { services: services.collect() })
    }
}
