//! Kinds of objects that say something of the model. Never what they say.

use crate::store::{Kind, ObjectKey};
use crate::strict::nearest;
use std::sync::LazyLock;

/// The two groups under which Calico's objects are served, the one that people write first.
const CALICO: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];
const CILIUM: [&str; 2] = ["cilium.io/v2", "cilium.io/v2alpha1"];

/// Kinds that hold a template of pods.
const TEMPLATES: [[&str; 2]; 7] = [
    ["apps/v1", "Deployment"],
    ["apps/v1", "StatefulSet"],
    ["apps/v1", "DaemonSet"],
    ["apps/v1", "ReplicaSet"],
    ["v1", "ReplicationController"],
    ["batch/v1", "Job"],
    ["batch/v1", "CronJob"],
];

/// Kinds of policies and tiers that are there under one API version.
const POLICIES: [[&str; 2]; 6] = [
    ["networking.k8s.io/v1", "NetworkPolicy"],
    ["policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy"],
    ["policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy"],
    ["policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy"],
    ["cilium.io/v2", "CiliumNetworkPolicy"],
    ["cilium.io/v2", "CiliumClusterwideNetworkPolicy"],
];

/// Calico's kinds of policies and tiers.
const CALICO_POLICIES: [&str; 6] = [
    "Tier",
    "NetworkPolicy",
    "GlobalNetworkPolicy",
    "StagedNetworkPolicy",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
];

/// What an object that is no policy is for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Pod,
    Node,
    Template,
    Namespace,
    ServiceAccount,
    Service,
    EndpointSlice,
    /// Addresses that a node gave.
    NodeEndpoints,
    /// Addresses that nodes have to give.
    Block,
    NetworkSet,
    HostEndpoint,
    CidrGroup,
    /// Perhaps a policy or a tier: a dialect knows.
    Other,
}

pub(super) fn role(kind: &Kind) -> Role {
    match (kind.api_version(), kind.kind()) {
        ("v1", "Pod") => Role::Pod,
        ("v1", "Node") => Role::Node,
        ("v1", "Namespace") => Role::Namespace,
        ("v1", "ServiceAccount") => Role::ServiceAccount,
        ("v1", "Service") => Role::Service,
        ("discovery.k8s.io/v1", "EndpointSlice") => Role::EndpointSlice,
        ("cnidarian.io/v1", "NodeEndpoints") => Role::NodeEndpoints,
        ("cnidarian.io/v1", "IPBlock") => Role::Block,
        (api, "NetworkSet" | "GlobalNetworkSet") if CALICO.contains(&api) => Role::NetworkSet,
        (api, "HostEndpoint") if CALICO.contains(&api) => Role::HostEndpoint,
        (api, "CiliumCIDRGroup") if CILIUM.contains(&api) => Role::CidrGroup,
        (api, name) if TEMPLATES.contains(&[api, name]) => Role::Template,
        _ => Role::Other,
    }
}

/// Kinds whose objects of one name are one workload: the first that is there speaks. All others stand alone.
static FAMILIES: LazyLock<Vec<Vec<Kind>>> = LazyLock::new(|| {
    let pair = |name: &str| CALICO.map(|api| Kind::new(api, name)).to_vec();
    let pods = std::iter::once(Kind::POD).chain(TEMPLATES.map(|[api, name]| Kind::new(api, name)));
    let mut families = vec![pods.collect(), CILIUM.map(|api| Kind::new(api, "CiliumCIDRGroup")).to_vec()];
    families.extend(["NetworkSet", "GlobalNetworkSet", "HostEndpoint"].into_iter().chain(CALICO_POLICIES).map(pair));
    families
});

/// Namespaced kinds that make workloads.
static SCOPED: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let set = CALICO.map(|api| Kind::new(api, "NetworkSet"));
    let templates = TEMPLATES.map(|[api, name]| Kind::new(api, name));
    [Kind::POD, Kind::new("v1", "Service")].into_iter().chain(set).chain(templates).collect()
});

/// Namespaced kinds that make workloads.
pub(super) fn scoped() -> &'static [Kind] {
    &SCOPED
}

fn family(kind: &Kind) -> &'static [Kind] {
    FAMILIES.iter().find(|family| family.contains(kind)).map_or(&[], |family| family)
}

/// Objects of the same name that make the same workload, in order of precedence: those before this, and those after.
pub(super) fn rivals(key: &ObjectKey) -> (impl Iterator<Item = ObjectKey>, impl Iterator<Item = ObjectKey>) {
    let family = family(&key.kind);
    let at = family.iter().position(|kind| *kind == key.kind);
    let (before, after) = at.map_or((&family[..0], &family[..0]), |at| (&family[..at], &family[at + 1..]));
    let named = |kind: &Kind| ObjectKey { kind: kind.clone(), ..key.clone() };
    (before.iter().map(named), after.iter().map(named))
}

/// What a kind that nobody reads was meant to be: a policy, tier or set of that name, or of nearly that name in its group.
/// Objects of other people's that only sound alike are none.
pub(super) fn meant(kind: &Kind) -> Option<Kind> {
    let group = |kind: &Kind| kind.api_version().rsplit_once('/').map(|(group, _)| group.to_owned());
    let calico = ["NetworkSet", "GlobalNetworkSet", "HostEndpoint"].into_iter().chain(CALICO_POLICIES);
    let calico = calico.flat_map(|name| CALICO.map(|api| [api, name]));
    let known: Vec<Kind> = POLICIES.into_iter().chain(calico).map(|[api, name]| Kind::new(api, name)).collect();
    if known.contains(kind) {
        return None;
    }
    let near: Vec<&Kind> = known.iter().filter(|known| group(known) == group(kind)).collect();
    let names: Vec<&str> = near.iter().map(|known| known.kind()).collect();
    let meant = match nearest(kind.kind(), &names) {
        Some(name) => near.into_iter().find(|known| known.kind() == name),
        None => known.iter().find(|known| known.kind() == kind.kind()),
    };
    meant.cloned()
}

/// The kinds of policies that are called so.
pub(super) fn policies(called: &str) -> impl Iterator<Item = Kind> {
    let calico = CALICO_POLICIES.into_iter().flat_map(|name| CALICO.map(|api| [api, name]));
    POLICIES.into_iter().chain(calico).filter(move |[_, name]| *name == called).map(|[api, name]| Kind::new(api, name))
}

/// All kinds that a watch must bring.
pub(super) fn watched() -> impl Iterator<Item = Kind> {
    let own = [
        ["v1", "Pod"],
        ["v1", "Node"],
        ["v1", "Namespace"],
        ["v1", "ServiceAccount"],
        ["v1", "Service"],
        ["discovery.k8s.io/v1", "EndpointSlice"],
        ["cnidarian.io/v1", "NodeEndpoints"],
        ["cnidarian.io/v1", "IPBlock"],
    ];
    let calico = ["NetworkSet", "GlobalNetworkSet", "HostEndpoint"].into_iter().chain(CALICO_POLICIES);
    let calico = calico.flat_map(|name| CALICO.map(|api| [api, name]));
    let cilium = CILIUM.map(|api| [api, "CiliumCIDRGroup"]);
    own.into_iter().chain(POLICIES).chain(calico).chain(cilium).map(|[api, name]| Kind::new(api, name))
}
