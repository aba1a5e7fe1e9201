//! The verbs as an embedder calls them: chains of plugins, with results kept between ADD and DEL. Never enters a
//! network namespace itself.

use super::error::{PluginFailure, RuntimeError};
use super::exec::{Exec, Invocation, call};
use super::gate::{Gate, Pass};
use super::request::{Extra, derive};
use super::{Attachment, Cache, CacheError, Cached, GcReport, Options, Readiness};
use crate::cni::{AddResult, CniError, ConfError, ErrorCode, NetConfList, Parameters, PluginConf, SpecVersion, Verb};
use crate::model::{ContainerId, EndpointId, InterfaceName, PluginType};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Calls plugins as a container runtime does. Share it between threads: it keeps what may not run side by side apart.
pub struct Runtime {
    options: Options,
    exec: Arc<dyn Exec>,
    cache: Cache,
    gate: Gate,
}

impl Runtime {
    /// A runtime. Touches nothing yet.
    #[must_use]
    pub fn new(options: Options, exec: Arc<dyn Exec>) -> Self {
        let (cache, gate) = (Cache::new(&options.state_directory), Gate::new(&options.state_directory));
        Self { options, exec, cache, gate }
    }

    /// The results that are kept.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Attaches a container: every plugin in turn, each with the result of the one before. The last result is kept for
    /// CHECK and DEL before this returns.
    ///
    /// When a plugin fails, every plugin is called with DEL in reverse, since a failed ADD may have left something.
    ///
    /// # Errors
    /// [`RuntimeError::Add`] with the failing plugin, [`RuntimeError::AlreadyAttached`], and what reading and writing
    /// results gives.
    pub fn add(&self, list: &NetConfList, attachment: &Attachment) -> Result<AddResult, RuntimeError> {
        need_netns(list, attachment, Verb::Add)?;
        if list.plugins.is_empty() {
            return Err(ConfError::Missing { field: "plugins", right: "list at least one plugin" }.into());
        }
        let _pass = self.container(attachment)?;
        if self.cache.load(&list.name, &attachment.id)?.is_some() {
            return Err(RuntimeError::AlreadyAttached { network: list.name.clone(), id: attachment.id.clone() });
        }
        let mut result = None;
        for plugin in &list.plugins {
            match self.add_one(list, plugin, attachment, result.as_ref()) {
                Ok(next) => result = Some(next),
                Err(failure) => {
                    let left = self.undo(list, attachment, None);
                    return Err(RuntimeError::Add { network: list.name.clone(), failure: Box::new(failure), left });
                }
            }
        }
        let result = result.unwrap_or_default();
        self.keep(list, attachment, &result).inspect_err(|_| {
            // What cannot be remembered must not stay. The error that is returned is the one to act on.
            let _ = self.undo(list, attachment, Some(&result));
        })?;
        Ok(result)
    }

    /// Detaches a container: every plugin in reverse, each with the final result of ADD (from 0.4.0 on, when there is
    /// one). Ends at the first failure; the result is kept then, so that it can be called again.
    ///
    /// Arguments that the caller does not give are taken from ADD.
    ///
    /// # Errors
    /// [`RuntimeError::Plugin`], and what writing results gives. Not to be attached is no error.
    pub fn del(&self, list: &NetConfList, attachment: &Attachment) -> Result<(), RuntimeError> {
        let _pass = self.container(attachment)?;
        self.del_within(list, attachment).map_err(|error| match error {
            DelError::Plugin(failure) => {
                RuntimeError::Plugin { network: list.name.clone(), failure: Box::new(failure) }
            }
            DelError::Cache(error) => error.into(),
        })
    }

