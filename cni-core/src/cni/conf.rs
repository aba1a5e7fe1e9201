//! One plugin's configuration, in the two shapes it has: as an administrator writes it in a list ([`PluginConf`]) and
//! as a plugin gets it on stdin ([`NetConf`]). Never reads a file.

use super::{AddResult, CniError, Dns, ErrorCode, ResultError, SpecVersion, VersionError};
use crate::model::{EndpointId, InvalidName, NetworkName, PluginType};
use crate::strict::{self, StrictError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Keys with this prefix are the runtime's, never the administrator's (CNI 1.1.0, section 1, "Reserved keys").
pub(crate) const RESERVED_PREFIX: &str = "cni.dev/";
/// The GC key of the specification.
pub(crate) const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";
/// The GC key that an earlier draft had; libcni sends both.
pub(crate) const ATTACHMENTS: &str = "cni.dev/attachments";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// Not JSON.
    #[error("network configuration: no JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A field of the specification has a wrong type.
    #[error("network configuration: {0}")]
    Type(#[from] StrictError),
    /// A field that must be there is missing or empty.
    #[error("network configuration: {field} is missing: {right}")]
    Missing {
        /// The field.
        field: &'static str,
        /// What would be right.
        right: &'static str,
    },
    /// A name outside its alphabet.
    #[error("network configuration: {field}: {source}")]
    Name {
        /// The field.
        field: &'static str,
        /// What is wrong.
        source: InvalidName,
    },
    /// `cniVersion` or `cniVersions`.
    #[error("network configuration: cniVersion: {0}")]
    Version(#[from] VersionError),
    /// `prevResult`.
    #[error("network configuration: prevResult: {0}")]
    PrevResult(#[source] ResultError),
    /// A field that a plugin does not know.
    #[error("network configuration: {}: {} is not supported: {}", source.path, excerpt(value), source.problem)]
    Unsupported {
        /// Its value.
        value: Value,
        /// The field, and what is known instead.
        source: StrictError,
    },
    /// A plugin's own field with a wrong value, or a truth value that is none.
    #[error("network configuration: {0}")]
    Invalid(#[source] StrictError),
}

impl ConfError {
    /// The CNI error code of it: the one table from configuration errors to codes.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::PrevResult(ResultError::NoSuchInterface { .. }) => ErrorCode::InvalidConfig,
            Self::Syntax(_) | Self::Type(_) | Self::PrevResult(_) | Self::Version(VersionError::Malformed { .. }) => {
                ErrorCode::Decode
            }
            Self::Version(VersionError::Unknown { .. }) => ErrorCode::IncompatibleVersion,
            Self::Missing { .. } | Self::Name { .. } | Self::Invalid(_) => ErrorCode::InvalidConfig,
            Self::Unsupported { .. } => ErrorCode::UnsupportedField,
        }
    }
}

/// A value as far as a message has room for it.
fn excerpt(value: &Value) -> String {
    const MOST_BYTES: usize = 200;
    let mut text = value.to_string();
    if text.len() > MOST_BYTES {
        text.truncate(text.floor_char_boundary(MOST_BYTES));
        text.push_str("...");
    }
    text
}

impl From<ConfError> for CniError {
    fn from(error: ConfError) -> Self {
        Self::new(error.code(), error)
            .details("correct the configuration of this network (usually in /etc/cni/net.d) and try again")
    }
}

/// The `ipam` section: which plugin to delegate to, and its own fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IpamConf {
    /// The plugin; `None` for `{}`, which asks for no address management.
    pub plugin: Option<PluginType>,
    /// The IPAM plugin's own fields.
    pub other: Map<String, Value>,
}

impl IpamConf {
    /// The IPAM plugin's own fields as its own type, which may `deny_unknown_fields`.
    ///
    /// # Errors
    /// [`ConfError::Unsupported`] for a field the type does not know, [`ConfError::Invalid`] for a wrong value.
    pub fn own<T: DeserializeOwned>(&self) -> Result<T, ConfError> {
        own(self.other.clone(), "ipam")
    }

    fn parse(mut object: Map<String, Value>) -> Result<Self, ConfError> {
        let plugin = match object.remove("type") {
            None | Some(Value::Null) => None,
            Some(value) => match strict::from_value::<String>(value, "ipam.type")? {
                name if name.is_empty() => None,
                name => Some(PluginType::new(&name).map_err(|source| ConfError::Name { field: "ipam.type", source })?),
            },
        };
        Ok(Self { plugin, other: object })
    }

    fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        if let Some(plugin) = &self.plugin {
            object.insert("type".into(), plugin.as_str().into());
        }
        object.into()
    }
}

