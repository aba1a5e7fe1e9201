//! The agent's configuration file, read again while it runs. Never half a file: what needs a new start is refused whole.

use super::{AgentError, from_document, load};
use cni_core::backend::{Plan, Registry};
use cnidarian::config::ReadConfig;
use cnidarian::{Node, NodeError};
use serde_json::Value;
use std::path::PathBuf;

/// Where the configuration is, and what it was at the start.
pub(super) struct Reloader {
    file: PathBuf,
    began_with: ReadConfig,
    registry: Registry,
}

/// Why another configuration is not in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// It cannot be read.
    #[error(transparent)]
    Config(#[from] AgentError),
    /// The node does not take it.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl Reloader {
    pub(super) fn new(file: PathBuf, began_with: ReadConfig, registry: Registry) -> Self {
        Self { file, began_with, registry }
    }

    /// Reads the file again and puts it in force.
    pub(super) async fn reload(&self, node: &Node) -> Result<(), ReloadError> {
        let wanted = load(&self.file, &self.registry)?;
        self.refuse_what_is_the_agents(&wanted)?;
        Ok(node.reconfigure(&wanted.node).await?)
    }

    /// What a document would do.
    pub(super) async fn plan(&self, node: &Node, document: Value) -> Result<Plan, ReloadError> {
        let wanted = from_document(document, &self.file, &self.registry)?;
        self.refuse_what_is_the_agents(&wanted)?;
        Ok(node.plan_for(&wanted.node).await?)
    }

    fn refuse_what_is_the_agents(&self, wanted: &ReadConfig) -> Result<(), NodeError> {
        let keys = [
            ("socket", self.began_with.socket != wanted.socket),
            ("metrics", self.began_with.metrics != wanted.metrics),
            ("log", self.began_with.log != wanted.log),
        ];
        match keys.into_iter().find(|(_, differs)| *differs) {
            Some((key, _)) => Err(NodeError::NeedsStart { key }),
            None => Ok(()),
        }
    }
}
