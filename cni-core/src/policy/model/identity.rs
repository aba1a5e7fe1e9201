//! Identities: distinct label sets. Never addresses: many workloads share one identity.

use super::Attribute;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Labels, shared by all that have the same.
pub type LabelMap = Arc<BTreeMap<Arc<str>, Arc<str>>>;

/// What a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// A pod with a network of its own.
    Pod,
    /// A node of the cluster: its own addresses, also those of pods in the host's network.
    Node,
    /// A host interface that Calico's `HostEndpoint` names.
    HostEndpoint,
    /// A labelled set of prefixes: Calico's `NetworkSet` and `GlobalNetworkSet`.
    NetworkSet,
    /// A labelled set of prefixes: Cilium's `CiliumCIDRGroup`.
    CidrGroup,
    /// A Kubernetes service: the addresses of its endpoints.
    Service,
}

impl WorkloadKind {
    /// Whether members are known by address only: a party is in it when its address is.
    #[must_use]
    pub fn is_group(self) -> bool {
        matches!(self, Self::NetworkSet | Self::CidrGroup | Self::Service)
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "pod",
            Self::Node => "node",
            Self::HostEndpoint => "host endpoint",
            Self::NetworkSet => "network set",
            Self::CidrGroup => "CIDR group",
            Self::Service => "service",
        })
    }
}

/// Everything that selectors can see of a workload. Equal for all workloads that no policy can tell apart by labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its own labels.
    pub labels: LabelMap,
    /// Its namespace, `None` for what belongs to the cluster.
    pub namespace: Option<Arc<str>>,
    /// The labels of its namespace.
    pub namespace_labels: LabelMap,
    /// The service account it runs as, pods only.
    pub service_account: Option<Arc<str>>,
    /// The labels of its service account.
    pub service_account_labels: LabelMap,
    /// Its name, where selectors may ask for it (groups, nodes); `None` for pods, so that replicas share an identity.
    pub name: Option<Arc<str>>,
}

impl Identity {
    /// An identity of the cluster without labels.
    #[must_use]
    pub fn new(kind: WorkloadKind) -> Self {
        Self {
            kind,
            labels: LabelMap::default(),
            namespace: None,
            namespace_labels: LabelMap::default(),
            service_account: None,
            service_account_labels: LabelMap::default(),
            name: None,
        }
    }

    /// The value that a selector compares; `None` where there is none.
    #[must_use]
    pub fn get(&self, attribute: &Attribute) -> Option<&str> {
        match attribute {
            Attribute::Label(key) => self.labels.get(key).map(|value| &**value),
            Attribute::NamespaceLabel(key) => self.namespace_labels.get(key).map(|value| &**value),
            Attribute::ServiceAccountLabel(key) => self.service_account_labels.get(key).map(|value| &**value),
            Attribute::Namespace => self.namespace.as_deref(),
            Attribute::ServiceAccount => self.service_account.as_deref(),
            Attribute::Name => self.name.as_deref(),
        }
    }
}