/// What a plugin gets on stdin: one plugin's configuration with what the runtime put in (CNI 1.1.0, section 3,
/// "Deriving request configuration").
#[derive(Debug, Clone, PartialEq)]
pub struct NetConf {
    /// The version spoken. 0.1.0 where the configuration says nothing.
    pub cni_version: SpecVersion,
    /// The network.
    pub name: NetworkName,
    /// The plugin that was called by the runtime. In a delegated call, the one that delegates.
    pub plugin: PluginType,
    /// Where addresses come from.
    pub ipam: Option<IpamConf>,
    /// What a resolver should use.
    pub dns: Option<Dns>,
    /// The conventional `args` object: `args.cni` has well-known arguments (CNI CONVENTIONS, "args in network config").
    pub args: Option<Value>,
    /// The capability arguments meant for this plugin.
    pub runtime_config: Map<String, Value>,
    /// The result of the plugin before (ADD), or of the whole ADD (CHECK, DEL).
    pub prev_result: Option<AddResult>,
    /// Which attachments are valid, for GC. `None`: the runtime did not say, so nothing may be freed. Empty: none is.
    pub valid_attachments: Option<BTreeSet<EndpointId>>,
    /// Every other field, the plugin's own among them.
    pub other: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNetConf {
    cni_version: Option<String>,
    name: Option<String>,
    r#type: Option<String>,
    ipam: Option<Map<String, Value>>,
    dns: Option<Dns>,
    args: Option<Value>,
    runtime_config: Option<Map<String, Value>>,
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<RawAttachment>>,
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<RawAttachment>>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawAttachment {
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
}

impl NetConf {
    /// Reads what a runtime wrote to stdin. Pure, and safe on any bytes.
    ///
    /// # Errors
    /// [`ConfError`]; nothing of the configuration is used then.
    pub fn parse(json: &[u8]) -> Result<Self, ConfError> {
        Self::from_json(serde_json::from_slice(json)?)
    }

    /// As [`Self::parse`], from a JSON value.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(json: Value) -> Result<Self, ConfError> {
        Self::checked(strict::from_value(json, "")?)
    }

    fn checked(raw: RawNetConf) -> Result<Self, ConfError> {
        let cni_version = version_or_first(raw.cni_version.as_deref())?;
        // Both GC keys carry the same list. Where they do not, what either names is kept: freeing is not undone.
        let valid_attachments = match (raw.valid_attachments, raw.attachments) {
            (None, None) => None,
            (one, other) => Some(
                one.into_iter()
                    .chain(other)
                    .flatten()
                    .map(|RawAttachment { container_id, ifname }| EndpointId::of(&container_id, &ifname))
                    .collect::<Result<_, _>>()
                    .map_err(|source| ConfError::Name { field: VALID_ATTACHMENTS, source })?,
            ),
        };
        Ok(Self {
            cni_version,
            name: network_name(raw.name.as_deref())?,
            plugin: plugin_type(raw.r#type.as_deref())?,
            ipam: raw.ipam.map(IpamConf::parse).transpose()?,
            dns: raw.dns,
            args: raw.args,
            runtime_config: raw.runtime_config.unwrap_or_default(),
            prev_result: raw
                .prev_result
                .map(|result| {
                    let result = AddResult::from_json(result, cni_version)?;
                    // An index without an interface would point at one that is added behind it.
                    result.check().map(|()| result)
                })
                .transpose()
                .map_err(ConfError::PrevResult)?,
            valid_attachments,
            other: raw.other,
        })
    }

    /// The configuration as a plugin reads it.
    ///
    /// # Errors
    /// [`ConfError::PrevResult`] when `prev_result` cannot be said in `cni_version`.
    pub fn to_json(&self) -> Result<Value, ConfError> {
        let mut object = self.other.clone();
        object.insert("cniVersion".into(), self.cni_version.as_str().into());
        object.insert("name".into(), self.name.as_str().into());
        object.insert("type".into(), self.plugin.as_str().into());
        if let Some(ipam) = &self.ipam {
            object.insert("ipam".into(), ipam.to_json());
        }
        if let Some(dns) = &self.dns {
            object.insert("dns".into(), serde_json::to_value(dns)?);
        }
        if let Some(args) = &self.args {
            object.insert("args".into(), args.clone());
        }
        if !self.runtime_config.is_empty() {
            object.insert("runtimeConfig".into(), self.runtime_config.clone().into());
        }
        if let Some(result) = &self.prev_result {
            object.insert("prevResult".into(), result.to_json(self.cni_version).map_err(ConfError::PrevResult)?);
        }
        if let Some(attachments) = &self.valid_attachments {
            object.insert(VALID_ATTACHMENTS.into(), attachments_to_json(attachments));
            object.insert(ATTACHMENTS.into(), attachments_to_json(attachments));
        }
        Ok(object.into())
    }

    /// The plugin's own fields as its own type, which may `deny_unknown_fields`: what the protocol defines is not in
    /// it. A plugin that reads well-known fields such as `ipMasq` declares them as its own.
    ///
    /// # Errors
    /// [`ConfError::Unsupported`] for a field the type does not know, [`ConfError::Invalid`] for a wrong value.
    pub fn own<T: DeserializeOwned>(&self) -> Result<T, ConfError> {
        let mut fields = self.other.clone();
        // libcni passes `capabilities` on, against the specification.
        fields.retain(|key, _| key != "capabilities" && !key.starts_with(RESERVED_PREFIX));
        own(fields, "")
    }

    /// The conventional capability argument `ips`, or another one, as a type of the plugin's.
    ///
    /// # Errors
    /// [`ConfError::Invalid`] for a wrong value.
    pub fn capability<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ConfError> {
        match self.runtime_config.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => strict::from_value(value.clone(), &format!("runtimeConfig.{name}"))
                .map(Some)
                .map_err(ConfError::Invalid),
        }
    }
}

/// One element of a list's `plugins`: as the administrator wrote it, nothing lost.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// The plugin's program.
    pub plugin: PluginType,
    /// Which capability arguments it takes. Never passed to it.
    pub capabilities: BTreeMap<String, bool>,
    /// Every other field.
    pub other: Map<String, Value>,
}

