//! An EndpointSlice of Kubernetes `discovery.k8s.io/v1`. Never which of its endpoints are used.

use super::{LEFT_OUT, family_of};
use crate::model::{Conditions, ServiceBackend, ServiceName};
use crate::policy::dialect::{Reader, present};
use crate::policy::intake::interner::Interner;
use crate::policy::model::{Effect, Family, Protocol};
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::Arc;

/// The label of an endpoint slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The annotation of a slice with the weight of its endpoints; 1 without it.
const WEIGHT: &str = "cnidarian.io/weight";
/// What an endpoint may say.
const KEYS: [&str; 8] =
    ["addresses", "conditions", "deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "zone"];

/// A port that endpoints of a slice have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct SlicePort {
    pub(in crate::service) name: Arc<str>,
    pub(in crate::service) protocol: Protocol,
    pub(in crate::service) port: u16,
}

/// For whom an endpoint is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::service) struct Hints {
    pub(in crate::service) zones: Vec<Arc<str>>,
    pub(in crate::service) nodes: Vec<Arc<str>>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct Endpoint {
    /// Its place in the slice, which has at most 1,000.
    pub(in crate::service) index: u16,
    /// Its slice's.
    pub(in crate::service) weight: u16,
    pub(in crate::service) address: IpAddr,
    pub(in crate::service) conditions: Conditions,
    pub(in crate::service) node: Option<Arc<str>>,
    pub(in crate::service) zone: Option<Arc<str>>,
    /// Most have none.
    pub(in crate::service) hints: Option<Box<Hints>>,
}

/// What one slice says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct Slice {
    pub(in crate::service) service: ServiceName,
    pub(in crate::service) family: Family,
    pub(in crate::service) ports: Vec<SlicePort>,
    pub(in crate::service) endpoints: Vec<Endpoint>,
}

/// Reads a slice; `None` for one of no service, of host names, or that is left out as a whole.
pub(in crate::service) fn slice(reader: &mut Reader<'_>, texts: &mut Interner) -> Option<Slice> {
    let object = reader.object;
    let name = object.metadata.labels.get(SERVICE_NAME)?;
    reader.only(LEFT_OUT, &object.fields, "", &["addressType", "endpoints", "ports"]);
    let words = [("IPv4", Some(Family::V4)), ("IPv6", Some(Family::V6)), ("FQDN", None)];
    let Some(kind) = object.fields.get("addressType") else {
        return reader.missing(LEFT_OUT, "", "addressType", "IPv4 or IPv6");
    };
    let family = reader.word(LEFT_OUT, kind, "addressType", &words)??;
    let ports = reader.list(LEFT_OUT, &object.fields, "", "ports")?;
    let ports = reader.each(ports, "ports", |reader, value, path| slice_port(reader, value, path, texts));
    let listed = reader.list(LEFT_OUT, &object.fields, "", "endpoints")?;
    let weight = weight(reader);
    let mut endpoints = Vec::with_capacity(listed.len());
    for (index, value) in listed.iter().enumerate() {
        let read = endpoint(reader, value, family, index, texts);
        endpoints.extend(read.map(|endpoint| Endpoint { weight, ..endpoint }));
    }
    let namespace = texts.text(object.key.namespace.as_deref().unwrap_or("default"));
    Some(Slice { service: ServiceName { namespace, name: texts.text(name) }, family, ports, endpoints })
}

/// The weight of a slice's endpoints. One that cannot be read counts as none: the endpoints serve all the same.
fn weight(reader: &mut Reader<'_>) -> u16 {
    let Some(written) = reader.object.metadata.annotations.get(WEIGHT) else { return 1 };
    let most = ServiceBackend::MOST_WEIGHT;
    let found = written.trim().parse().ok().filter(|weight| (1..=most).contains(weight));
    if found.is_none() {
        let detail = format!("is {written:?}; write a whole number from 1 to {most}");
        reader.problem(Effect::Warning, format!("metadata.annotations[{WEIGHT}]"), detail);
    }
    found.unwrap_or(1)
}

