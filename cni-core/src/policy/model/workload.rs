//! Workloads: what has an identity and addresses. Never their policies.

use super::{Identity, Protocol, WorkloadKind};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Which workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadId {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its namespace, `None` for what belongs to the cluster.
    pub namespace: Option<Arc<str>>,
    /// Its name.
    pub name: Arc<str>,
}

impl WorkloadId {
    /// A pod.
    #[must_use]
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self { kind: WorkloadKind::Pod, namespace: Some(namespace.into()), name: name.into() }
    }

    /// A node.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self { kind: WorkloadKind::Node, namespace: None, name: name.into() }
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A port that a pod gives a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamedPort {
    /// The name.
    pub name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
}

/// The interfaces that a host endpoint stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostInterfaces {
    /// The one of this name.
    Named(Arc<str>),
    /// The one with one of the endpoint's addresses.
    ByAddress,
    /// All but those of pods and those with a host endpoint of their own.
    All,
}

/// What a host endpoint is, beside its labels and addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPart {
    /// Its interfaces.
    pub interfaces: HostInterfaces,
    /// Whether its profiles allow what no tier decides; else it is denied.
    pub open: bool,
}

impl HostPart {
    /// What the end of a host endpoint without an open profile is called, where tiers are named.
    pub const NO_PROFILE: &'static str = "no profile";
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Which.
    pub id: WorkloadId,
    /// What selectors see of it.
    pub identity: Arc<Identity>,
    /// Its addresses, none for a pod that has not got one yet, and for groups.
    pub addresses: Vec<IpAddr>,
    /// The prefixes of a group, without host bits.
    pub networks: Vec<IpNet>,
    /// The node that it runs on; a node's own name.
    pub node: Option<Arc<str>>,
    /// The ports that it names.
    pub ports: Vec<NamedPort>,
    /// It uses its node's network: no policy is about it, and no selector of pods finds it.
    pub host_network: bool,
    /// Of host endpoints only.
    pub host: Option<HostPart>,
}
