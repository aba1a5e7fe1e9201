//! A network's configuration as an administrator writes it: a list of plugins (CNI 1.1.0, section 1). Never reads a
//! file; `runtime` does.

use super::conf::{network_name, object, take, version_or_first};
use super::{ConfError, PluginConf, SpecVersion};
use crate::model::NetworkName;
use crate::strict::StrictError;
use serde_json::{Map, Value};

/// A network configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct NetConfList {
    /// The version to speak: the highest known one of `cniVersion` and `cniVersions`.
    pub cni_version: SpecVersion,
    /// `cniVersions` as written, newer ones than we know among them.
    pub cni_versions: Vec<String>,
    /// The network.
    pub name: NetworkName,
    /// Never call CHECK.
    pub disable_check: bool,
    /// Never call GC.
    pub disable_gc: bool,
    /// Ignore the plugins in the directory `<name>/` beside the file.
    pub load_only_inlined_plugins: bool,
    /// The plugins in the order of ADD. May be empty as long as some are to be found beside the file.
    pub plugins: Vec<PluginConf>,
    /// Fields the specification does not know.
    pub other: Map<String, Value>,
}

impl NetConfList {
    /// Reads a list. Pure, and safe on any bytes.
    ///
    /// # Errors
    /// [`ConfError`]. A list without `plugins` is fine here unless it says `loadOnlyInlinedPlugins`; an empty
    /// `plugins` is not.
    pub fn parse(json: &[u8]) -> Result<Self, ConfError> {
        let mut other = object(json)?;
        let name = network_name(take::<String>(&mut other, "", "name")?.as_deref())?;
        let first = take::<String>(&mut other, "", "cniVersion")?.filter(|version| !version.is_empty());
        let cni_versions: Vec<String> = take(&mut other, "", "cniVersions")?.unwrap_or_default();
        let cni_version = if first.is_none() && cni_versions.is_empty() {
            SpecVersion::V0_1_0
        } else {
            SpecVersion::highest(first.as_deref().into_iter().chain(cni_versions.iter().map(String::as_str)))?
        };
        let disable_check = truth(&mut other, "disableCheck")?;
        let disable_gc = truth(&mut other, "disableGC")?;
        let load_only_inlined_plugins = truth(&mut other, "loadOnlyInlinedPlugins")?;
        let plugins: Option<Vec<Map<String, Value>>> = take(&mut other, "", "plugins")?;
        let missing = ConfError::Missing { field: "plugins", right: "list at least one plugin" };
        match &plugins {
            Some(plugins) if plugins.is_empty() => return Err(missing),
            None if load_only_inlined_plugins => return Err(missing),
            _ => {}
        }
        let plugins = plugins.unwrap_or_default().into_iter().enumerate();
        let plugins = plugins
            .map(|(index, plugin)| PluginConf::from_object(plugin, &format!("plugins[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            cni_version,
            cni_versions,
            name,
            disable_check,
            disable_gc,
            load_only_inlined_plugins,
            plugins,
            other,
        })
    }

    /// The list for one plugin's configuration in the form of before 1.0.0: no `plugins`, the fields at the top.
    ///
    /// # Errors
    /// [`ConfError`].
    pub fn from_single(json: &[u8]) -> Result<Self, ConfError> {
        let object = object(json)?;
        // Both stay in the object: they are the plugin's own fields in this form.
        let version = take::<String>(&mut object.clone(), "", "cniVersion")?;
        let name = take::<String>(&mut object.clone(), "", "name")?;
        Ok(Self {
            cni_version: version_or_first(version.as_deref())?,
            cni_versions: Vec::new(),
            name: network_name(name.as_deref())?,
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: true,
            plugins: vec![PluginConf::from_object(object, "")?],
            other: Map::new(),
        })
    }

    /// As the administrator would write it, with the chosen version as `cniVersion`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        object.insert("cniVersion".into(), self.cni_version.as_str().into());
        if !self.cni_versions.is_empty() {
            object.insert("cniVersions".into(), self.cni_versions.clone().into());
        }
        object.insert("name".into(), self.name.as_str().into());
        for (key, value) in [
            ("disableCheck", self.disable_check),
            ("disableGC", self.disable_gc),
            ("loadOnlyInlinedPlugins", self.load_only_inlined_plugins),
        ] {
            if value {
                object.insert(key.into(), true.into());
            }
        }
        if !self.plugins.is_empty() {
            object.insert("plugins".into(), self.plugins.iter().map(PluginConf::to_json).collect());
        }
        object.into()
    }
}

/// A boolean. The words "true" and "false" in a string count too, as they do for libcni.
fn truth(object: &mut Map<String, Value>, key: &'static str) -> Result<bool, ConfError> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(value),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(word)) if word.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => {
            let problem = format!("expected true or false, found {other}");
            Err(ConfError::Invalid(StrictError { path: key.to_owned(), problem }))
        }
    }
}
