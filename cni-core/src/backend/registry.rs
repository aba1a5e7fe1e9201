//! Backends by name. Never a global list: a registry is a value that a program fills and passes on.

use super::{Datapath, Engine, Error, ErrorKind, Meter, Result, ServiceCounters, ServiceProxy};
use crate::flow::FlowSource;
use crate::model::{NodeContext, ServiceClient};
use crate::policy::counters::RuleCounters;
use crate::policy::failsafe::ProtocolPort;
use crate::policy::program::PolicyEngine;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What a backend is opened with.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// The node.
    pub node: NodeContext,
    /// The backend's own section of the configuration; `Null` when there is none.
    pub config: serde_json::Value,
    /// A directory for the backend's files. It exists, belongs to this backend alone, and outlives the process.
    pub state_dir: PathBuf,
    /// Parts of other backends that have to see every packet of pods in the host's stack, each as `policy nftables`. No
    /// packet may skip it then.
    pub host_stack_for: Vec<String>,
}

/// Tells that the kernel may have drifted from what we wrote.
#[async_trait]
pub trait DriftWatch: Send {
    /// Waits until something of ours, or something ours depends on, was changed by somebody else.
    ///
    /// Several changes may come as one. Each answer asks for one resync.
    ///
    /// # Errors
    /// The watch broke; the caller falls back to periodic resync.
    async fn changed(&mut self) -> Result<()>;
}

/// Answers questions that only one backend can answer, such as what a routing protocol knows. For people: nothing of a node
/// depends on an answer.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// The questions it answers, each with a line about it; sorted.
    fn questions(&self) -> &'static [(&'static str, &'static str)];

    /// Answers one of them. A list of flat objects is shown as a table, everything else as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another question, [`ErrorKind::Invalid`] for an argument that is none,
    /// [`ErrorKind::Missing`] for something that there is not.
    async fn ask(&self, question: &str, arguments: &[String]) -> Result<serde_json::Value>;

    /// What monitors shall see, as numbers: name, labels with their values, value. Names begin with the backend's.
    async fn gauges(&self) -> Vec<Gauge>;
}

/// A number for monitors.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Its name: lower case, with `_` between words and its unit at the end.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Labels and their values.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: f64,
}

/// An opened backend, taken apart so that parts of different backends can be combined.
#[non_exhaustive]
pub struct Parts {
    /// The pod network.
    pub datapath: Box<dyn Datapath>,
    /// What this node's peers need to know of it (`vtep-mac`, `asn`, ...): they get it as [`crate::model::Peer::attributes`].
    pub attributes: BTreeMap<Arc<str>, Arc<str>>,
    /// The MTU of pod interfaces in bytes: the underlay's less this backend's encapsulation.
    pub pod_mtu_bytes: u32,
    /// Events that ask for a resync, where the backend can tell.
    pub drift: Option<Box<dyn DriftWatch>>,
    /// What the backend wants the operator to know (an offload turned off, a fallback taken).
    pub notices: Vec<String>,
    /// Questions that this backend answers.
    pub inspect: Option<Arc<dyn Inspect>>,
    /// What it drops, and how full its tables are, where it can tell.
    pub meter: Option<Arc<dyn Meter>>,
    /// Ports at which nodes need each other for the pod network (a tunnel's). Policies about hosts never close them, so the
    /// backend itself keeps everybody else out.
    pub node_ports: Vec<ProtocolPort>,
}

impl Parts {
    /// Parts with a datapath and nothing else.
    #[must_use]
    pub fn new(datapath: Box<dyn Datapath>, pod_mtu_bytes: u32) -> Self {
        Self {
            datapath,
            attributes: BTreeMap::new(),
            pod_mtu_bytes,
            drift: None,
            notices: Vec::new(),
            inspect: None,
            meter: None,
            node_ports: Vec::new(),
        }
    }
}

