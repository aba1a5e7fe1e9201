//! What an engine tells of its decisions, before anybody knows whose addresses they are. Never a label.

use super::packet::Packet;
use super::record::{By, Ended, Reason, Translated, Verdict};
use crate::backend::Result;
use crate::policy::model::Direction;
use async_trait::async_trait;
use serde::Deserialize;
use std::sync::Arc;

/// Which decisions an engine tells of, as its configuration names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// None.
    None,
    /// What is denied, or would be by staged policies.
    #[default]
    Denied,
    /// Every decision; and of engines that count, what passed in each connection when it is over.
    All,
}

/// One decision, as an engine tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When, in microseconds since the Unix epoch; `None`: the engine does not know, it was a moment ago.
    pub time_unix_us: Option<u64>,
    /// Seen from the pod, or from the node itself, where that is known.
    pub direction: Option<Direction>,
    /// What was decided.
    pub verdict: Verdict,
    /// Why it was dropped, or would be.
    pub reason: Option<Reason>,
    /// The packet; `None`: it cannot be read.
    pub packet: Option<Packet>,
    /// The node's interface that it came in.
    pub input: Option<Arc<str>>,
    /// The node's interface that it goes out.
    pub output: Option<Arc<str>>,
    /// Identities of source and destination, of engines that have such.
    pub identities: [Option<u32>; 2],
    /// What decided. Engines need not know the tier of a policy.
    pub by: By,
    /// What the client asked for.
    pub translated: Option<Translated>,
    /// It tells that a connection is over.
    pub ended: Option<Ended>,
    /// It is one packet of an open connection of so many, chosen by chance.
    pub sampled: Option<u32>,
    /// Packets that the event stands for, and no other event does but for what is sampled.
    pub packets: u64,
    /// Their bytes, with the network's header.
    pub bytes: u64,
}

/// What a source tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A decision.
    Event(Box<Event>),
    /// So many were lost here: they came faster than they were read.
    Lost(u64),
}

/// Reads an engine's decisions beside the engine.
///
/// # Laws
/// 1. Each decision that the configuration of the engine asks for is told once, or is counted in a [`Heard::Lost`] that comes
///    not later than the next event.
/// 2. Who does not read holds up no packet and no commit.
#[async_trait]
pub trait FlowSource: Send {
    /// Waits for the next, and answers all that is there, in order. May be cancelled: nothing is lost by that.
    ///
    /// # Errors
    /// The source broke. It need not be asked again.
    async fn next(&mut self) -> Result<Vec<Heard>>;
}