    /// Compares a container's attachment with the final result of ADD. Ends at the first failure.
    ///
    /// # Errors
    /// [`RuntimeError::NoVerb`] below 0.4.0, [`RuntimeError::NotAttached`], [`RuntimeError::Plugin`]. None at all when
    /// the network says `disableCheck`.
    pub fn check(&self, list: &NetConfList, attachment: &Attachment) -> Result<(), RuntimeError> {
        need_verb(list, Verb::Check)?;
        if list.disable_check {
            return Ok(());
        }
        need_netns(list, attachment, Verb::Check)?;
        let _pass = self.container(attachment)?;
        let cached = self
            .cache
            .load(&list.name, &attachment.id)?
            .ok_or_else(|| RuntimeError::NotAttached { network: list.name.clone(), id: attachment.id.clone() })?;
        let result = AddResult::from_json(cached.result.clone(), list.cni_version)
            .map_err(|source| RuntimeError::Result { network: list.name.clone(), source })?;
        let attachment = with_args_of(attachment, Some(&cached));
        for plugin in &list.plugins {
            self.attachment_verb(Verb::Check, list, plugin, &attachment, Some(&result))
                .map_err(|failure| RuntimeError::Plugin { network: list.name.clone(), failure: Box::new(failure) })?;
        }
        Ok(())
    }

    /// Asks every plugin whether ADD could be served. Ends at the first that says no, so that its code is clear.
    ///
    /// # Errors
    /// [`RuntimeError::Plugin`] with code 50 or 51.
    pub fn status(&self, list: &NetConfList) -> Result<Readiness, RuntimeError> {
        if !list.cni_version.has(Verb::Status) {
            return Ok(Readiness::NotAsked);
        }
        for plugin in &list.plugins {
            self.network_verb(Verb::Status, list, plugin, &Extra::default())
                .map_err(|failure| RuntimeError::Plugin { network: list.name.clone(), failure: Box::new(failure) })?;
        }
        Ok(Readiness::Ready)
    }

    /// Frees what belongs to none of the `valid` attachments: DEL for those known here, then GC for every plugin. Goes
    /// on after a failure. Nothing else runs meanwhile.
    ///
    /// An empty set means that no attachment is valid. Does nothing when the network says `disableGC`.
    ///
    /// # Errors
    /// [`RuntimeError::Gc`] with every failure, after all was tried.
    pub fn gc(&self, list: &NetConfList, valid: &BTreeSet<EndpointId>) -> Result<GcReport, RuntimeError> {
        let mut report = GcReport::default();
        if list.disable_gc {
            return Ok(report);
        }
        let _pass = self.gate.everything().map_err(|source| self.lock_failed(source))?;
        let mut failures = Vec::new();
        for stale in self.cache.list(&list.name)?.into_iter().filter(|cached| !valid.contains(&cached.id)) {
            let Cached { id, netns, args, capability_args, .. } = stale;
            match self.del_within(list, &Attachment { id: id.clone(), netns, args, capability_args }) {
                Ok(()) => report.deleted.push(id),
                Err(DelError::Plugin(failure)) => failures.push(failure),
                Err(DelError::Cache(error)) => return Err(error.into()),
            }
        }
        if list.cni_version.has(Verb::Gc) {
            report.plugins_asked = true;
            let extra = Extra { valid: Some(valid), ..Extra::default() };
            failures.extend(
                list.plugins.iter().filter_map(|plugin| self.network_verb(Verb::Gc, list, plugin, &extra).err()),
            );
        }
        if failures.is_empty() { Ok(report) } else { Err(RuntimeError::Gc { network: list.name.clone(), failures }) }
    }

