//! A service's frontend with its backends, as a service proxy translates it. Never a Service object: `service` reads those.

use super::EndpointId;
use crate::backend::Item;
use crate::policy::model::Protocol;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

/// Which service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in it.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where clients find a service: the key of a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// The address.
    pub address: IpAddr,
    /// The port, never 0.
    pub port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}/{}", SocketAddr::new(self.address, self.port), self.protocol)
    }
}

/// What kind of address a frontend has. The order is the precedence where one service has an address as several kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// An address inside of the cluster, given by the API server.
    ClusterIp,
    /// An address that a load balancer gave: `status.loadBalancer.ingress`.
    LoadBalancer,
    /// An address of `externalIPs`.
    ExternalIp,
    /// An address of this node, with a port of the range of node ports.
    NodePort,
}

impl FrontendKind {
    /// Whether it is an address that clients outside are given beside the nodes' own.
    #[must_use]
    pub const fn is_external(self) -> bool {
        matches!(self, Self::LoadBalancer | Self::ExternalIp)
    }

    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("ClusterIP", Self::ClusterIp),
        ("LoadBalancer", Self::LoadBalancer),
        ("ExternalIP", Self::ExternalIp),
        ("NodePort", Self::NodePort),
    ];
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// Which backends a frontend may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrafficScope {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those on the node that a packet came to: the client's address is kept.
    Local,
}

/// How a backend is chosen for a new connection. Names are those of IPVS (`ipvsadm(8)`), and one more: `mh` and `maglev` are
/// the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheduler {
    /// One after the other.
    #[default]
    RoundRobin,
    /// One after the other, as often as their weights say.
    WeightedRoundRobin,
    /// The one with the fewest connections.
    LeastConnections,
    /// The one with the fewest connections for its weight.
    WeightedLeastConnections,
    /// The one where a connection waits least: the fewest connections, with the new one, for its weight.
    ShortestExpectedDelay,
    /// One without connections; where there is none, as [`Self::ShortestExpectedDelay`].
    NeverQueue,
    /// By the client's address.
    SourceHash,
    /// By the address that the client asked for.
    DestinationHash,
    /// By Maglev's table: few connections move when backends come and go.
    Maglev,
}

/// A text that is no scheduler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no scheduler; write one of rr, wrr, lc, wlc, sed, nq, sh, dh, mh, maglev")]
pub struct UnknownScheduler {
    /// The text.
    pub text: String,
}

impl Scheduler {
    /// Whether weights of backends count. IPVS's `rr`, `lc` and `dh` do not ask for them; its `sh` does, but gives its 256 places to
    /// as few backends as they fit (`ip_vs_sh_reassign` of `net/netfilter/ipvs/ip_vs_sh.c`).
    #[must_use]
    pub const fn weighs(self) -> bool {
        match self {
            Self::RoundRobin | Self::LeastConnections | Self::SourceHash | Self::DestinationHash => false,
            Self::WeightedRoundRobin
            | Self::WeightedLeastConnections
            | Self::ShortestExpectedDelay
            | Self::NeverQueue
            | Self::Maglev => true,
        }
    }

    const NAMES: [(&'static str, Self); 10] = [
        ("rr", Self::RoundRobin),
        ("wrr", Self::WeightedRoundRobin),
        ("lc", Self::LeastConnections),
        ("wlc", Self::WeightedLeastConnections),
        ("sed", Self::ShortestExpectedDelay),
        ("nq", Self::NeverQueue),
        ("sh", Self::SourceHash),
        ("dh", Self::DestinationHash),
        ("mh", Self::Maglev),
        ("maglev", Self::Maglev),
    ];
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, scheduler)| scheduler == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(text: &str) -> Result<Self, UnknownScheduler> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, scheduler)| *scheduler).ok_or_else(|| UnknownScheduler { text: text.to_owned() })
    }
}

/// What an endpoint says of itself. `discovery.k8s.io/v1`, `EndpointConditions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conditions {
    /// It takes connections, and is not going.
    pub ready: bool,
    /// It takes connections, perhaps while it is going.
    pub serving: bool,
    /// It is going.
    pub terminating: bool,
}

/// What a proxy does with a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendUse {
    /// It gets new connections.
    Active,
    /// It is going: connections that it has go on, new ones go elsewhere.
    Draining,
}

/// Where a connection may end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceBackend {
    /// Its address.
    pub address: IpAddr,
    /// Its port, never 0.
    pub port: u16,
    /// What to do with it.
    pub usage: BackendUse,
    /// How much of what comes it gets beside others, 1 to [`ServiceBackend::MOST_WEIGHT`], with a scheduler that weighs.
    pub weight: u16,
    /// What it says of itself.
    pub conditions: Conditions,
    /// Whether it is on this node.
    pub local: bool,
    /// The node that it is on, where that is known.
    pub node: Option<Arc<str>>,
    /// The zone that it is in, where that is known.
    pub zone: Option<Arc<str>>,
}

impl ServiceBackend {
    /// The greatest weight: what Maglev's tables and IPVS's counters can tell apart.
    pub const MOST_WEIGHT: u16 = 1_000;

    /// Whether it gets connections as one that is ready, not for want of one.
    #[must_use]
    pub fn is_in_full_use(&self) -> bool {
        self.usage == BackendUse::Active && (self.conditions.ready || !self.conditions.terminating)
    }
}

/// One frontend with all of its backends: what a service proxy translates at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceItem {
    /// Where clients find it.
    pub key: ServiceKey,
    /// The service.
    pub service: ServiceName,
    /// The name of the service's port, empty for the only one.
    pub port_name: Arc<str>,
    /// What kind of address it has.
    pub kind: FrontendKind,
    /// Whether only backends of this node were to be used.
    pub scope: TrafficScope,
    /// How a backend is chosen.
    pub scheduler: Scheduler,
    /// A client's later connections go to the same backend for so many seconds after its last one, 1 to 86,400; `None`: each
    /// connection for itself.
    pub affinity_seconds: Option<NonZeroU32>,
    /// Only clients from these prefixes are served, of none: nobody; `None`: everybody.
    pub sources: Option<Arc<[IpNet]>>,
    /// The port at which nodes answer whether they have a backend, for outside balancers.
    pub health_check_port: Option<u16>,
    /// A packet goes on to another node as it is, in a tunnel, and the answer from there to the client, not through the node
    /// that the packet came to. A node that has backends in use does not send to others then.
    pub direct_return: bool,
    /// Where connections may end, in order of address and port. No active one: connections are refused.
    pub backends: Arc<[ServiceBackend]>,
}

impl ServiceItem {
    /// Backends that get new connections.
    pub fn active(&self) -> impl Iterator<Item = &ServiceBackend> {
        self.backends.iter().filter(|backend| backend.usage == BackendUse::Active)
    }
}

impl Item for ServiceItem {
    type Key = ServiceKey;

    fn key(&self) -> ServiceKey {
        self.key.clone()
    }
}

/// A pod of this node as a user of services: for proxies that serve sockets, and so have to know whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceClient {
    /// Its attachment.
    pub endpoint: EndpointId,
    /// The number of its network namespace (`SO_NETNS_COOKIE`, Linux 5.14), which no other has until the machine starts anew.
    pub netns_cookie: u64,
    /// The inode of that namespace.
    pub netns_inode: u64,
    /// Its addresses: who it is for a service that is not for all clients.
    pub addresses: Vec<IpAddr>,
}

impl Item for ServiceClient {
    type Key = EndpointId;

    fn key(&self) -> EndpointId {
        self.endpoint.clone()
    }
}
