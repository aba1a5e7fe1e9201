//! A Service of Kubernetes `v1`. Never its endpoints.

use super::ports::{PortSpec, ports};
use super::{LEFT_OUT, Placed};
use crate::model::{FrontendKind, Scheduler, ServiceName, TrafficScope};
use crate::policy::dialect::{Reader, present};
use crate::policy::intake::interner::Interner;
use crate::policy::model::{Effect, Family};
use crate::store::Object;
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// The annotation that names the scheduler.
const SCHEDULER: &str = "cnidarian.io/scheduler";
/// The annotation with the load balancer's addresses that are wanted, with commas between.
const WANTED: &str = "cnidarian.io/load-balancer-addresses";
/// The annotation with the pool that the load balancer's addresses shall be of.
const POOL: &str = "cnidarian.io/load-balancer-pool";
/// The annotation whose value services with one address have in common.
const SHARING: &str = "cnidarian.io/load-balancer-sharing";
/// The annotation with the kinds of addresses that routers outside are told of, with commas between, or `none`.
const ANNOUNCE: &str = "cnidarian.io/announce";
/// The annotation that says how answers get to clients outside: `tunnel`, or `none`.
const DIRECT_RETURN: &str = "cnidarian.io/direct-server-return";
/// The class of load balancers that get addresses from our pools; without a class they do too.
const CLASS: &str = "cnidarian.io/load-balancer";

/// What a spec may say: Kubernetes 1.34, `ServiceSpec`.
const KEYS: [&str; 20] = [
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];

/// `service.spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::service) enum Kind {
    ExternalName,
    ClusterIp,
    NodePort,
    LoadBalancer,
}

/// `trafficDistribution`: what is preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) enum Distribution {
    SameZone,
    SameNode,
}

/// What an allocator has to know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::service) struct Placement {
    /// Whether its addresses are ours to give.
    pub(in crate::service) ours: bool,
    pub(in crate::service) families: Vec<Family>,
    /// Every family must be had.
    pub(in crate::service) all_families: bool,
    pub(in crate::service) wanted: Vec<IpAddr>,
    pub(in crate::service) pool: Option<Arc<str>>,
    pub(in crate::service) sharing: Option<Arc<str>>,
}

/// What one Service says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct ServiceSpec {
    pub(in crate::service) name: ServiceName,
    /// When it was made, as its object says; files say nothing.
    pub(in crate::service) created: Option<Arc<str>>,
    pub(in crate::service) kind: Kind,
    pub(in crate::service) headless: bool,
    pub(in crate::service) cluster_ips: Vec<Placed>,
    pub(in crate::service) external_ips: Vec<Placed>,
    /// Addresses of a load balancer whose packets reach nodes with that address.
    pub(in crate::service) ingress: Vec<Placed>,
    pub(in crate::service) ports: Vec<PortSpec>,
    pub(in crate::service) internal: TrafficScope,
    pub(in crate::service) external: TrafficScope,
    pub(in crate::service) distribution: Option<Distribution>,
    pub(in crate::service) scheduler: Scheduler,
    pub(in crate::service) affinity_seconds: Option<NonZeroU32>,
    pub(in crate::service) sources: Option<Arc<[IpNet]>>,
    pub(in crate::service) health_check_port: Option<u16>,
    pub(in crate::service) publish_not_ready: bool,
    /// Answers from its outer addresses go to clients directly.
    pub(in crate::service) direct_return: bool,
    pub(in crate::service) placement: Placement,
    /// Kinds of addresses that routers outside are told of; `None`: as the operator says.
    pub(in crate::service) announce: Option<BTreeSet<FrontendKind>>,
}

/// The name of a service whose object this is.
pub(in crate::service) fn name(object: &Object) -> ServiceName {
    let namespace = object.key.namespace.clone().unwrap_or_else(|| "default".into());
    ServiceName { namespace, name: object.key.name.clone() }
}