    /// The versions a plugin speaks, as far as they are known here. One from before VERSION speaks 0.1.0.
    ///
    /// # Errors
    /// The plugin's error, or code 6 for an answer that is none.
    pub fn versions(&self, plugin: &PluginType) -> Result<Vec<SpecVersion>, CniError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            supported_versions: Vec<String>,
        }
        let parameters = Parameters {
            // Plugins from before VERSION look at these first, and only then say that they do not know the verb.
            netns: Some("/dummy".into()),
            ifname: InterfaceName::new("dummy").ok(),
            container_id: ContainerId::new("dummy").ok(),
            ..Parameters::of_network(Verb::Version, self.options.path.clone())
        };
        let stdin = json!({ "cniVersion": SpecVersion::CURRENT }).to_string().into_bytes();
        match self.call(plugin, &parameters, stdin) {
            Ok(stdout) => {
                let answer: Answer = serde_json::from_slice(&stdout).map_err(|error| {
                    CniError::new(ErrorCode::Decode, format!("plugin {plugin}: the answer to VERSION: {error}"))
                })?;
                Ok(answer.supported_versions.iter().filter_map(|version| version.parse().ok()).collect())
            }
            Err(error) if error.msg.contains("unknown CNI_COMMAND: VERSION") => Ok(vec![SpecVersion::V0_1_0]),
            Err(error) => Err(error),
        }
    }

    /// Checks that every plugin of a network is there and speaks its version.
    ///
    /// # Errors
    /// [`RuntimeError::NotSpoken`], and [`RuntimeError::Plugin`] for one that is not there or does not answer.
    pub fn validate(&self, list: &NetConfList) -> Result<(), RuntimeError> {
        for PluginConf { plugin, .. } in &list.plugins {
            let spoken = self.versions(plugin).map_err(|error| RuntimeError::Plugin {
                network: list.name.clone(),
                failure: Box::new(PluginFailure { plugin: plugin.clone(), verb: Verb::Version, id: None, error }),
            })?;
            if !spoken.contains(&list.cni_version) {
                let (network, plugin, version) = (list.name.clone(), plugin.clone(), list.cni_version);
                return Err(RuntimeError::NotSpoken { network, plugin, version, spoken });
            }
        }
        Ok(())
    }

    fn add_one(
        &self,
        list: &NetConfList,
        plugin: &PluginConf,
        attachment: &Attachment,
        previous: Option<&AddResult>,
    ) -> Result<AddResult, PluginFailure> {
        let stdout = self.attachment_verb(Verb::Add, list, plugin, attachment, previous)?;
        AddResult::parse(&stdout, list.cni_version).map_err(|error| PluginFailure {
            plugin: plugin.plugin.clone(),
            verb: Verb::Add,
            id: Some(attachment.id.clone()),
            error: CniError::new(ErrorCode::Decode, format!("its answer cannot be used: {error}"))
                .details("report it to the plugin's authors"),
        })
    }

    fn keep(&self, list: &NetConfList, attachment: &Attachment, result: &AddResult) -> Result<(), RuntimeError> {
        let result = result
            .to_json(list.cni_version)
            .map_err(|source| RuntimeError::Result { network: list.name.clone(), source })?;
        let Attachment { id, netns, args, capability_args } = attachment.clone();
        let config = list.to_json().to_string().into_bytes();
        let network = list.name.clone();
        Ok(self.cache.store(&Cached { network, id, netns, args, capability_args, config, result })?)
    }

    /// DEL after a failed ADD: every plugin, whatever the others say.
    fn undo(&self, list: &NetConfList, attachment: &Attachment, result: Option<&AddResult>) -> Vec<PluginFailure> {
        let result = result.filter(|_| list.cni_version >= SpecVersion::V0_4_0);
        let plugins = list.plugins.iter().rev();
        plugins.filter_map(|plugin| self.attachment_verb(Verb::Del, list, plugin, attachment, result).err()).collect()
    }

    /// DEL of one who may.
    fn del_within(&self, list: &NetConfList, attachment: &Attachment) -> Result<(), DelError> {
        // DEL goes on with what there is: a result that cannot be read is the same as none.
        let cached = self.cache.load(&list.name, &attachment.id).ok().flatten();
        let attachment = with_args_of(attachment, cached.as_ref());
        let result = cached
            .filter(|_| list.cni_version >= SpecVersion::V0_4_0)
            .and_then(|cached| AddResult::from_json(cached.result, list.cni_version).ok())
            .filter(|result| result.to_json(list.cni_version).is_ok());
        for plugin in list.plugins.iter().rev() {
            self.attachment_verb(Verb::Del, list, plugin, &attachment, result.as_ref()).map_err(DelError::Plugin)?;
        }
        match self.cache.load(&list.name, &attachment.id) {
            Err(CacheError::Taken { .. }) => Ok(()), // Another attachment's; it is not ours to forget.
            _ => self.cache.remove(&list.name, &attachment.id).map_err(DelError::Cache),
        }
    }

    fn attachment_verb(
        &self,
        verb: Verb,
        list: &NetConfList,
        plugin: &PluginConf,
        attachment: &Attachment,
        previous: Option<&AddResult>,
    ) -> Result<Vec<u8>, PluginFailure> {
        let parameters = Parameters {
            container_id: Some(container_of(&attachment.id)),
            ifname: Some(interface_of(&attachment.id)),
            netns: attachment.netns.clone(),
            args: attachment.args.clone(),
            ..Parameters::of_network(verb, self.options.path.clone())
        };
        let extra =
            Extra { prev_result: previous, capability_args: Some(&attachment.capability_args), ..Extra::default() };
        self.request(&parameters, list, plugin, &extra).map_err(|error| PluginFailure {
            plugin: plugin.plugin.clone(),
            verb,
            id: Some(attachment.id.clone()),
            error,
        })
    }

    fn network_verb(
        &self,
        verb: Verb,
        list: &NetConfList,
        plugin: &PluginConf,
        extra: &Extra<'_>,
    ) -> Result<(), PluginFailure> {
        let parameters = Parameters::of_network(verb, self.options.path.clone());
        self.request(&parameters, list, plugin, extra).map(drop).map_err(|error| PluginFailure {
            plugin: plugin.plugin.clone(),
            verb,
            id: None,
            error,
        })
    }

    fn request(
        &self,
        parameters: &Parameters,
        list: &NetConfList,
        plugin: &PluginConf,
        extra: &Extra<'_>,
    ) -> Result<Vec<u8>, CniError> {
        self.call(&plugin.plugin, parameters, derive(list, plugin, extra)?)
    }

    fn call(&self, plugin: &PluginType, parameters: &Parameters, stdin: Vec<u8>) -> Result<Vec<u8>, CniError> {
        let environment = parameters.to_environment(self.options.environment.clone());
        let invocation = Invocation { environment, stdin, timeout: self.options.timeout };
        call(&*self.exec, plugin, &self.options.path, &invocation)
    }

    fn container(&self, attachment: &Attachment) -> Result<Pass<'_>, RuntimeError> {
        Ok(self.gate.container(&container_of(&attachment.id)).map_err(|source| self.lock_failed(source))?)
    }

    fn lock_failed(&self, source: std::io::Error) -> CacheError {
        CacheError::Io { path: self.options.state_directory.join("lock"), source }
    }
}

