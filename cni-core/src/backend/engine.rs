//! What agents, embedders and tests hold of a backend. Never how it is done: that is the `Reconciler`.

use super::{Capabilities, CommitReport, Drift, Plan, Result};
use crate::model::{NetworkItem, NodeContext, ServiceItem};
use async_trait::async_trait;
use std::fmt;

/// One thing of the desired state, with a key that stays the same while its content changes.
pub trait Item: Clone + Send + Sync + 'static {
    /// Which item.
    type Key: Ord + Clone + fmt::Debug + fmt::Display + Send + Sync + 'static;

    /// The key of this item.
    fn key(&self) -> Self::Key;
}

/// One change of the desired state.
#[derive(Debug, Clone)]
pub enum Change<I: Item> {
    /// The item exists, with this content.
    Put(I),
    /// The item does not exist any more. Removing an unknown item is `Ok`.
    Remove(I::Key),
    /// The node itself changed (underlay address, MTU, masquerading): every item compiles again.
    Node(NodeContext),
    /// The operator changed this part's own section of the configuration: every item compiles again. What can be had only by
    /// opening the backend anew is [`super::ErrorKind::Unsupported`], and the former section stays in force.
    Config(serde_json::Value),
    /// The first full state has been staged. Nothing is deleted from the kernel before this.
    InSync,
}

/// A change of the pod network.
pub type NetworkChange = Change<NetworkItem>;

/// A change of services.
pub type ServiceChange = Change<ServiceItem>;

/// The verbs of every part of a backend.
///
/// # Laws
/// The conformance suite (`testkit`) tests each of them.
/// 1. A change costs O(change), not O(state).
/// 2. After a commit without failures the kernel holds what was compiled; a second commit writes nothing.
/// 3. Foreign kernel objects survive everything; what a crashed predecessor left is found.
/// 4. One failing object does not stop the others, except behind a failed gate.
/// 5. Nothing is deleted before [`Change::InSync`].
/// 6. Any order, splitting, repetition or squashing of the same changes ends in the same kernel state.
/// 7. Kill at any write, restart, stage the state again, commit: same end state.
/// 8. A missing capability is an error with a reason before anything is touched, never a silent `Ok`.
#[async_trait]
pub trait Engine<I: Item>: Send {
    /// What this part can do here, each "no" with its reason. Probed when it was opened.
    fn capabilities(&self) -> &Capabilities;

    /// Takes a change in. Memory only, O(change).
    ///
    /// # Errors
    /// The item does not compile (the error names object and field). It then counts as staged with nothing
    /// compiled: objects of its earlier content go with the next commit, and reports name it until it is put
    /// right or removed, whatever the history.
    fn stage(&mut self, change: Change<I>) -> Result<()>;

    /// Dry run: what [`commit`](Self::commit) would do now, as far as the kernel is known from the last resync.
    fn plan(&self) -> Plan;

    /// Writes what was staged and what failed earlier. Failures stay staged and are tried again by the next commit.
    async fn commit(&mut self) -> CommitReport;

    /// Reads the kernel back, says what differed from what we last wrote, and repairs it.
    ///
    /// # Errors
    /// The kernel could not be read; nothing was written.
    async fn resync(&mut self) -> Result<Drift>;
}

/// The pod network's part of a backend.
pub trait Datapath: Engine<NetworkItem> {}

impl<E: Engine<NetworkItem>> Datapath for E {}

/// The services' part of a backend: what turns a service's address into one of its endpoints.
pub trait ServiceProxy: Engine<ServiceItem> {}

impl<E: Engine<ServiceItem>> ServiceProxy for E {}
