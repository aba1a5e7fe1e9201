//! What the suite needs of a backend and of the kernel below it. Never more: what a rig lacks, leaves laws untested.

use super::Faults;
use crate::backend::{Engine, Item, Rank, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};

/// Who wants the node's own objects, beside items.
pub const NODE: &str = "node";

/// Kernel objects: their names as reports have them, and their contents as any text that is equal when they are.
pub type Snapshot = BTreeMap<String, String>;

/// A kernel object that shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its content, as in a [`Snapshot`].
    pub content: String,
    /// Where it stands in the order of writes, where the rig knows it.
    pub rank: Option<Rank>,
    /// The items that want it; [`NODE`] is among them for the node's own.
    pub items: BTreeSet<String>,
}

/// What a set of items means, worked out without an engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What shall be there.
    pub objects: BTreeMap<String, Wanted>,
    /// Items that are not acceptable or lost a conflict.
    pub blocked: BTreeSet<String>,
}

impl Compiled {
    /// Names and contents only.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.objects.iter().map(|(name, wanted)| (name.clone(), wanted.content.clone())).collect()
    }
}

/// A backend with a kernel that outlives it.
///
/// # Laws
/// 1. `open` writes nothing, and each engine it gives works on the same kernel.
/// 2. `observe` and `compile` do not ask an engine.
/// 3. After `reset` the kernel holds nothing of ours and no stranger, and no fault is armed.
#[async_trait]
pub trait Rig<I: Item>: Send {
    /// A new engine, as a restarted process would open it, on the first of [`contexts`](Self::contexts).
    ///
    /// # Errors
    /// It cannot be opened.
    async fn open(&mut self) -> Result<Box<dyn Engine<I>>>;

    /// All of ours in the kernel.
    ///
    /// # Errors
    /// The kernel could not be read.
    async fn observe(&mut self) -> Result<Snapshot>;

    /// What the kernel shall hold for exactly these items.
    fn compile(&mut self, node: &NodeContext, items: &[I]) -> Compiled;

    /// An empty kernel.
    ///
    /// # Errors
    /// The kernel could not be emptied.
    async fn reset(&mut self) -> Result<()>;

    /// The node as it may be, at least one way. With two or more, the suite changes it under way.
    fn contexts(&self) -> Vec<NodeContext>;

    /// Items that need what [`Engine::capabilities`] says is missing.
    fn unsupported(&self) -> Vec<I>;

    /// Failing and dying on demand.
    fn faults(&self) -> Option<Faults>;

    /// Changing our objects behind our back.
    fn tamper(&mut self) -> Option<&mut dyn Tamper>;

    /// Making objects that are not ours.
    fn strangers(&mut self) -> Option<&mut dyn Strangers>;
}

/// Changes our objects behind the engine's back.
#[async_trait]
pub trait Tamper: Send {
    /// Removes one of our objects. `false` when that cannot be done to this one.
    ///
    /// # Errors
    /// The kernel refused.
    async fn remove(&mut self, object: &str) -> Result<bool>;

    /// Changes the content of one of our objects, keeping our mark. `false` when that cannot be done to this one.
    ///
    /// # Errors
    /// The kernel refused.
    async fn alter(&mut self, object: &str) -> Result<bool>;

    /// Adds an object with our mark that no item wants. `false` when there is no such thing.
    ///
    /// # Errors
    /// The kernel refused.
    async fn add(&mut self) -> Result<bool>;
}

/// Makes and lists objects that do not carry our mark.
#[async_trait]
pub trait Strangers: Send {
    /// Adds foreign objects of every kind that could be taken for ours.
    ///
    /// # Errors
    /// The kernel refused.
    async fn add(&mut self) -> Result<()>;

    /// Puts a foreign object where this one of ours belongs. `false` when the kernel can hold both.
    ///
    /// # Errors
    /// The kernel refused.
    async fn occupy(&mut self, object: &str) -> Result<bool>;

    /// Takes the occupier away again.
    ///
    /// # Errors
    /// The kernel refused.
    async fn leave(&mut self, object: &str) -> Result<()>;

    /// All foreign objects.
    ///
    /// # Errors
    /// The kernel could not be read.
    async fn list(&mut self) -> Result<Snapshot>;
}