/// A port; `None` without a problem for one without a number, which is for clients that speak to endpoints themselves.
fn slice_port(reader: &mut Reader<'_>, value: &Value, path: &str, texts: &mut Interner) -> Option<SlicePort> {
    let map = reader.mapping(LEFT_OUT, value, path)?;
    reader.only(Effect::Warning, map, path, &["appProtocol", "name", "port", "protocol"]);
    let port = reader.number(LEFT_OUT, present(map, "port")?, &format!("{path}.port"), 1..=u16::MAX)?;
    let name = match present(map, "name") {
        None => "",
        Some(value) => reader.text(LEFT_OUT, value, &format!("{path}.name"))?,
    };
    let protocol = reader.protocol(LEFT_OUT, map, path)?;
    Some(SlicePort { name: texts.text(name), protocol, port })
}

/// An endpoint. There are many, so paths are made for problems only.
fn endpoint(
    reader: &mut Reader<'_>,
    value: &Value,
    family: Family,
    index: usize,
    texts: &mut Interner,
) -> Option<Endpoint> {
    let at = |field: &str| format!("endpoints[{index}]{field}");
    let Value::Object(map) = value else {
        reader.mapping(LEFT_OUT, value, &at(""));
        return None;
    };
    if map.keys().any(|key| !KEYS.contains(&key.as_str())) {
        reader.only(Effect::Warning, map, &at(""), &KEYS);
    }
    // Clients may use any of them, and the first is the one that all use.
    let Some(first) = map.get("addresses").and_then(|addresses| addresses.get(0)) else {
        return reader.missing(LEFT_OUT, &at(""), "addresses", "the endpoint's address");
    };
    let address = reader.address(first, || at(".addresses[0]"))?;
    if family_of(address) != family {
        let detail = format!("{address} is not of the slice's addressType; put it in a slice of its own");
        reader.problem(LEFT_OUT, at(".addresses[0]"), detail);
        return None;
    }
    let mut text = |reader: &mut Reader<'_>, key: &str| match present(map, key) {
        None => Some(None),
        Some(Value::String(text)) => Some(Some(texts.text(text)).filter(|text| !text.is_empty())),
        Some(value) => reader.text(LEFT_OUT, value, &at(&format!(".{key}"))).map(|_| None),
    };
    let (node, zone) = (text(reader, "nodeName")?, text(reader, "zone")?);
    Some(Endpoint {
        index: u16::try_from(index).unwrap_or(u16::MAX),
        weight: 1,
        address,
        conditions: conditions(reader, map, &at)?,
        node,
        zone,
        hints: match present(map, "hints") {
            None => None,
            Some(value) => hints(reader, value, &at(".hints"), texts),
        },
    })
}

/// What is not said of readiness is meant well: an endpoint that says nothing is ready.
fn conditions(reader: &mut Reader<'_>, map: &Map<String, Value>, at: &impl Fn(&str) -> String) -> Option<Conditions> {
    let Some(said) = present(map, "conditions") else {
        return Some(Conditions { ready: true, serving: true, terminating: false });
    };
    let Value::Object(said) = said else {
        reader.mapping(LEFT_OUT, said, &at(".conditions"));
        return None;
    };
    let mut flag = |key: &str, otherwise: bool| match present(said, key) {
        None => Some(otherwise),
        Some(Value::Bool(flag)) => Some(*flag),
        Some(value) => reader.flag(LEFT_OUT, value, &at(&format!(".conditions.{key}"))),
    };
    let ready = flag("ready", true)?;
    Some(Conditions { ready, serving: flag("serving", ready)?, terminating: flag("terminating", false)? })
}

/// `forZones` and `forNodes`. Hints that cannot be read are none: they only prefer.
fn hints(reader: &mut Reader<'_>, value: &Value, path: &str, texts: &mut Interner) -> Option<Box<Hints>> {
    let map = reader.item(Effect::Warning, value, path, &["forZones", "forNodes"])?;
    let mut names = |reader: &mut Reader<'_>, key: &str| {
        let listed = reader.list(Effect::Warning, map, path, key).unwrap_or_default();
        reader.each(listed, &format!("{path}.{key}"), |reader, value, path| {
            let name = value.get("name").and_then(Value::as_str);
            if name.is_none() {
                reader.problem(Effect::Warning, format!("{path}.name"), "is missing, so the hint says nothing");
            }
            name.map(|name| texts.text(name))
        })
    };
    let hints = Hints { zones: names(reader, "forZones"), nodes: names(reader, "forNodes") };
    (hints != Hints::default()).then(|| Box::new(hints))
}
