//! What a node says of itself, for `cnidarian status` and for programs that embed it. Plain data.

use cni_core::backend::{CommitReport, Failure};
use cni_core::model::{Endpoint, Peer, Underlay};
use cni_core::policy::program::HostEndpointProgram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// What it concerns: a kernel object, an item, the store.
    pub object: String,
    /// What is wrong.
    pub error: String,
    /// What is done about it: `retrying`, `waiting`, `blocked`; of a policy `closed`, `rule closed`, `left out`; of an
    /// address of two pods `counts as both`; of flows that cannot be heard `not heard`; of a table
    /// `nearly full`.
    pub state: String,
}

impl Problem {
    /// What a commit could not do.
    pub(super) fn of_commit(report: &CommitReport) -> Vec<Self> {
        let failed = |state: &'static str, failures: &[Failure]| -> Vec<Self> {
            let problem = |failure: &Failure| Self {
                object: failure.object.clone(),
                error: failure.error.to_string(),
                state: state.to_owned(),
            };
            failures.iter().map(problem).collect()
        };
        let mut problems = failed("retrying", &report.failed);
        problems.extend(failed("waiting", &report.deferred));
        problems.extend(report.blocked.iter().map(|blocked| Self {
            object: blocked.item.clone(),
            error: blocked.error.to_string(),
            state: "blocked".to_owned(),
        }));
        problems
    }
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// What the datapath knows of it.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// The network it belongs to.
    pub network: String,
    /// When it was attached, in milliseconds since the Unix epoch.
    pub attached_unix_ms: u64,
}

/// Policy at some of the node's own interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The host endpoint or the node that it is about.
    pub name: String,
    /// `interface NAME`, `other interfaces` or `its own pods`.
    pub interface: String,
    /// What policies decide about there: `in`, `out`, `through-in`, `through-out`, `untracked-in`,
    /// `untracked-out`, `before-nat`. Empty: everything is allowed.
    pub enforced: Vec<String>,
}

impl From<&HostEndpointProgram> for HostStatus {
    fn from(program: &HostEndpointProgram) -> Self {
        let parts = [
            ("in", &program.local.ingress),
            ("out", &program.local.egress),
            ("through-in", &program.forwarded.ingress),
            ("through-out", &program.forwarded.egress),
            ("untracked-in", &program.untracked.ingress),
            ("untracked-out", &program.untracked.egress),
            ("before-nat", &program.before_nat),
        ];
        let enforced = parts.into_iter().filter(|(_, direction)| !direction.enforced.is_empty());
        Self {
            name: program.name.to_string(),
            interface: program.interface.to_string(),
            enforced: enforced.map(|(word, _)| word.to_owned()).collect(),
        }
    }
}

/// One pool as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Its name.
    pub pool: String,
    /// Its prefixes.
    pub prefixes: Vec<String>,
    /// Addresses altogether.
    pub capacity: u64,
    /// Addresses that no pod may get.
    pub reserved: u64,
    /// Addresses leased on this node.
    pub used: u64,
    /// Addresses released on this node that still cool.
    pub cooling: u64,
    /// Addresses that this node can give at once.
    pub free_here: u64,
    /// Addresses that no node has claimed yet.
    pub unclaimed: u64,
    /// Blocks of each node.
    pub blocks_per_node: BTreeMap<String, u32>,
    /// Whether it gives no new addresses.
    pub disabled: bool,
}

/// A node's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its name.
    pub node: String,
    /// The version of this library.
    pub version: String,
    /// The backend's name.
    pub backend: String,
    /// The policy engine's name; `null`: no policy is enforced.
    #[serde(default)]
    pub policy: Option<String>,
    /// The service proxy's name; `null`: nobody here translates services.
    #[serde(default)]
    pub services: Option<String>,
    /// What the backend can do here: `null` for yes, else why not.
    pub capabilities: BTreeMap<String, Option<String>>,
    /// The same of the service proxy; empty where there is none.
    #[serde(default)]
    pub service_capabilities: BTreeMap<String, Option<String>>,
    /// What the backend published to peers.
    pub attributes: BTreeMap<String, String>,
    /// What the backend wants the operator to know.
    pub notices: Vec<String>,
    /// The network below.
    pub underlay: Underlay,
    /// The MTU of pod interfaces in bytes.
    pub pod_mtu_bytes: u32,
    /// Why ADD would fail now; `null` when it would not.
    pub not_ready: Option<String>,
    /// Other nodes.
    pub peers: Vec<Peer>,
    /// Pools.
    pub pools: Vec<PoolStatus>,
    /// Attachments.
    pub endpoints: Vec<EndpointStatus>,
    /// Policy at the node's own interfaces; empty where no policy is about it.
    #[serde(default)]
    pub hosts: Vec<HostStatus>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
    /// Kernel objects found missing, changed or unexpected since the start.
    pub drifted: u64,
    /// How often the kernel was read back since the start.
    pub resyncs: u64,
}

impl From<cni_core::ipam::Usage> for PoolStatus {
    fn from(usage: cni_core::ipam::Usage) -> Self {
        Self {
            pool: usage.pool,
            prefixes: usage.prefixes.iter().map(ToString::to_string).collect(),
            capacity: saturated(usage.capacity),
            reserved: saturated(usage.reserved),
            used: saturated(usage.used),
            cooling: saturated(usage.cooling),
            free_here: saturated(usage.free_here),
            unclaimed: saturated(usage.unclaimed),
            blocks_per_node: usage.blocks_per_node,
            disabled: usage.disabled,
        }
    }
}

/// JSON numbers end at 64 bits, and an IPv6 pool may hold more: then it is the largest number.
fn saturated(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
