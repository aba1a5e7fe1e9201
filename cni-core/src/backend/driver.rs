//! What a backend author writes for the kernel tables they own. Never ordering, retry or diffing: the engine does that.

use super::{Capabilities, Item, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::fmt;

/// Where an object stands in the order of writes.
///
/// Levels are created upwards (0 first) and deleted downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// The level: devices below neighbours, neighbours below routes.
    pub level: u8,
    /// What waits while this object could not be written.
    pub gate: Gate,
}

/// What a failed object holds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Nothing.
    Open,
    /// Objects of higher levels that come from the same item (policy before opening an endpoint), or from one of the items
    /// that want it (the tunnel device, for peers behind it).
    Item,
    /// Every object of higher levels (the device that all routes need).
    All,
}

impl Rank {
    /// A level that holds nothing back.
    #[must_use]
    pub const fn level(level: u8) -> Self {
        Self { level, gate: Gate::Open }
    }

    /// The same level as a gate.
    #[must_use]
    pub const fn gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }
}

/// What the engine knows of the kernel's present object under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known<O> {
    /// There is none.
    Absent,
    /// It is this.
    Present(O),
    /// A write of it failed: it may be there, in any state.
    Unknown,
}

/// One write. Both kinds are idempotent: after a crash the same write is made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op<K, O> {
    /// Create or change the object so that it is `object`.
    Put {
        /// Which.
        key: K,
        /// What is there now.
        present: Known<O>,
        /// What shall be there.
        object: O,
    },
    /// Remove the object; that it is gone already is a success.
    Delete {
        /// Which.
        key: K,
        /// What is there now: [`Known::Present`] or [`Known::Unknown`].
        present: Known<O>,
    },
}

/// Translator and driver for one set of kernel tables.
///
/// # Laws
/// 1. [`compile`](Self::compile) is pure and sees one item (and the node): the same input gives the same objects.
/// 2. After `apply` of a `Put` without error, [`observe`](Self::observe) gives exactly that object under that key.
/// 3. `observe` gives all objects that carry our mark, whoever made them, and never one that does not.
/// 4. `apply` answers one result per op, in order, and goes on after a failed one.
/// 5. `apply` never touches an object without our mark: a key taken by a foreign object is [`super::ErrorKind::Foreign`].
#[async_trait]
pub trait Driver: Send {
    /// Items translated here.
    type Item: Item;
    /// Identity of one kernel object. Several tables make one enum.
    type Key: Ord + Clone + fmt::Debug + fmt::Display + Send + Sync + 'static;
    /// Everything else about the object.
    type Object: Clone + PartialEq + fmt::Debug + Send + Sync + 'static;

    /// What can be done here; probed before, each "no" with its reason.
    fn capabilities(&self) -> &Capabilities;

    /// Takes in what the node now is. Memory only. On an error the former context stays in force.
    ///
    /// # Errors
    /// The node cannot carry this backend (no underlay address of a wanted family, MTU too small, ...).
    fn adopt(&mut self, node: &NodeContext) -> Result<()>;

    /// Takes in another section of the configuration. Memory only. On an error the former one stays in force.
    ///
    /// # Errors
    /// The section is not acceptable, or asks for something that can be had only by opening the driver anew
    /// ([`super::ErrorKind::Unsupported`]); names the field.
    fn configure(&mut self, section: &serde_json::Value) -> Result<()>;

    /// Objects that exist whatever the items are: the VTEP device, the masquerade chain. Pure, like `compile`.
    ///
    /// # Errors
    /// As for [`compile`](Self::compile).
    fn base(&self) -> Result<Vec<(Self::Key, Self::Object)>>;

    /// The objects of ONE item. Pure: no kernel, no clock, no memory of other items.
    ///
    /// Two items may give the same key: with equal objects it is shared, else the item with the lesser key wins
    /// and the other is reported as [`super::ErrorKind::Conflict`].
    ///
    /// # Errors
    /// The item is not acceptable; names object and field.
    fn compile(&self, item: &Self::Item) -> Result<Vec<(Self::Key, Self::Object)>>;

    /// The order of writes.
    fn rank(&self, key: &Self::Key) -> Rank;

    /// What a write means, for the reader of a dry run: from what (`None`: there is nothing, or nobody knows) to what
    /// (`None`: it goes). A driver whose objects have consequences that their contents do not show, such as a session that
    /// resets, says them here.
    fn describe(&self, key: &Self::Key, from: Option<&Self::Object>, to: Option<&Self::Object>) -> String {
        let _ = key;
        match (from, to) {
            (Some(from), Some(to)) => format!("{from:?} -> {to:?}"),
            (None, Some(object)) | (Some(object), None) => format!("{object:?}"),
            (None, None) => "unknown".to_owned(),
        }
    }

    /// Every object of ours in the kernel, nothing foreign.
    ///
    /// # Errors
    /// The kernel could not be read.
    async fn observe(&mut self) -> Result<Vec<(Self::Key, Self::Object)>>;

    /// Writes a batch, all of one level, and answers for each op in order.
    async fn apply(&mut self, batch: &[Op<Self::Key, Self::Object>]) -> Vec<Result<()>>;
}
