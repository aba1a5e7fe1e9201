//! The result of ADD, in the form of the newest specification (1.1.0, section 5, "ADD Success"). Older forms are made
//! and read by [`super::convert`]; nothing here decides what a result should be.

use super::{CniError, ErrorCode, SpecVersion, convert};
use crate::strict::StrictError;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// What an ADD made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// Fields the specification does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Every interface of the attachment, on the host too.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// The routes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What a resolver in the container should use.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// One interface of an attachment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Fields the specification does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Its name.
    pub name: String,
    /// Its hardware address, in the device's own notation; empty where there is none.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of its network namespace as in `CNI_NETNS`; empty on the host.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The absolute path of a socket of this interface. Since 1.1.0.
    #[serde(rename = "socketPath", default, skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The platform's name of the PCI device. Since 1.1.0.
    #[serde(rename = "pciID", default, skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

impl Interface {
    /// An interface inside the container.
    #[must_use]
    pub fn in_container(name: impl Into<String>, mac: impl ToString, sandbox: impl Into<String>) -> Self {
        Self { name: name.into(), mac: mac.to_string(), sandbox: sandbox.into(), ..Self::default() }
    }

    /// An interface on the host.
    #[must_use]
    pub fn on_host(name: impl Into<String>, mac: impl ToString) -> Self {
        Self { name: name.into(), mac: mac.to_string(), ..Self::default() }
    }
}

/// One address of an attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Fields the specification does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// The index in [`AddResult::interfaces`] of the interface that has it. IPAM plugins leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<u32>,
    /// Address and prefix length: `10.1.0.5/16`, host bits kept.
    pub address: IpNet,
    /// The default gateway of its subnet.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl IpConfig {
    /// An address without interface and gateway.
    #[must_use]
    pub fn new(address: IpNet) -> Self {
        Self { other: Map::new(), interface: None, address, gateway: None }
    }
}

/// One route of an attachment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Fields the specification does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// The destination.
    pub dst: IpNet,
    /// The next hop. Without it, an address's `gateway` of the same family may be used.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// The MTU of the path in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP MSS to advertise in bytes. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The priority; lower wins. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table. Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope: 0 global, 253 link, 254 host (`rtnetlink.h`, `rt_scope_t`). Since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and a next hop.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { other: Map::new(), dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// What a resolver should use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Fields the specification does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// Addresses of servers, best first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains to search, best first.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options for the resolver.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A result that cannot be read, or not be said in a version.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Not JSON.
    #[error("result: no JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A field of a wrong type or value.
    #[error("result of CNI {version}: {source}")]
    Field {
        /// The version it was read as.
        version: SpecVersion,
        /// Which field, and what is wrong.
        source: StrictError,
    },
    /// `cniVersion` of the result cannot be used.
    #[error("result: {0}")]
    Version(#[from] super::VersionError),
    /// 0.1.0 and 0.2.0 have no result without an address.
    #[error("a result without addresses cannot be said in CNI {version}: use cniVersion 0.3.0 or newer")]
    NoAddress {
        /// The version wanted.
        version: SpecVersion,
    },
    /// An address points at an interface that is not in the result.
    #[error("ips[{ip}].interface is {index}, but the result has {count} interfaces")]
    NoSuchInterface {
        /// The index in `ips`.
        ip: usize,
        /// Where it points.
        index: u32,
        /// How many interfaces there are.
        count: usize,
    },
}

impl From<ResultError> for CniError {
    fn from(error: ResultError) -> Self {
        let code = match &error {
            ResultError::Syntax(_) | ResultError::Field { .. } => ErrorCode::Decode,
            ResultError::Version(version) => return Self::from(version.clone()),
            ResultError::NoAddress { .. } => ErrorCode::IncompatibleVersion,
            ResultError::NoSuchInterface { .. } => ErrorCode::INTERNAL,
        };
        Self::new(code, error)
    }
}

impl AddResult {
    /// The next hop of a route of this result: its own, else the gateway of the first address of its family.
    #[must_use]
    pub fn next_hop(&self, route: &Route) -> Option<IpAddr> {
        let of_family = |gateway: &IpAddr| gateway.is_ipv4() == route.dst.addr().is_ipv4();
        route.gw.or_else(|| self.ips.iter().find_map(|ip| ip.gateway.filter(of_family)))
    }

    /// Reads a result. Its own `cniVersion` says which form it has; `default` where it says nothing.
    ///
    /// # Errors
    /// [`ResultError::Syntax`], [`ResultError::Field`] and [`ResultError::Version`].
    pub fn parse(json: &[u8], default: SpecVersion) -> Result<Self, ResultError> {
        Self::from_json(serde_json::from_slice(json)?, default)
    }

    /// As [`Self::parse`], from a JSON value. JSON's `null` is the empty result, as plugins without any answer it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(json: Value, default: SpecVersion) -> Result<Self, ResultError> {
        convert::from_json(json, default)
    }

    /// The result in the form of one version, with its `cniVersion`.
    ///
    /// What the version cannot say is left out: 0.x has none of the fields that came with 1.1.0, 0.1.0 and 0.2.0 have
    /// one address per family and no interfaces. All 1.x have the same form.
    ///
    /// # Errors
    /// [`ResultError::NoAddress`] for 0.1.0 and 0.2.0.
    pub fn to_json(&self, version: SpecVersion) -> Result<Value, ResultError> {
        convert::to_json(self, version)
    }

    /// Checks what a plugin is about to print: every address points at an interface of the result, or at none.
    ///
    /// # Errors
    /// [`ResultError::NoSuchInterface`].
    pub fn check(&self) -> Result<(), ResultError> {
        let count = self.interfaces.len();
        for (ip, config) in self.ips.iter().enumerate() {
            if let Some(index) = config.interface
                && usize::try_from(index).is_ok_and(|index| index >= count)
            {
                return Err(ResultError::NoSuchInterface { ip, index, count });
            }
        }
        Ok(())
    }
}

/// Go prints an absent list as `null`.
pub(super) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go prints and reads an absent address as `""`.
pub(super) fn empty_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            serde::de::Error::custom(format!("{text:?} is no IP address: write one without a prefix, as in 10.1.0.1"))
        }),
    }
}
