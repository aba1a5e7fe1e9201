//! Names of objects: kind, key, version, and what a list or watch asks for. Never the content.

use super::{InvalidObject, Object};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// No namespace: Node, IPPool.
    Cluster,
    /// In a namespace, `default` where none is written: Pod.
    Namespaced,
}

/// `apiVersion` and `kind` of an object: `v1` and `Node`. Cheap to clone and to hold.
#[derive(Debug, Clone)]
pub struct Kind(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Known(&'static KnownKind),
    Other(Arc<[String; 2]>),
}

#[derive(Debug)]
struct KnownKind {
    parts: [&'static str; 2],
    scope: Scope,
}

/// The kinds that this version knows: a constant of [`Kind`] for each, and the table of all.
macro_rules! known_kinds {
    ($($(#[$doc:meta])* $name:ident = $api_version:literal, $kind:literal, $scope:ident;)*) => {
        const KNOWN: &[&KnownKind] = &[$(&KnownKind { parts: [$api_version, $kind], scope: Scope::$scope }),*];

        impl Kind {
            $($(#[$doc])*
            pub const $name: Self =
                Self(Repr::Known(&KnownKind { parts: [$api_version, $kind], scope: Scope::$scope }));)*
        }
    };
}

known_kinds! {
    /// A node of the cluster, Kubernetes `v1`.
    NODE = "v1", "Node", Cluster;
    /// A pod, Kubernetes `v1`.
    POD = "v1", "Pod", Namespaced;
    /// A namespace, Kubernetes `v1`.
    NAMESPACE = "v1", "Namespace", Cluster;
    /// A pool of pod addresses, ours.
    IP_POOL = "cnidarian.io/v1", "IPPool", Cluster;
    /// A block cut from a pool, ours.
    IP_BLOCK = "cnidarian.io/v1", "IPBlock", Cluster;
    /// The addresses that a node gave to its pods, ours.
    NODE_ENDPOINTS = "cnidarian.io/v1", "NodeEndpoints", Cluster;
    /// A pool of addresses for load balancers, ours.
    BALANCER_POOL = "cnidarian.io/v1", "LoadBalancerPool", Cluster;
    /// Which service has which address of those pools, ours.
    BALANCER_ADDRESSES = "cnidarian.io/v1", "LoadBalancerAddresses", Cluster;
    /// A network policy of a namespace, Kubernetes.
    NETWORK_POLICY = "networking.k8s.io/v1", "NetworkPolicy", Namespaced;
    /// A network policy of the cluster, Kubernetes.
    CLUSTER_NETWORK_POLICY = "policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy", Cluster;
    /// An administrator's network policy, what came before [`Self::CLUSTER_NETWORK_POLICY`].
    ADMIN_NETWORK_POLICY = "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", Cluster;
    /// The one network policy below all others, what came before [`Self::CLUSTER_NETWORK_POLICY`].
    BASELINE_ADMIN_NETWORK_POLICY = "policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy", Cluster;
    /// The addresses behind labels, Kubernetes `v1`.
    SERVICE = "v1", "Service", Namespaced;
    /// Whom a pod runs as, Kubernetes `v1`.
    SERVICE_ACCOUNT = "v1", "ServiceAccount", Namespaced;
    /// A part of a service's endpoints, Kubernetes.
    ENDPOINT_SLICE = "discovery.k8s.io/v1", "EndpointSlice", Namespaced;
    /// Replicas of a pod, the oldest kind, Kubernetes `v1`.
    REPLICATION_CONTROLLER = "v1", "ReplicationController", Namespaced;
    /// Replicas of a pod with a history, Kubernetes.
    DEPLOYMENT = "apps/v1", "Deployment", Namespaced;
    /// Replicas of a pod, Kubernetes.
    REPLICA_SET = "apps/v1", "ReplicaSet", Namespaced;
    /// Replicas of a pod with names, Kubernetes.
    STATEFUL_SET = "apps/v1", "StatefulSet", Namespaced;
    /// A pod for each node, Kubernetes.
    DAEMON_SET = "apps/v1", "DaemonSet", Namespaced;
    /// Pods that end, Kubernetes.
    JOB = "batch/v1", "Job", Namespaced;
    /// Jobs by the clock, Kubernetes.
    CRON_JOB = "batch/v1", "CronJob", Namespaced;
    /// Labelled prefixes of a namespace, Calico.
    CALICO_NETWORK_SET = "projectcalico.org/v3", "NetworkSet", Namespaced;
    /// Labelled prefixes, Calico.
    CALICO_GLOBAL_NETWORK_SET = "projectcalico.org/v3", "GlobalNetworkSet", Cluster;
    /// An interface of a host, Calico.
    CALICO_HOST_ENDPOINT = "projectcalico.org/v3", "HostEndpoint", Cluster;
    /// Labelled prefixes of a namespace, Calico, as it is stored.
    CALICO_CRD_NETWORK_SET = "crd.projectcalico.org/v1", "NetworkSet", Namespaced;
    /// Labelled prefixes, Calico, as it is stored.
    CALICO_CRD_GLOBAL_NETWORK_SET = "crd.projectcalico.org/v1", "GlobalNetworkSet", Cluster;
    /// An interface of a host, Calico, as it is stored.
    CALICO_CRD_HOST_ENDPOINT = "crd.projectcalico.org/v1", "HostEndpoint", Cluster;
    /// Labelled prefixes, Cilium `v2`.
    CILIUM_CIDR_GROUP = "cilium.io/v2", "CiliumCIDRGroup", Cluster;
    /// Labelled prefixes, Cilium `v2alpha1`.
    CILIUM_ALPHA_CIDR_GROUP = "cilium.io/v2alpha1", "CiliumCIDRGroup", Cluster;
    /// A network policy of a namespace, Cilium.
    CILIUM_NETWORK_POLICY = "cilium.io/v2", "CiliumNetworkPolicy", Namespaced;
    /// A network policy of the cluster, Cilium.
    CILIUM_CLUSTERWIDE_NETWORK_POLICY = "cilium.io/v2", "CiliumClusterwideNetworkPolicy", Cluster;
    /// A tier of policies, Calico.
    CALICO_TIER = "projectcalico.org/v3", "Tier", Cluster;
    /// A network policy of a namespace, Calico.
    CALICO_NETWORK_POLICY = "projectcalico.org/v3", "NetworkPolicy", Namespaced;
    /// A network policy of the cluster, Calico.
    CALICO_GLOBAL_NETWORK_POLICY = "projectcalico.org/v3", "GlobalNetworkPolicy", Cluster;
    /// A network policy of a namespace, to be tried, Calico.
    CALICO_STAGED_NETWORK_POLICY = "projectcalico.org/v3", "StagedNetworkPolicy", Namespaced;
    /// A network policy of the cluster, to be tried, Calico.
    CALICO_STAGED_GLOBAL_NETWORK_POLICY = "projectcalico.org/v3", "StagedGlobalNetworkPolicy", Cluster;
    /// A network policy of Kubernetes, to be tried, Calico.
    CALICO_STAGED_KUBERNETES_NETWORK_POLICY = "projectcalico.org/v3", "StagedKubernetesNetworkPolicy", Namespaced;
    /// A tier of policies, Calico, as it is stored.
    CALICO_CRD_TIER = "crd.projectcalico.org/v1", "Tier", Cluster;
    /// A network policy of a namespace, Calico, as it is stored.
    CALICO_CRD_NETWORK_POLICY = "crd.projectcalico.org/v1", "NetworkPolicy", Namespaced;
    /// A network policy of the cluster, Calico, as it is stored.
    CALICO_CRD_GLOBAL_NETWORK_POLICY = "crd.projectcalico.org/v1", "GlobalNetworkPolicy", Cluster;
    /// A network policy of a namespace, to be tried, Calico, as it is stored.
    CALICO_CRD_STAGED_NETWORK_POLICY = "crd.projectcalico.org/v1", "StagedNetworkPolicy", Namespaced;
    /// A network policy of the cluster, to be tried, Calico, as it is stored.
    CALICO_CRD_STAGED_GLOBAL_NETWORK_POLICY = "crd.projectcalico.org/v1", "StagedGlobalNetworkPolicy", Cluster;
    /// A network policy of Kubernetes, to be tried, Calico, as it is stored.
    CALICO_CRD_STAGED_KUBERNETES_NETWORK_POLICY = "crd.projectcalico.org/v1", "StagedKubernetesNetworkPolicy", Namespaced;
}

impl Kind {
    /// Any kind, also one that this version does not know. Not checked; [`Object::from_value`] checks.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let known = KNOWN.iter().copied().find(|known| known.parts == [api_version, kind]);
        Self(known.map_or_else(|| Repr::Other(Arc::new([api_version.to_owned(), kind.to_owned()])), Repr::Known))
    }

    fn parts(&self) -> [&str; 2] {
        match &self.0 {
            Repr::Known(known) => known.parts,
            Repr::Other(parts) => [&parts[0], &parts[1]],
        }
    }

    /// `v1`, `cnidarian.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.parts()[0]
    }

    /// `Node`, `IPPool`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.parts()[1]
    }

    /// The part of the API version before the slash, empty for Kubernetes' core kinds.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Whether objects of this kind have a namespace; `None` when this version does not know the kind.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        match &self.0 {
            Repr::Known(known) => Some(known.scope),
            Repr::Other(_) => None,
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Kind {}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, `None` for kinds of the cluster.
    pub namespace: Option<Arc<str>>,
    /// Its name, unique in kind and namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// An object without a namespace.
    #[must_use]
    pub fn cluster(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: None, name: name.into() }
    }

    /// An object in a namespace.
    #[must_use]
    pub fn namespaced(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: Some(namespace.into()), name: name.into() }
    }

    /// Checks that the names cannot be mistaken for something else in a path or URL, and the scope of known kinds.
    ///
    /// # Errors
    /// An empty name, one over 253 bytes, `.`, `..`, or one with `/`, `%`, white space or control characters
    /// (the rules of Kubernetes for path segments); a namespace where the kind has none, or none where it has one.
    pub fn check(&self) -> Result<(), InvalidObject> {
        check_segment(self, "metadata.name", &self.name, 253)?;
        if let Some(namespace) = &self.namespace {
            check_segment(self, "metadata.namespace", namespace, 63)?;
        }
        match (self.kind.scope(), &self.namespace) {
            (Some(Scope::Cluster), Some(_)) => {
                Err(InvalidObject::new(self, "metadata.namespace", "this kind has no namespace; remove the field"))
            }
            (Some(Scope::Namespaced), None) => {
                Err(InvalidObject::new(self, "metadata.namespace", "this kind lives in a namespace; name it"))
            }
            _ => Ok(()),
        }
    }
}

