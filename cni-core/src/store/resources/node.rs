//! `v1` Node: its addresses, pod prefixes, and what our agent on it published. Never its capacity or conditions.

use super::expect_kind;
use crate::model::NodeName;
use crate::store::{InvalidObject, Kind, Object};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// What an address of a node is for. Kubernetes has more kinds; those are [`Other`](Self::Other).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// `InternalIP`: on the underlay.
    Internal,
    /// `ExternalIP`.
    External,
    /// Any other kind that holds an IP address.
    Other,
}

/// An address in `status.addresses`. Host names are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// What it is for.
    pub kind: AddressKind,
    /// The address.
    pub address: IpAddr,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `status.addresses`, in their order.
    pub addresses: Vec<NodeAddress>,
    /// `spec.podCIDRs`, or `spec.podCIDR` alone; without host bits.
    pub pod_cidrs: Vec<IpNet>,
    /// The IPv4 underlay address: the annotation, else the first `InternalIP` of that family.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 underlay address: the annotation, else the first `InternalIP` of that family.
    pub v6: Option<Ipv6Addr>,
    /// The backend that the node's agent runs.
    pub backend: Option<Arc<str>>,
    /// What that backend published: `vtep-mac`, `asn`, ...
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
}

impl Node {
    /// Annotation: the node's IPv4 underlay address, `192.0.2.7`.
    pub const V4_ADDRESS: &'static str = "cnidarian.io/v4-address";
    /// Annotation: the node's IPv6 underlay address, `2001:db8::7`.
    pub const V6_ADDRESS: &'static str = "cnidarian.io/v6-address";
    /// Annotation: the name of the backend that the node's agent runs, `vxlan`.
    pub const BACKEND: &'static str = "cnidarian.io/backend";
    /// Annotation: what that backend published, a JSON object of texts, `{"vtep-mac":"02:ab:cd:ef:01:23"}`.
    pub const ATTRIBUTES: &'static str = "cnidarian.io/attributes";

    /// Writes what an agent publishes of its node into the node's annotations; what is `None` or empty is removed.
    pub fn publish(
        object: &mut Object,
        v4: Option<Ipv4Addr>,
        v6: Option<Ipv6Addr>,
        backend: &str,
        attributes: &BTreeMap<Arc<str>, Arc<str>>,
    ) {
        let attributes = serde_json::Value::Object(
            attributes.iter().map(|(name, text)| (name.to_string(), serde_json::Value::from(&**text))).collect(),
        );
        let texts = [
            (Self::V4_ADDRESS, v4.map(|address| address.to_string())),
            (Self::V6_ADDRESS, v6.map(|address| address.to_string())),
            (Self::BACKEND, Some(backend.to_owned()).filter(|text| !text.is_empty())),
            (Self::ATTRIBUTES, Some(attributes.to_string()).filter(|text| text != "{}")),
        ];
        for (name, text) in texts {
            match text {
                Some(text) => object.metadata.annotations.insert(name.to_owned(), text),
                None => object.metadata.annotations.remove(name),
            };
        }
    }
}

#[derive(Deserialize, Default)]
struct RawSpec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
struct RawStatus {
    #[serde(default)]
    addresses: Option<Vec<RawAddress>>,
}

#[derive(Deserialize)]
struct RawAddress {
    r#type: String,
    address: String,
}

/// A prefix without host bits.
fn prefix(object: &Object, field: &str, text: &str) -> Result<IpNet, InvalidObject> {
    let wrong = |detail: String| InvalidObject::new(&object.key, field, detail);
    let net: IpNet = text
        .parse()
        .map_err(|_| wrong(format!("{text:?} is no prefix; write one as in 10.1.2.0/24 or fd00:1::/64")))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(wrong(format!("{text} has host bits; did you mean {}?", net.trunc())))
    }
}

fn address_annotation<T: std::str::FromStr>(
    object: &Object,
    name: &str,
    example: &str,
) -> Result<Option<T>, InvalidObject> {
    let Some(text) = object.metadata.annotations.get(name) else { return Ok(None) };
    let wrong = |_| {
        let field = format!("metadata.annotations[{name}]");
        InvalidObject::new(
            &object.key,
            field,
            format!("{text:?} is no address of that family; write one as in {example}"),
        )
    };
    text.parse().map(Some).map_err(wrong)
}

impl TryFrom<&Object> for Node {
    type Error = InvalidObject;

    fn try_from(object: &Object) -> Result<Self, InvalidObject> {
        expect_kind(object, &Kind::NODE)?;
        let key = &object.key;
        let name = NodeName::new(&key.name).map_err(|error| InvalidObject::new(key, "metadata.name", error))?;
        let spec = object.read::<Option<RawSpec>>("spec")?.unwrap_or_default();
        let listed = spec.pod_cidrs.unwrap_or_default();
        let single = || spec.pod_cidr.into_iter().filter(|text| !text.is_empty()).collect();
        let (field, texts): (_, Vec<String>) =
            if listed.is_empty() { ("spec.podCIDR", single()) } else { ("spec.podCIDRs", listed) };
        let pod_cidrs = texts
            .iter()
            .enumerate()
            .map(|(index, text)| prefix(object, &format!("{field}[{index}]"), text))
            .collect::<Result<_, _>>()?;
        let status = object.read::<Option<RawStatus>>("status")?.unwrap_or_default();
        let addresses: Vec<NodeAddress> = status
            .addresses
            .unwrap_or_default()
            .iter()
            .enumerate()
            .filter_map(|raw| address(object, raw))
            .collect::<Result<_, _>>()?;
        let internal =
            || addresses.iter().filter(|found| found.kind == AddressKind::Internal).map(|found| found.address);
        let first_v4 = internal().find_map(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None });
        let first_v6 = internal().find_map(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None });
        Ok(Self {
            name,
            labels: object.metadata.labels.clone(),
            annotations: object.metadata.annotations.clone(),
            v4: address_annotation(object, Self::V4_ADDRESS, "192.0.2.7")?.or(first_v4),
            v6: address_annotation(object, Self::V6_ADDRESS, "2001:db8::7")?.or(first_v6),
            backend: object.metadata.annotations.get(Self::BACKEND).map(|text| text.as_str().into()),
            attributes: attributes(object)?,
            addresses,
            pod_cidrs,
        })
    }
}

fn address(object: &Object, (index, raw): (usize, &RawAddress)) -> Option<Result<NodeAddress, InvalidObject>> {
    let kind = match raw.r#type.as_str() {
        "InternalIP" => AddressKind::Internal,
        "ExternalIP" => AddressKind::External,
        _ => return Some(Ok(NodeAddress { kind: AddressKind::Other, address: raw.address.parse().ok()? })),
    };
    Some(raw.address.parse().map(|address| NodeAddress { kind, address }).map_err(|_| {
        let detail = format!("{:?} is no IP address; write one as in 192.0.2.7", raw.address);
        InvalidObject::new(&object.key, format!("status.addresses[{index}].address"), detail)
    }))
}

fn attributes(object: &Object) -> Result<BTreeMap<Arc<str>, Arc<str>>, InvalidObject> {
    let Some(text) = object.metadata.annotations.get(Node::ATTRIBUTES) else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text).map_err(|error| {
        let field = format!("metadata.annotations[{}]", Node::ATTRIBUTES);
        InvalidObject::new(
            &object.key,
            field,
            format!("is no JSON object of texts ({error}); write it as in {{\"vtep-mac\":\"02:ab:cd:ef:01:23\"}}"),
        )
    })
}