/// Reads a Service; `None` when it is left out as a whole.
pub(in crate::service) fn service(reader: &mut Reader<'_>, texts: &mut Interner) -> Option<ServiceSpec> {
    let object = reader.object;
    let spec = match object.fields.get("spec") {
        None | Some(Value::Null) => return reader.missing(LEFT_OUT, "spec", "ports", "at least one port"),
        Some(value) => reader.mapping(LEFT_OUT, value, "spec")?,
    };
    reader.only(Effect::Warning, spec, "spec", &KEYS);
    // What follows up to the check below decides what the rest means, so a service is left out when it cannot be read.
    let mark = reader.mark();
    let kinds = [
        ("ClusterIP", Kind::ClusterIp),
        ("NodePort", Kind::NodePort),
        ("LoadBalancer", Kind::LoadBalancer),
        ("ExternalName", Kind::ExternalName),
    ];
    let kind = reader.word_or(spec, "spec", "type", &kinds, Kind::ClusterIp);
    let scopes = [("Cluster", TrafficScope::Cluster), ("Local", TrafficScope::Local)];
    let internal = reader.word_or(spec, "spec", "internalTrafficPolicy", &scopes, TrafficScope::Cluster);
    let external = reader.word_or(spec, "spec", "externalTrafficPolicy", &scopes, TrafficScope::Cluster);
    let distributions = [
        ("PreferClose", Some(Distribution::SameZone)),
        ("PreferSameZone", Some(Distribution::SameZone)),
        ("PreferSameNode", Some(Distribution::SameNode)),
    ];
    let distribution = reader.word_or(spec, "spec", "trafficDistribution", &distributions, None);
    let affinity_seconds = affinity(reader, spec);
    let scheduler = match object.metadata.annotations.get(SCHEDULER).map(|text| text.trim().parse()) {
        None => Scheduler::default(),
        Some(Ok(scheduler)) => scheduler,
        Some(Err(error)) => {
            reader.problem(LEFT_OUT, format!("metadata.annotations[{SCHEDULER}]"), error);
            Scheduler::default()
        }
    };
    let publish_not_ready = match present(spec, "publishNotReadyAddresses") {
        None => Some(false),
        Some(value) => reader.flag(LEFT_OUT, value, "spec.publishNotReadyAddresses"),
    };
    if !reader.sound_since(mark) {
        return None;
    }
    let (headless, cluster_ips) = cluster_ips(reader, spec);
    let with_node_ports = matches!(kind, Kind::NodePort | Kind::LoadBalancer) && !headless;
    let health_check_port = match present(spec, "healthCheckNodePort") {
        Some(value) if kind == Kind::LoadBalancer && external == TrafficScope::Local && value.as_i64() != Some(0) => {
            reader.number(LEFT_OUT, value, "spec.healthCheckNodePort", 1..=u16::MAX)
        }
        _ => None,
    };
    let balanced = kind == Kind::LoadBalancer;
    let direct_return = direct_return(reader);
    Some(ServiceSpec {
        name: name(object),
        created: object.metadata.other.get("creationTimestamp").and_then(Value::as_str).map(Into::into),
        kind,
        headless,
        external_ips: reader.addresses(spec, "spec", "externalIPs"),
        ingress: if balanced { ingress(reader) } else { Vec::new() },
        ports: ports(reader, spec, with_node_ports, texts),
        internal,
        external,
        distribution,
        scheduler,
        affinity_seconds,
        sources: reader.networks(spec, "spec", "loadBalancerSourceRanges").filter(|_| balanced).map(Into::into),
        health_check_port,
        publish_not_ready: publish_not_ready.unwrap_or_default(),
        direct_return,
        placement: if balanced { placement(reader, spec, &cluster_ips, texts) } else { Placement::default() },
        announce: announce(reader),
        cluster_ips,
    })
}

/// Whether answers go to clients directly. With another word they go as ever.
fn direct_return(reader: &mut Reader<'_>) -> bool {
    let Some(written) = reader.object.metadata.annotations.get(DIRECT_RETURN) else { return false };
    let (word, path) = (Value::from(written.trim()), format!("metadata.annotations[{DIRECT_RETURN}]"));
    reader.word(LEFT_OUT, &word, &path, &[("tunnel", true), ("none", false)]).unwrap_or(false)
}

/// Which kinds of its addresses are announced. With a word that is not known, none.
fn announce(reader: &mut Reader<'_>) -> Option<BTreeSet<FrontendKind>> {
    let written = reader.object.metadata.annotations.get(ANNOUNCE)?.trim();
    let mut kinds = BTreeSet::new();
    if written == "none" {
        return Some(kinds);
    }
    let words = FrontendKind::NAMES.into_iter().filter(|(_, kind)| *kind != FrontendKind::NodePort);
    let words: Vec<(&str, FrontendKind)> = words.collect();
    for word in written.split(',') {
        let path = format!("metadata.annotations[{ANNOUNCE}]");
        match reader.word(LEFT_OUT, &Value::from(word.trim()), &path, &words) {
            Some(kind) => _ = kinds.insert(kind),
            None => return Some(BTreeSet::new()),
        }
    }
    Some(kinds)
}

