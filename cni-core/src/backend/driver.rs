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

impl<K, O> Op<K, O> {
    /// Which object is written.
    #[must_use]
    pub const fn key(&self) -> &K {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
        }
    }

    /// The same write in the terms of shared code that owns the object, under the key that it has there. `own` says what an
    /// object is there. `None`: what shall be put is not the shared code's. What is there now and is not, is unknown to it.
    #[must_use]
    pub fn part<L, P>(&self, key: L, own: impl Fn(&O) -> Option<P>) -> Option<Op<L, P>> {
        let known = |present: &Known<O>| match present {
            Known::Absent => Known::Absent,
            Known::Present(object) => own(object).map_or(Known::Unknown, Known::Present),
            Known::Unknown => Known::Unknown,
        };
        Some(match self {
            Self::Put { present, object, .. } => Op::Put { key, present: known(present), object: own(object)? },
            Self::Delete { present, .. } => Op::Delete { key, present: known(present) },
        })
    }
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
        described(from, to, |object| format!("{object:?}"))
    }

    /// Every object of ours in the kernel, nothing foreign.
    ///
    /// # Errors
    /// The kernel could not be read.
    async fn observe(&mut self) -> Result<Vec<(Self::Key, Self::Object)>>;

    /// Writes a batch, all of one level, and answers for each op in order.
    async fn apply(&mut self, batch: &[Op<Self::Key, Self::Object>]) -> Vec<Result<()>>;
}

/// What a write means, where it is the difference of what two objects say: for [`Driver::describe`].
pub fn described<T>(from: Option<&T>, to: Option<&T>, say: impl Fn(&T) -> String) -> String {
    match (from, to) {
        (Some(from), Some(to)) => format!("{} -> {}", say(from), say(to)),
        (None, Some(object)) | (Some(object), None) => say(object),
        (None, None) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `part` is for: an enum of several tables, of which one module owns the numbers.
    fn number(object: &Result<u8, &str>) -> Option<u8> {
        object.ok()
    }

    #[test]
    fn a_part_of_a_write_keeps_what_it_does_and_what_is_known() {
        let put = |present, object| Op::Put { key: "key", present, object };
        assert_eq!(
            put(Known::Absent, Ok(1)).part(7, number),
            Some(Op::Put { key: 7, present: Known::Absent, object: 1 })
        );
        let known = Op::Put { key: 7, present: Known::Present(2), object: 1 };
        assert_eq!(put(Known::Present(Ok(2)), Ok(1)).part(7, number), Some(known));
        let delete = Op::Delete { key: "key", present: Known::Present(Ok(2)) };
        assert_eq!(delete.part(7, number), Some(Op::Delete { key: 7, present: Known::Present(2) }));
    }

    #[test]
    fn another_tables_object_is_never_put_and_its_presence_is_unknown() {
        let foreign = Known::Present(Err("text"));
        let put = |object| Op::Put { key: "key", present: foreign.clone(), object };
        assert_eq!(put(Err("text")).part(7, number), None);
        assert_eq!(put(Ok(1)).part(7, number), Some(Op::Put { key: 7, present: Known::Unknown, object: 1 }));
        let delete = Op::Delete { key: "key", present: foreign.clone() };
        assert_eq!(delete.part(7, number), Some(Op::<_, u8>::Delete { key: 7, present: Known::Unknown }));
    }
}
