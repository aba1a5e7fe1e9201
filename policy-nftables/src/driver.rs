//! The driver: what [`crate::compile`] wants, in the kernel. Never diffs items, orders or retries: the engine does.

mod read;
mod write;

use crate::compile::Compiler;
use crate::config::Config;
use crate::object::{Key, Object};
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::NodeContext;
use cni_core::policy::program::PolicyItem;
use net_linux::nft::Nft;

pub use read::observe;

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct PolicyDriver {
    compiler: Compiler,
    capabilities: Capabilities,
    nft: Nft,
}

impl PolicyDriver {
    /// A driver in the network namespace of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open(config: &Config, capabilities: Capabilities) -> Result<Self> {
        Ok(Self { compiler: Compiler::new(*config), capabilities, nft: Nft::open()? })
    }

    /// The netlink port that our own changes carry, for a drift watch.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.nft.port()
    }
}

#[async_trait]
impl Driver for PolicyDriver {
    type Item = PolicyItem;
    type Key = Key;
    type Object = Object;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, _node: &NodeContext) -> Result<()> {
        Ok(())
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        Ok(self.compiler.base())
    }

    fn compile(&self, item: &PolicyItem) -> Result<Vec<(Key, Object)>> {
        self.compiler.compile(item)
    }

    fn rank(&self, key: &Key) -> Rank {
        key.rank()
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        Ok(observe(&mut self.nft)?)
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        self.write(batch)
    }
}

/// The key of a write.
fn key_of(op: &Op<Key, Object>) -> &Key {
    match op {
        Op::Put { key, .. } | Op::Delete { key, .. } => key,
    }
}

/// A write that the kernel did not answer.
fn unanswered(key: &Key) -> Error {
    Error::new(ErrorKind::Kernel, "write", key, "the write was not answered")
}
