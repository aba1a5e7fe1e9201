//! How often rules were met on one node, as an engine counts. Never who they were met by: that is what logs are for.

use super::model::{Action, Direction};
use crate::backend::Result;
use serde::{Deserialize, Serialize};

/// One rule, or another place where a packet's way ends. Connections are counted by the packet that opens them; the rest of
/// a connection passes before the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCounter {
    /// Of the dry run, in which staged policies have a say: what would be. It decides nothing.
    pub staged: bool,
    /// The tier; `None` for what stands before or after all tiers.
    pub tier: Option<String>,
    /// The policy, as `NetworkPolicy shop/web`; `None` for what is no policy's.
    pub policy: Option<String>,
    /// Seen from the pod; `None` for what goes both ways.
    pub direction: Option<Direction>,
    /// Where the rule stands in its policy, as `spec.ingress[0]`; else what the place is: `end of tier`, `no tier decides`,
    /// `spoofed source`.
    pub rule: String,
    /// The host's end of the pod's interface, where it is of one pod.
    pub interface: Option<String>,
    /// The pod behind the interface, as `shop/web-0`. Engines know none.
    #[serde(default)]
    pub pod: Option<String>,
    /// What the rule does.
    pub action: Action,
    /// Packets so far.
    pub packets: u64,
    /// Bytes so far, with the network's header.
    pub bytes: u64,
}

/// Reads an engine's counters beside the engine. It may wait for the kernel for milliseconds.
pub trait RuleCounters: Send + Sync {
    /// All that counts now: what decides, then the dry run; by tier, policy and direction, rules in their order.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn read(&self) -> Result<Vec<RuleCounter>>;
}
