//! The driver: what [`crate::compile`] wants, in the kernel. Never diffs items, orders or retries: the engine does.

mod read;
mod write;

use crate::compile::Compiler;
use crate::config::Config;
use crate::connections::Touched;
use crate::object::{Key, Object};
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result, described};
use cni_core::model::NodeContext;
use cni_core::policy::program::PolicyItem;
use net_linux::nft::Nft;
use std::sync::{Arc, Mutex, PoisonError};

pub use read::observe;
pub(crate) use read::{observe_elements, observe_rules};

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct PolicyDriver {
    compiler: Compiler,
    capabilities: Capabilities,
    nft: Nft,
    touched: Arc<Mutex<Touched>>,
}

impl PolicyDriver {
    /// A driver in the network namespace of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open(config: &Config, capabilities: Capabilities) -> Result<Self> {
        let touched = Arc::new(Mutex::new(Touched::at_start()));
        Ok(Self { compiler: Compiler::new(*config), capabilities, nft: Nft::open()?, touched })
    }

    /// What the driver's writes mean for connections that are open already.
    pub(crate) fn touched(&self) -> Arc<Mutex<Touched>> {
        self.touched.clone()
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

    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        let translation = self.compiler.config().translation;
        self.compiler = Compiler::new(Config { translation, ..Config::from_json(section)? });
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

    fn describe(&self, _: &Key, from: Option<&Object>, to: Option<&Object>) -> String {
        described(from, to, about)
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        let objects = observe(&mut self.nft)?;
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).observed(&objects);
        Ok(objects)
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let results = self.write(batch);
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|op| touched.wrote(op));
        results
    }
}

/// An object for the reader of a dry run: the rules of a chain by what they are called.
fn about(object: &Object) -> String {
    match object {
        Object::Chain { rules, .. } => {
            let names = rules.iter().map(|rule| rule.comment.as_ref().map_or("-", |comment| comment.as_str()));
            format!("{} rules: {}", rules.len(), names.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
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