/// `sessionAffinity` and how long it lasts. Three hours where nothing is written.
fn affinity(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> Option<NonZeroU32> {
    const MOST_SECONDS: u32 = 86_400;
    const USUAL_SECONDS: u32 = 10_800;
    if !reader.word_or(spec, "spec", "sessionAffinity", &[("None", false), ("ClientIP", true)], false) {
        return None;
    }
    let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    let written = reader.object.field(path);
    let seconds = written.map(|value| reader.number(LEFT_OUT, value, path, 1..=MOST_SECONDS));
    NonZeroU32::new(seconds.unwrap_or(Some(USUAL_SECONDS)).unwrap_or(USUAL_SECONDS))
}

/// Whether it is headless, and its addresses inside of the cluster.
fn cluster_ips(reader: &mut Reader<'_>, spec: &Map<String, Value>) -> (bool, Vec<Placed>) {
    let one = present(spec, "clusterIP").filter(|value| value.as_str() != Some(""));
    let listed = present(spec, "clusterIPs").and_then(Value::as_array).is_some_and(|listed| !listed.is_empty());
    let first = if listed { present(spec, "clusterIPs").and_then(|listed| listed.get(0)) } else { one };
    if first.and_then(Value::as_str) == Some("None") {
        return (true, Vec::new());
    }
    if listed {
        return (false, reader.addresses(spec, "spec", "clusterIPs"));
    }
    let address = one.and_then(|value| reader.address(value, || "spec.clusterIP".to_owned()));
    (false, address.map(|address| Placed { index: 0, address }).into_iter().collect())
}

/// The addresses of `status.loadBalancer.ingress` that packets carry when they come to nodes. With mode `Proxy` they carry a
/// node's own, so such an address is nobody's here.
fn ingress(reader: &mut Reader<'_>) -> Vec<Placed> {
    let path = "status.loadBalancer.ingress";
    let Some(listed) = reader.object.field(path).and_then(Value::as_array) else { return Vec::new() };
    let mut found = Vec::new();
    for (index, value) in listed.iter().enumerate() {
        let Some(text) = value.get("ip").filter(|text| !text.is_null()) else { continue };
        let modes = [("VIP", true), ("Proxy", false)];
        let mode = value.get("ipMode").filter(|mode| !mode.is_null());
        let reaches = match mode {
            None => Some(true),
            Some(mode) => reader.word(LEFT_OUT, mode, &format!("{path}[{index}].ipMode"), &modes),
        };
        if let (Some(true), Some(address)) = (reaches, reader.address(text, || format!("{path}[{index}].ip"))) {
            found.push(Placed { index, address });
        }
    }
    found
}

fn placement(
    reader: &mut Reader<'_>,
    spec: &Map<String, Value>,
    cluster_ips: &[Placed],
    texts: &mut Interner,
) -> Placement {
    let object = reader.object;
    let listed = reader.list(LEFT_OUT, spec, "spec", "ipFamilies").unwrap_or_default();
    let words = [("IPv4", Family::V4), ("IPv6", Family::V6)];
    let mut families =
        reader.each(listed, "spec.ipFamilies", |reader, value, path| reader.word(LEFT_OUT, value, path, &words));
    for placed in cluster_ips {
        let family = family_of(placed.address);
        if !families.contains(&family) {
            families.push(family);
        }
    }
    let policies = [("SingleStack", false), ("PreferDualStack", false), ("RequireDualStack", true)];
    let all_families = reader.word_or(spec, "spec", "ipFamilyPolicy", &policies, false);
    let note = |key: &str| object.metadata.annotations.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
    let path = format!("metadata.annotations[{WANTED}]");
    let mut wanted = Vec::new();
    for text in note(WANTED).into_iter().flat_map(|text| text.split(',')) {
        wanted.extend(reader.address(&Value::from(text.trim()), || path.clone()));
    }
    if let Some(value) = present(spec, "loadBalancerIP").filter(|value| value.as_str() != Some("")) {
        wanted.extend(reader.address(value, || "spec.loadBalancerIP".to_owned()));
    }
    let class = present(spec, "loadBalancerClass").and_then(Value::as_str);
    Placement {
        ours: class.is_none_or(|class| class == CLASS),
        families,
        all_families,
        wanted,
        pool: note(POOL).map(|text| texts.text(text)),
        // A word holds within a namespace: nobody else's service gets to stand at our address.
        sharing: note(SHARING).map(|text| texts.text(&format!("{}/{text}", name(object).namespace))),
    }
}

/// The family of an address.
pub(in crate::service) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}
