//! Backends by name. Never a global list: a registry is a value that a program fills and passes on.

use super::{Datapath, Error, ErrorKind, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a backend is opened with.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The node.
    pub node: NodeContext,
    /// The backend's own section of the configuration; `Null` when there is none.
    pub config: serde_json::Value,
    /// A directory for the backend's files. It exists, belongs to this backend alone, and outlives the process.
    pub state_dir: PathBuf,
}

/// Tells that the kernel may have drifted from what we wrote.
#[async_trait]
pub trait DriftWatch: Send {
    /// Waits until something of ours, or something ours depends on, was changed by somebody else.
    ///
    /// Several changes may come as one. Each answer asks for one resync.
    ///
    /// # Errors
    /// The watch broke; the caller falls back to periodic resync.
    async fn changed(&mut self) -> Result<()>;
}

/// An opened backend, taken apart so that parts of different backends can be combined.
#[non_exhaustive]
pub struct Parts {
    /// The pod network.
    pub datapath: Box<dyn Datapath>,
    /// What this node's peers need to know of it (`vtep-mac`, `asn`, ...): they get it as [`crate::model::Peer::attributes`].
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// The MTU of pod interfaces in bytes: the underlay's less this backend's encapsulation.
    pub pod_mtu_bytes: u32,
    /// Events that ask for a resync, where the backend can tell.
    pub drift: Option<Box<dyn DriftWatch>>,
    /// What the backend wants the operator to know (an offload turned off, a fallback taken).
    pub notices: Vec<String>,
}

impl Parts {
    /// Parts with a datapath and nothing else.
    #[must_use]
    pub fn new(datapath: Box<dyn Datapath>, pod_mtu_bytes: u32) -> Self {
        Self { datapath, attributes: BTreeMap::new(), pod_mtu_bytes, drift: None, notices: Vec::new() }
    }
}

/// A backend before it is opened.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The name that configurations use.
    fn name(&self) -> &str;

    /// Checks the backend's own section of the configuration. Pure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] that names key, value and what would be right.
    fn check(&self, config: &serde_json::Value) -> Result<()>;

    /// Probes the node and opens the backend. Writes nothing to the kernel that [`super::Engine::commit`] should write.
    ///
    /// # Errors
    /// The configuration is not acceptable, or the node lacks what it needs ([`ErrorKind::Unsupported`], with the reason).
    async fn open(&self, request: OpenRequest) -> Result<Parts>;
}

/// Backends by name.
#[derive(Default, Clone)]
pub struct Registry {
    backends: BTreeMap<String, Arc<dyn Backend>>,
}

impl Registry {
    /// The same with one more backend; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, backend: impl Backend + 'static) -> Self {
        self.backends.insert(backend.name().to_owned(), Arc::new(backend));
        self
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Backend>> {
        self.backends.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            let detail = format!("no such backend in this build; there are: {}", names.join(", "));
            Error {
                field: Some("backend"),
                ..Error::new(ErrorKind::Unsupported, "open", format!("backend {name}"), detail)
            }
        })
    }
}