enum DelError {
    Plugin(PluginFailure),
    Cache(CacheError),
}

fn need_verb(list: &NetConfList, verb: Verb) -> Result<(), RuntimeError> {
    if list.cni_version.has(verb) {
        return Ok(());
    }
    Err(RuntimeError::NoVerb { network: list.name.clone(), version: list.cni_version, verb })
}

fn need_netns(list: &NetConfList, attachment: &Attachment, verb: Verb) -> Result<(), RuntimeError> {
    if attachment.netns.is_some() {
        return Ok(());
    }
    Err(RuntimeError::NoNetns { network: list.name.clone(), id: attachment.id.clone(), verb })
}

/// All parameters but the search path have to be those of ADD (CNI 1.1.0, section 2, CHECK).
fn with_args_of(attachment: &Attachment, cached: Option<&Cached>) -> Attachment {
    let mut attachment = attachment.clone();
    if let Some(cached) = cached {
        if attachment.args.is_empty() {
            attachment.args = cached.args.clone();
        }
        if attachment.capability_args.is_empty() {
            attachment.capability_args = cached.capability_args.clone();
        }
    }
    attachment
}

fn container_of(id: &EndpointId) -> ContainerId {
    ContainerId::new(id.container()).expect("an endpoint id begins with a container id")
}

fn interface_of(id: &EndpointId) -> InterfaceName {
    InterfaceName::new(id.interface()).expect("an endpoint id ends with an interface name")
}