fn check_segment(key: &ObjectKey, field: &str, text: &str, most_bytes: usize) -> Result<(), InvalidObject> {
    let forbidden = |c: char| matches!(c, '/' | '%') || c.is_control() || c.is_whitespace();
    if text.is_empty() {
        Err(InvalidObject::new(key, field, "is empty; write the object's name"))
    } else if text.len() > most_bytes {
        Err(InvalidObject::new(key, field, format!("has {} bytes; at most {most_bytes} are allowed", text.len())))
    } else if text == "." || text == ".." || text.chars().any(forbidden) {
        let rule = "is no name: neither '.' nor '..', and without '/', '%', white space and control characters";
        Err(InvalidObject::new(key, field, format!("{text:?} {rule}")))
    } else {
        Ok(())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A `resourceVersion`: of one object, or of a whole list. Opaque: only equality means something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(Arc<str>);

impl Version {
    /// A version as its store wrote it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text, for the store that made it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a list or a watch asks for: one kind, and optionally one namespace or one node's pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Query {
    /// The kind.
    pub kind: Kind,
    /// Only objects of this namespace.
    pub namespace: Option<Arc<str>>,
    /// Only objects with this `spec.nodeName` (Kubernetes offers this selection for pods).
    pub node: Option<Arc<str>>,
}

impl Query {
    /// All objects of a kind.
    #[must_use]
    pub fn kind(kind: Kind) -> Self {
        Self { kind, namespace: None, node: None }
    }

    /// Only those of a namespace.
    #[must_use]
    pub fn in_namespace(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// Only those that run on a node.
    #[must_use]
    pub fn on_node(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    /// Whether an object is asked for.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.matches_key(&object.key)
            && self
                .node
                .as_ref()
                .is_none_or(|node| object.field("spec.nodeName").and_then(Value::as_str) == Some(&**node))
    }
}

impl Query {
    /// Whether an object of this name may be asked for.
    pub(super) fn matches_key(&self, key: &ObjectKey) -> bool {
        self.kind == key.kind
            && self.namespace.as_ref().is_none_or(|namespace| key.namespace.as_ref() == Some(namespace))
    }
}

impl From<Kind> for Query {
    fn from(kind: Kind) -> Self {
        Self::kind(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_kind_is_found_by_its_name_and_stands_in_the_table_once() {
        for known in KNOWN {
            let [api_version, kind] = known.parts;
            assert_eq!(Kind::new(api_version, kind).scope(), Some(known.scope), "{kind}");
            assert_eq!(KNOWN.iter().filter(|other| other.parts == known.parts).count(), 1, "{kind}");
        }
        assert_eq!(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), Kind::NETWORK_POLICY);
        assert_eq!(Kind::NETWORK_POLICY.scope(), Some(Scope::Namespaced));
        assert_eq!(Kind::CLUSTER_NETWORK_POLICY.scope(), Some(Scope::Cluster));
        assert_eq!(Kind::new("v2", "Node").scope(), None);
    }
}