impl PluginConf {
    /// Reads one plugin's configuration, as in `<network>/<any>.conf` beside a list. Pure, and safe on any bytes.
    ///
    /// # Errors
    /// [`ConfError`].
    pub fn parse(json: &[u8]) -> Result<Self, ConfError> {
        Self::from_object(object(json)?, "")
    }

    /// `root` is where the object stands, for errors.
    pub(super) fn from_object(mut other: Map<String, Value>, root: &str) -> Result<Self, ConfError> {
        let plugin: Option<String> = take(&mut other, root, "type")?;
        let capabilities: Option<_> = take(&mut other, root, "capabilities")?;
        Ok(Self { plugin: plugin_type(plugin.as_deref())?, capabilities: capabilities.unwrap_or_default(), other })
    }

    /// As the administrator would write it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        object.insert("type".into(), self.plugin.as_str().into());
        if !self.capabilities.is_empty() {
            let capabilities: Map<String, Value> =
                self.capabilities.iter().map(|(name, takes)| (name.clone(), (*takes).into())).collect();
            object.insert("capabilities".into(), capabilities.into());
        }
        object.into()
    }
}

/// The list of valid attachments as GC carries it.
pub(crate) fn attachments_to_json(attachments: &BTreeSet<EndpointId>) -> Value {
    attachments
        .iter()
        .map(|id| serde_json::json!({ "containerID": id.container(), "ifname": id.interface() }))
        .collect()
}

/// A configuration without `cniVersion` is one of 0.1.0, which had no such field for plugins to look at.
pub(super) fn version_or_first(text: Option<&str>) -> Result<SpecVersion, VersionError> {
    text.filter(|text| !text.is_empty()).map_or(Ok(SpecVersion::V0_1_0), str::parse)
}

pub(super) fn network_name(name: Option<&str>) -> Result<NetworkName, ConfError> {
    let missing = ConfError::Missing { field: "name", right: "give the network a name" };
    let name = name.filter(|name| !name.is_empty()).ok_or(missing)?;
    NetworkName::new(name).map_err(|source| ConfError::Name { field: "name", source })
}

fn plugin_type(name: Option<&str>) -> Result<PluginType, ConfError> {
    let missing = ConfError::Missing { field: "type", right: "name the plugin's program" };
    let name = name.filter(|name| !name.is_empty()).ok_or(missing)?;
    PluginType::new(name).map_err(|source| ConfError::Name { field: "type", source })
}

/// An object and nothing else.
pub(super) fn object(json: &[u8]) -> Result<Map<String, Value>, ConfError> {
    Ok(strict::from_value(serde_json::from_slice(json)?, "")?)
}

/// Takes a field out, `null` and absent being the same.
pub(super) fn take<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    root: &str,
    key: &str,
) -> Result<Option<T>, ConfError> {
    let Some(value) = object.remove(key) else { return Ok(None) };
    Ok(strict::from_value(value, &format!("{root}.{key}"))?)
}

fn own<T: DeserializeOwned>(fields: Map<String, Value>, root: &str) -> Result<T, ConfError> {
    let fields = Value::Object(fields);
    strict::from_value(fields.clone(), root).map_err(|source| {
        if !source.problem.starts_with("no such key") {
            return ConfError::Invalid(source);
        }
        // The specification wants key and value of an unsupported field (1.1.0, section 5, code 2).
        let path = source.path.strip_prefix(root).unwrap_or(&source.path).trim_start_matches('.');
        let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
        let value = fields.pointer(&pointer).cloned().unwrap_or_default();
        ConfError::Unsupported { value, source }
    })
}
