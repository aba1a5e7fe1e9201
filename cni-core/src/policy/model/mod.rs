//! The one model that every dialect is read into: tiers of policies of rules. Never how a dialect writes it.
//!
//! ```text
//! Tier (order, what happens at its end)
//!  └─ Policy (order, subject, mode)            at most once per direction:
//!      └─ Rules (ingress / egress, isolates?)
//!          └─ Rule (action, source, destination, traffic, layer 7)
//! ```
//!
//! # Semantics
//! For each end of a new connection (egress at the source, ingress at the destination), tiers are walked in order.
//!
//! 1. In a tier, the policies whose subject selects the endpoint and that have rules in this direction are walked in
//!    order, and their rules in order. The first rule that matches decides: [`Action::Allow`] and [`Action::Deny`] end
//!    the walk, [`Action::Pass`] goes on with the next tier, [`Action::Log`] with the next rule.
//! 2. When no rule of the tier matched: if one of those policies isolates ([`Rules::isolates`]), the tier's
//!    [`TierEnd`] decides; otherwise the next tier is walked.
//! 3. After the last tier: allowed.
//!
//! At a host, policies of [`Stage::Untracked`] are walked first, then those of [`Stage::BeforeNat`], then the others; what no
//! rule of an early stage decides goes on with the next. A host endpoint without an open profile ([`HostPart::open`]) denies
//! what comes to the end. [`failsafe`](crate::policy::failsafe) ports are allowed before all of it.
//!
//! A connection is allowed when both ends allow it; replies follow the connection. A pod always reaches itself. A pod's
//! own node always reaches the pod (its kubelet must), whatever the pod's policies say; a pod always reaches its own node,
//! unless a rule of its policies denies it (isolation alone does not). A host always reaches itself. Policies about host
//! endpoints have no say between a node and its own pods; policies about nodes have.
//!
//! # Laws
//! - An empty list of peers, ports or members matches nothing, never everything: "any" is a value of its own.
//! - What could not be read closes its subject; see [`Tier::CLOSED`] and [`Rule::unenforceable`].
//! - Order of arrival never matters: only what is in force does.

mod identity;
mod layer7;
mod object;
mod peer;
mod rule;
mod selector;
mod traffic;
mod workload;

pub use identity::{Identity, LabelMap, WorkloadKind};
pub use layer7::{DnsPattern, HttpRule, Layer7};
pub use object::{Direction, Effect, Mode, Order, Policy, PolicyId, Problem, Rules, Stage, Subject, Tier, TierEnd};
pub use peer::{Kinds, Peer};
pub use rule::{Action, Rule, Unenforceable};
pub use selector::{Attribute, Selector};
pub use traffic::{Family, Icmp, PortRange, Ports, Protocol, Traffic, UnknownProtocol};
pub use workload::{HostInterfaces, HostPart, NamedPort, Workload, WorkloadId};
