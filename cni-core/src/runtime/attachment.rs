//! What an embedder gives to a [`super::Runtime`] and gets from it. Data only.

use crate::cni::{CniArgs, Environment};
use crate::model::EndpointId;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::time::Duration;

/// How a [`super::Runtime`] works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where plugins are, in this order. Absolute.
    pub path: Vec<PathBuf>,
    /// Where results are kept. libcni's is `/var/lib/cni`.
    pub state_directory: PathBuf,
    /// How long one plugin may take for one verb. `None`: as long as it wants.
    pub timeout: Option<Duration>,
    /// What plugins find in their environment besides the protocol's variables.
    pub environment: Environment,
}

impl Options {
    /// The process's environment, and two minutes for a plugin, as kubelet gives the whole sandbox.
    #[must_use]
    pub fn new<P: Into<PathBuf>>(path: impl IntoIterator<Item = P>, state_directory: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into_iter().map(Into::into).collect(),
            state_directory: state_directory.into(),
            timeout: Some(Duration::from_secs(120)),
            environment: Environment::of_process(),
        }
    }
}

/// One container on one network: what is the same for its ADD, CHECK and DEL.
#[derive(Debug, Clone, PartialEq)]
pub struct Attachment {
    /// Container and interface.
    pub id: EndpointId,
    /// The container's network namespace. DEL goes without when it is gone.
    pub netns: Option<PathBuf>,
    /// Arguments for every plugin (`CNI_ARGS`).
    pub args: CniArgs,
    /// Capability arguments: each plugin gets those its configuration declares.
    pub capability_args: Map<String, Value>,
}

impl Attachment {
    /// An attachment without arguments.
    #[must_use]
    pub fn new(id: EndpointId, netns: impl Into<PathBuf>) -> Self {
        Self { id, netns: Some(netns.into()), args: CniArgs::default(), capability_args: Map::new() }
    }
}

/// What STATUS found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Every plugin says that it can serve ADD.
    Ready,
    /// Nobody was asked: the network's version has no STATUS.
    NotAsked,
}

/// What GC did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Stale attachments that were known here, and got a DEL.
    pub deleted: Vec<EndpointId>,
    /// Whether the plugins were asked: not when the network says `disableGC`, or its version has no GC.
    pub plugins_asked: bool,
}
