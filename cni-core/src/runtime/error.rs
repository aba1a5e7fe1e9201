//! What can go wrong for an embedder. Never hides which plugin said what.

use super::{CacheError, LoadError};
use crate::cni::{CniError, ConfError, ErrorCode, ResultError, SpecVersion, Verb};
use crate::model::{EndpointId, NetworkName, PluginType};
use std::fmt;

/// One plugin that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFailure {
    /// The plugin.
    pub plugin: PluginType,
    /// The verb it failed.
    pub verb: Verb,
    /// The attachment, for verbs that have one.
    pub id: Option<EndpointId>,
    /// What it said.
    pub error: CniError,
}

impl fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {}: {}", self.plugin, self.verb)?;
        if let Some(id) = &self.id {
            write!(f, " of {id}")?;
        }
        write!(f, ": {}", self.error)
    }
}

fn join(failures: &[PluginFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A verb that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A plugin failed, and the chain ended there.
    #[error("network {network}: {failure}")]
    Plugin {
        /// The network.
        network: NetworkName,
        /// Which plugin, and what it said.
        failure: Box<PluginFailure>,
    },
    /// An ADD failed, and every plugin of the chain was called with DEL.
    #[error(
        "network {network}: {failure}{}{}", if left.is_empty() { "" } else { "; cleaning up failed too: " }, join(left)
    )]
    Add {
        /// The network.
        network: NetworkName,
        /// Which plugin, and what it said.
        failure: Box<PluginFailure>,
        /// The plugins whose DEL failed: call [`super::Runtime::del`] again later.
        left: Vec<PluginFailure>,
    },
    /// Plugins that failed GC, or the DEL of a stale attachment. The others did theirs.
    #[error("network {network}: {}", join(failures))]
    Gc {
        /// The network.
        network: NetworkName,
        /// Every failure.
        failures: Vec<PluginFailure>,
    },
    /// The network's version has no such verb.
    #[error("network {network}: CNI {version} has no {verb}: set cniVersion to {} or newer", verb.since())]
    NoVerb {
        /// The network.
        network: NetworkName,
        /// Its version.
        version: SpecVersion,
        /// The verb.
        verb: Verb,
    },
    /// A plugin does not speak the network's version.
    #[error(
        "network {network}: plugin {plugin} does not speak CNI {version} but {}",
        crate::cni::list_of_versions(spoken)
    )]
    NotSpoken {
        /// The network.
        network: NetworkName,
        /// The plugin.
        plugin: PluginType,
        /// The network's version.
        version: SpecVersion,
        /// What it speaks, of the versions known here.
        spoken: Vec<SpecVersion>,
    },
    /// ADD of what is attached.
    #[error("network {network}: {id} is attached already: call DEL before another ADD")]
    AlreadyAttached {
        /// The network.
        network: NetworkName,
        /// The attachment.
        id: EndpointId,
    },
    /// CHECK of what is not attached.
    #[error("network {network}: {id} is not attached: there is no result of an ADD to compare with")]
    NotAttached {
        /// The network.
        network: NetworkName,
        /// The attachment.
        id: EndpointId,
    },
    /// ADD or CHECK without a network namespace.
    #[error("network {network}: {id}: {verb} needs the container's network namespace")]
    NoNetns {
        /// The network.
        network: NetworkName,
        /// The attachment.
        id: EndpointId,
        /// The verb.
        verb: Verb,
    },
    /// The result of an ADD before cannot be said in the network's version.
    #[error("network {network}: {source}")]
    Result {
        /// The network.
        network: NetworkName,
        /// Why.
        source: ResultError,
    },
    /// The configuration.
    #[error(transparent)]
    Conf(#[from] ConfError),
    /// The configuration's file.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The results on disk.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl RuntimeError {
    /// The CNI error code that tells the same: a plugin's own, where one failed.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Plugin { failure, .. } | Self::Add { failure, .. } => failure.error.code,
            Self::Gc { failures, .. } => failures.first().map_or(ErrorCode::INTERNAL, |failure| failure.error.code),
            Self::NoVerb { .. } | Self::NotSpoken { .. } => ErrorCode::IncompatibleVersion,
            Self::AlreadyAttached { .. } | Self::NoNetns { .. } => ErrorCode::InvalidEnvironment,
            Self::NotAttached { .. } => ErrorCode::UnknownContainer,
            Self::Result { .. } => ErrorCode::Decode,
            Self::Conf(error) => error.code(),
            Self::Load(_) => ErrorCode::InvalidConfig,
            Self::Cache(_) => ErrorCode::Io,
        }
    }
}