/// A backend before it is opened.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The name that configurations use.
    fn name(&self) -> &str;

    /// Checks the backend's own section of the configuration. Pure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] that names key, value and what would be right.
    fn check(&self, config: &serde_json::Value) -> Result<()>;

    /// Takes away what another backend in this one's place would not know as left behind: it is called before that one is
    /// opened, in the network namespace of the calling thread. Nothing, where each object carries a mark that all backends
    /// look for; so it is here unless a backend says otherwise.
    ///
    /// # Errors
    /// The kernel refused.
    fn clear(&self) -> Result<()> {
        Ok(())
    }

    /// Probes the node and opens the backend. Writes nothing to the kernel that [`super::Engine::commit`] should write.
    ///
    /// # Errors
    /// The configuration is not acceptable, or the node lacks what it needs ([`ErrorKind::Unsupported`], with the reason).
    async fn open(&self, request: OpenRequest) -> Result<Parts>;
}

/// Where, on its way, a packet to a service gets the address of an endpoint. Policy is about endpoints, so whoever judges a
/// packet has to do so after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Translation {
    /// At the client's socket: a packet has the endpoint's address from the beginning.
    Socket,
    /// Where the host's stack delivers packets to the node itself. From there they leave as the node's own packets do: what
    /// is forwarded passes the hooks of input, output and postrouting, and never that of forwarding.
    Delivery,
}

/// A policy engine before it is opened. It works with every backend whose packets it sees.
#[async_trait]
pub trait PolicyBackend: Send + Sync {
    /// The name that configurations use.
    fn name(&self) -> &str;

    /// Checks the engine's own part of the configuration. Pure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] that names key, value and what would be right.
    fn check(&self, config: &serde_json::Value) -> Result<()>;

    /// Whether the engine sees a packet of a pod only where the host's stack does. No datapath may then let packets skip it.
    fn needs_host_stack(&self) -> bool;

    /// Whether the engine judges packets to services by the endpoint's address, where a proxy translates them there.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the reason: the two do not go together.
    fn judges_after(&self, translation: Translation) -> Result<()>;

    /// Probes the node and opens the engine, in the network namespace of the calling thread. Writes nothing to the kernel
    /// that [`super::Engine::commit`] should write. A proxy of ours translates services at `translation`; `None`: none does.
    ///
    /// # Errors
    /// The configuration is not acceptable, or the node lacks what it needs ([`ErrorKind::Unsupported`], with the reason).
    async fn open(&self, config: &serde_json::Value, translation: Option<Translation>) -> Result<PolicyParts>;

    /// Whether the kernel has anything that this engine enforced, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn is_there(&self) -> Result<bool>;

    /// Removes all that this engine ever wrote, so that another one, or none, can take its place.
    ///
    /// # Errors
    /// The kernel refused; nothing is changed then.
    fn clear(&self) -> Result<()>;
}

/// An opened policy engine.
#[non_exhaustive]
pub struct PolicyParts {
    /// The engine.
    pub engine: Box<dyn PolicyEngine>,
    /// Events that ask for a resync, where the engine can tell.
    pub drift: Option<Box<dyn DriftWatch>>,
    /// What its rules count, where it can tell.
    pub counters: Option<Arc<dyn RuleCounters>>,
    /// What it decides, packet by packet or connection by connection, where it can tell.
    pub flows: Option<Box<dyn FlowSource>>,
    /// What it drops, and how full its tables are, where it can tell.
    pub meter: Option<Arc<dyn Meter>>,
}

impl PolicyParts {
    /// An engine that cannot tell of drift or flows, and does not count.
    #[must_use]
    pub fn new(engine: Box<dyn PolicyEngine>) -> Self {
        Self { engine, drift: None, counters: None, flows: None, meter: None }
    }
}

/// A service proxy before it is opened: what turns addresses of services into those of endpoints. It works beside every
/// backend whose pods it reaches.
#[async_trait]
pub trait ProxyBackend: Send + Sync {
    /// The name that configurations use.
    fn name(&self) -> &str;

    /// Checks the proxy's own part of the configuration. Pure.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] that names key, value and what would be right.
    fn check(&self, config: &serde_json::Value) -> Result<()>;

    /// Whether the proxy sees a packet of a pod only where the host's stack does. No datapath may then let packets skip it.
    fn needs_host_stack(&self) -> bool;

    /// Where it translates. A policy engine beside it has to judge packets after that ([`PolicyBackend::judges_after`]).
    fn translates(&self) -> Translation;

