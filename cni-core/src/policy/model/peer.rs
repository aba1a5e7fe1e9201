//! The other end of a rule: a set of parties, by labels, by address, or by name. Never resolved to members here.

use super::{DnsPattern, Selector, WorkloadKind};
use ipnet::IpNet;

/// A set of workload kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// Pods with a network of their own.
    pub const PODS: Self = Self::of(WorkloadKind::Pod);
    /// Nodes.
    pub const NODES: Self = Self::of(WorkloadKind::Node);
    /// What belongs to the cluster: pods and nodes.
    pub const CLUSTER: Self = Self::PODS.and(WorkloadKind::Node);
    /// What a selector of Calico reaches: pods, host endpoints, network sets.
    pub const CALICO: Self = Self::PODS.and(WorkloadKind::HostEndpoint).and(WorkloadKind::NetworkSet);

    /// One kind.
    #[must_use]
    pub const fn of(kind: WorkloadKind) -> Self {
        Self(1 << kind as u8)
    }

    /// The same and one more.
    #[must_use]
    pub const fn and(self, kind: WorkloadKind) -> Self {
        Self(self.0 | 1 << kind as u8)
    }

    /// Whether the kind is in it.
    #[must_use]
    pub const fn has(self, kind: WorkloadKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// A set of parties that a connection may come from or go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Peer {
    /// Everybody.
    Anything,
    /// Nobody.
    Nothing,
    /// Workloads of these kinds whose identity a selector matches. Groups hold who has an address in their prefixes.
    Labelled {
        /// Which kinds.
        kinds: Kinds,
        /// By which labels.
        selector: Selector,
    },
    /// Whoever has an address in one of these prefixes, in the cluster or not. Without host bits.
    Networks(Vec<IpNet>),
    /// The node that the rule's subject runs on.
    OwnNode,
    /// Whoever a DNS name that the subject looked up resolves to. Needs the DNS proxy; see [`super::Rule::unenforceable`].
    Names(Vec<DnsPattern>),
    /// In one of these; of none: nobody.
    AnyOf(Vec<Peer>),
    /// In all of these; of none: everybody.
    AllOf(Vec<Peer>),
    /// Not in this.
    Not(Box<Peer>),
}

impl Peer {
    /// Pods by labels.
    #[must_use]
    pub fn pods(selector: Selector) -> Self {
        Self::Labelled { kinds: Kinds::PODS, selector }
    }

    /// Everything that belongs to the cluster.
    #[must_use]
    pub fn cluster() -> Self {
        Self::Labelled { kinds: Kinds::CLUSTER, selector: Selector::Everything }
    }

    /// Addresses of these prefixes, as far as they belong to no pod and no node of the cluster.
    #[must_use]
    pub fn outside(networks: Vec<IpNet>) -> Self {
        Self::AllOf(vec![Self::Networks(networks), Self::cluster().negated()])
    }

    /// Addresses of these prefixes, as far as they belong to no pod; nodes are in it.
    #[must_use]
    pub fn beside_pods(networks: Vec<IpNet>) -> Self {
        Self::AllOf(vec![Self::Networks(networks), Self::pods(Selector::Everything).negated()])
    }

    /// Everybody who is not in it.
    #[must_use]
    pub fn negated(self) -> Self {
        match self {
            Self::Anything => Self::Nothing,
            Self::Nothing => Self::Anything,
            Self::Not(inner) => *inner,
            other => Self::Not(Box::new(other)),
        }
    }

    /// Whether names stand in it, which only a DNS proxy could resolve.
    #[must_use]
    pub fn has_names(&self) -> bool {
        match self {
            Self::Names(_) => true,
            Self::AnyOf(parts) | Self::AllOf(parts) => parts.iter().any(Self::has_names),
            Self::Not(inner) => inner.has_names(),
            _ => false,
        }
    }
}
