//! What a plugin gets on stdin, derived from its configuration (CNI 1.1.0, section 3, "Deriving request configuration
//! from plugin configuration"). Pure.

use crate::cni::conf::{ATTACHMENTS, RESERVED_PREFIX, VALID_ATTACHMENTS, attachments_to_json};
use crate::cni::{AddResult, NetConfList, PluginConf, ResultError};
use crate::model::EndpointId;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What a verb adds to the configuration.
#[derive(Default)]
pub(super) struct Extra<'a> {
    /// The result before.
    pub(super) prev_result: Option<&'a AddResult>,
    /// All that the runtime could give, whoever takes it.
    pub(super) capability_args: Option<&'a Map<String, Value>>,
    /// For GC.
    pub(super) valid: Option<&'a BTreeSet<EndpointId>>,
}

pub(super) fn derive(list: &NetConfList, plugin: &PluginConf, extra: &Extra<'_>) -> Result<Vec<u8>, ResultError> {
    let mut request = plugin.other.clone();
    // What only the runtime may say is dropped when the administrator said it. `capabilities` is not in `other`.
    request.retain(|key, _| !key.starts_with(RESERVED_PREFIX) && key != "runtimeConfig" && key != "prevResult");
    request.insert("cniVersion".into(), list.cni_version.as_str().into());
    request.insert("name".into(), list.name.as_str().into());
    request.insert("type".into(), plugin.plugin.as_str().into());
    if let Some(result) = extra.prev_result {
        request.insert("prevResult".into(), result.to_json(list.cni_version)?);
    }
    if let Some(given) = extra.capability_args {
        let taken: Map<String, Value> = given
            .iter()
            .filter(|(name, _)| plugin.capabilities.get(*name) == Some(&true))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !taken.is_empty() {
            request.insert("runtimeConfig".into(), taken.into());
        }
    }
    if let Some(valid) = extra.valid {
        request.insert(VALID_ATTACHMENTS.into(), attachments_to_json(valid));
        // The name of an earlier draft, which plugins still read and libcni still sends.
        request.insert(ATTACHMENTS.into(), attachments_to_json(valid));
    }
    Ok(Value::Object(request).to_string().into_bytes())
}