    /// Probes the node and opens the proxy, in the network namespace of the calling thread. Writes nothing to the kernel that
    /// [`super::Engine::commit`] should write.
    ///
    /// # Errors
    /// The configuration is not acceptable, or the node lacks what it needs ([`ErrorKind::Unsupported`], with the reason).
    async fn open(&self, request: OpenRequest) -> Result<ProxyParts>;

    /// Removes all that this proxy ever wrote, so that another one, or none, can take its place.
    ///
    /// # Errors
    /// The kernel refused.
    fn clear(&self) -> Result<()>;
}

/// An opened service proxy.
#[non_exhaustive]
pub struct ProxyParts {
    /// The proxy.
    pub proxy: Box<dyn ServiceProxy>,
    /// The pods that are served, where the proxy has to be told: one that works at sockets, which other agents may serve as
    /// well. The node itself is always served. `None`: whatever comes by is.
    pub clients: Option<Box<dyn Engine<ServiceClient>>>,
    /// Events that ask for a resync, where the proxy can tell.
    pub drift: Option<Box<dyn DriftWatch>>,
    /// What the proxy wants the operator to know.
    pub notices: Vec<String>,
    /// What passes services, where it counts that.
    pub counters: Option<Arc<dyn ServiceCounters>>,
    /// What it drops, and how full its tables are, where it can tell.
    pub meter: Option<Arc<dyn Meter>>,
}

impl ProxyParts {
    /// A proxy that serves whatever comes by, and cannot tell of drift.
    #[must_use]
    pub fn new(proxy: Box<dyn ServiceProxy>) -> Self {
        Self { proxy, clients: None, drift: None, notices: Vec::new(), counters: None, meter: None }
    }
}

/// Backends, policy engines and service proxies by name.
#[derive(Default, Clone)]
pub struct Registry {
    backends: BTreeMap<String, Arc<dyn Backend>>,
    policies: BTreeMap<String, Arc<dyn PolicyBackend>>,
    proxies: BTreeMap<String, Arc<dyn ProxyBackend>>,
}

impl Registry {
    /// The same with one more backend; one of the same name is replaced.
    #[must_use]
    pub fn with(mut self, backend: impl Backend + 'static) -> Self {
        self.backends.insert(backend.name().to_owned(), Arc::new(backend));
        self
    }

    /// The same with one more policy engine; one of the same name is replaced.
    #[must_use]
    pub fn with_policy(mut self, engine: impl PolicyBackend + 'static) -> Self {
        self.policies.insert(engine.name().to_owned(), Arc::new(engine));
        self
    }

    /// The same with one more service proxy; one of the same name is replaced.
    #[must_use]
    pub fn with_proxy(mut self, proxy: impl ProxyBackend + 'static) -> Self {
        self.proxies.insert(proxy.name().to_owned(), Arc::new(proxy));
        self
    }

    /// Service proxies, sorted by name.
    pub fn proxies(&self) -> impl Iterator<Item = &Arc<dyn ProxyBackend>> {
        self.proxies.values()
    }

    /// The service proxy of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] that lists the names there are.
    pub fn proxy(&self, name: &str) -> Result<Arc<dyn ProxyBackend>> {
        self.proxies.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.proxies.keys().map(String::as_str).collect();
            let detail = format!("this build has no service proxy {name:?}; it has: {}", known.join(", "));
            Error::new(ErrorKind::Unsupported, "open", "services", detail)
        })
    }

    /// Policy engines, sorted by name.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<dyn PolicyBackend>> {
        self.policies.values()
    }

    /// The policy engine of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] that lists the names there are.
    pub fn policy(&self, name: &str) -> Result<Arc<dyn PolicyBackend>> {
        self.policies.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.policies.keys().map(String::as_str).collect();
            let detail = format!("this build has no policy engine {name:?}; it has: {}", known.join(", "));
            Error::new(ErrorKind::Unsupported, "open", "policy", detail)
        })
    }

    /// Names of backends, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.backends.keys().map(String::as_str)
    }

    /// Backends, sorted by name.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<dyn Backend>> {
        self.backends.values()
    }

    /// The backend of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Arc<dyn Backend>> {
        self.backends.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.names().collect();
            let detail = format!("no such backend in this build; there are: {}", names.join(", "));
            Error {
                field: Some("backend"),
                ..Error::new(ErrorKind::Unsupported, "open", format!("backend {name}"), detail)
            }
        })
    }
}
