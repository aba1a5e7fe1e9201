//! A whole node in process: backend, address management, store, and what keeps them together. Never a daemon of its
//! own: it lives in the tasks of the program that opened it, in the network namespace of that program.
//!
//! ```text
//!            attach, detach, check, gc                      store (nodes, pools, blocks)
//!                     |                                              | watch
//!   leases, records <-+-> veths (net-linux)                     peer table
//!   (one database)    |                                              |
//!                     +------> stage, commit: one datapath task <----+
//!                                        |  ^ drift watch, retry, resync
//!                                        v  |
//!                                      kernel
//! ```

mod attach;
mod balance;
mod begin;
mod cluster;
mod counted;
mod engine;
mod error;
mod events;
mod health;
mod ipam;
mod kernel;
mod locks;
mod meters;
mod open;
mod policy;
mod record;
mod records;
mod reload;
mod service_status;
mod services;
mod state;
mod status;
mod tasks;
mod tidy;
mod tombstones;
mod underlay;

pub use attach::{AttachRequest, CheckRequest};
pub use error::NodeError;
pub use events::{Event, Observer, Silent};
pub use meters::{PartDropped, PartTable};
pub(crate) use open::{BACKEND_FILES, SERVICES_FILES};
pub use service_status::{ServiceBackendStatus, ServiceStatus};
pub use status::{EndpointStatus, HostStatus, NodeStatus, PoolStatus, Problem};
pub use tidy::IpamFindings;

use crate::config::NodeConfig;
use cluster::Cluster;
use cni_core::backend::{self, Drift, Error, ErrorKind, Gauge, Inspect, Plan, Registry};
use cni_core::ipam::{Lease, LeaseStore, Usage};
use cni_core::model::{EndpointId, NetworkItem, NetworkName, PodRef, ServiceClient, ServiceItem};
use cni_core::policy::counters::RuleCounter;
use cni_core::rpc::Attachment;
use counted::Counted;
use engine::EngineHandle;
use health::HealthServer;
use ipam::Source;
use kernel::Kernel;
use locks::Locks;
use meters::Meters;
use policy::Policy;
use records::Records;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What the tasks of a node share.
struct Inner {
    config: NodeConfig,
    pod_mtu_bytes: u32,
    attributes: BTreeMap<Arc<str>, Arc<str>>,
    notices: Vec<String>,
    inspect: Option<Arc<dyn Inspect>>,
    /// Sections that are in force: those of `config` at first.
    sections: tokio::sync::Mutex<reload::Sections>,
    state_dir: PathBuf,
    ipam: Arc<Source>,
    leases: Arc<dyn LeaseStore>,
    datapath: EngineHandle<NetworkItem>,
    /// `None`: nobody here translates services.
    proxy: Option<EngineHandle<ServiceItem>>,
    /// Who answers balancers outside; `None`: nobody here translates services.
    health: Option<HealthServer>,
    /// What the proxy counts.
    counted: Counted,
    meters: Meters,
    /// What another policy engine enforced may still be there, beside ours.
    former_policy: AtomicBool,
    /// Pods that the proxy serves; `None`: it serves whatever comes by.
    clients: Option<EngineHandle<ServiceClient>>,
    /// `None`: no policy is enforced.
    policy: Option<Policy>,
    kernel: Kernel,
    cluster: Cluster,
    records: Records,
    locks: Locks,
    observer: Arc<dyn Observer>,
    /// Doomed links wait to be deleted.
    reap: Notify,
}

/// A node. Dropping it stops its tasks and leaves the kernel as it is: pods keep their network.
///
/// Every method may be called from many tasks at once: operations on one endpoint wait for each other, others do not.
/// An operation that was begun ends, even if the future that asked for it is dropped.
pub struct Node {
    inner: Arc<Inner>,
    tasks: Vec<JoinHandle<()>>,
    /// Removes an ephemeral state directory.
    _state: open::StateDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Milliseconds since the Unix epoch.
fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Node {
    /// Opens a node: finds the underlay, opens the backend, recovers what a predecessor left, and waits for the first
    /// full state of the store.
    ///
    /// # Errors
    /// [`NodeError`] that names what is missing; nothing of the kernel was changed unless recovery had begun.
    pub async fn open(config: NodeConfig, registry: &Registry) -> Result<Self, NodeError> {
        Self::open_observed(config, registry, Arc::new(Silent)).await
    }

    /// Runs an operation to its end, whether or not the caller waits for it.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, NodeError>> + Send + 'static,
    ) -> Result<T, NodeError> {
        tokio::spawn(work).await.unwrap_or(Err(NodeError::Closing))
    }

    /// Attaches a namespace, and answers when traffic flows.
    ///
    /// # Errors
    /// [`NodeError`]; what was begun is undone then.
    pub async fn attach(&self, request: AttachRequest) -> Result<Attachment, NodeError> {
        let inner = self.inner.clone();
        self.finish(async move {
            let begin = std::time::Instant::now();
            let outcome = inner.attach(&request).await;
            let (took, done) = (begin.elapsed(), outcome.is_ok());
            inner.observer.observe(Event::Attached { endpoint: &request.endpoint, took, done });
            outcome
        })
        .await
    }

    /// Detaches. What is not attached is a success.
    ///
    /// # Errors
    /// [`NodeError`] when something could not be taken back; call it again then.
    pub async fn detach(&self, endpoint: &EndpointId) -> Result<(), NodeError> {
        let (inner, endpoint) = (self.inner.clone(), endpoint.clone());
        self.finish(async move {
            let begin = std::time::Instant::now();
            let outcome = inner.detach(&endpoint).await;
            let (took, done) = (begin.elapsed(), outcome.is_ok());
            inner.observer.observe(Event::Detached { endpoint: &endpoint, took, done });
            outcome
        })
        .await
    }

    /// Compares an attachment with what was made: interface, addresses, routes and neighbours on both sides, leases.
    ///
    /// # Errors
    /// [`NodeError::Drifted`] with every difference, [`NodeError::NotAttached`].
    pub async fn check(&self, request: CheckRequest) -> Result<(), NodeError> {
        let inner = self.inner.clone();
        self.finish(async move { inner.check(&request).await }).await
    }

    /// Detaches what belongs to a network and is not listed, and answers what went.
    ///
    /// # Errors
    /// [`NodeError::Several`] with everything that could not be freed; the rest was.
    pub async fn gc(&self, network: &NetworkName, valid: BTreeSet<EndpointId>) -> Result<Vec<EndpointId>, NodeError> {
        let (inner, network) = (self.inner.clone(), network.clone());
        self.finish(async move { inner.gc(&network, &valid).await }).await
    }

    /// Whether an ADD would succeed now.
    ///
    /// # Errors
    /// [`NodeError::UnderlayUnusable`], [`NodeError::Ipam`] for exhausted pools, [`NodeError::DatapathLost`] when the kernel does not hold what it should.
    pub fn ready(&self) -> Result<(), NodeError> {
        self.inner.ready()
    }

    /// The whole state.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        self.inner.status()
    }

    /// How full the pools are.
    ///
    /// # Errors
    /// The local database failed.
    pub fn usage(&self) -> Result<Vec<Usage>, NodeError> {
        Ok(self.inner.ipam.get().usage(SystemTime::now())?)
    }

    /// All leases of this node, sorted by address.
    ///
    /// # Errors
    /// The local database failed.
    pub fn leases(&self) -> Result<Vec<Lease>, NodeError> {
        Ok(self.inner.ipam.get().leases()?)
    }

    /// Leases without interface, endpoints without lease.
    ///
    /// # Errors
    /// The kernel or the database could not be read.
    pub async fn ipam_check(&self) -> Result<IpamFindings, NodeError> {
        self.inner.findings().await
    }

    /// Frees one address by hand, if nothing uses it.
    ///
    /// # Errors
    /// [`NodeError::InUse`], [`NodeError::NotLeased`].
    pub async fn ipam_release(&self, address: IpAddr) -> Result<(), NodeError> {
        let inner = self.inner.clone();
        self.finish(async move { inner.release_address(address).await }).await
    }

    /// What the next commit would write.
    ///
    /// # Errors
    /// [`NodeError::Backend`] when the node is being closed.
    pub async fn plan(&self) -> Result<Plan, NodeError> {
        let mut plan = self.inner.datapath.plan().await?;
        if let Some(policy) = &self.inner.policy {
            plan = plan.and(policy.engine().plan().await?);
        }
        if let Some(proxy) = &self.inner.proxy {
            plan = plan.and(proxy.plan().await?);
        }
        if let Some(clients) = &self.inner.clients {
            plan = plan.and(clients.plan().await?);
        }
        Ok(plan)
    }

    /// Asks the backend something that only it can answer, see [`Inspect`].
    ///
    /// # Errors
    /// [`NodeError::Backend`]: what is wrong with the question, or the questions that there are.
    pub async fn inspect(&self, question: &str, arguments: &[String]) -> Result<serde_json::Value, NodeError> {
        let backend = &self.inner.config.backend;
        let Some(inspect) = &self.inner.inspect else {
            let detail = format!("backend {backend} answers no questions of its own");
            return Err(Error::new(ErrorKind::Unsupported, "ask", question, detail).into());
        };
        Ok(inspect.ask(question, arguments).await?)
    }

    /// What the backend has for monitors beside what every node has.
    pub async fn gauges(&self) -> Vec<Gauge> {
        match &self.inner.inspect {
            Some(inspect) => inspect.gauges().await,
            None => Vec::new(),
        }
    }

    /// Reads the store's policies whole and the kernel back, and repairs it. What was written to the store before this call
    /// is in force after it.
    ///
    /// # Errors
    /// The store or the kernel could not be read.
    pub async fn resync(&self) -> Result<Drift, NodeError> {
        let mut drift = self.inner.datapath.resync().await?;
        if let Some(policy) = &self.inner.policy {
            policy.refresh().await?;
            drift = drift.and(policy.engine().resync().await?);
        }
        if let Some(proxy) = &self.inner.proxy {
            drift = drift.and(proxy.resync().await?);
        }
        if let Some(clients) = &self.inner.clients {
            drift = drift.and(clients.resync().await?);
        }
        Ok(drift)
    }

    /// How often rules of policies were met on this node.
    ///
    /// # Errors
    /// No engine counts here ([`backend::ErrorKind::Unsupported`]), or the kernel could not be read.
    pub async fn policy_counters(&self) -> Result<Vec<RuleCounter>, NodeError> {
        let refused =
            |reason: &str| backend::Error::new(backend::ErrorKind::Unsupported, "read", "counters of policies", reason);
        let policy = self.inner.policy.as_ref().ok_or_else(|| refused("no policy is enforced on this node"))?;
        let reader = policy.counters().ok_or_else(|| refused("the policy engine does not count"))?;
        let read = tokio::task::spawn_blocking(move || reader.read());
        let mut counters = read.await.map_err(|_| NodeError::Closing)??;
        let records = self.inner.records.all();
        let pods: BTreeMap<&str, &PodRef> = records
            .iter()
            .filter_map(|record| Some((record.endpoint.host_interface.as_str(), record.endpoint.pod.as_ref()?)))
            .collect();
        for counter in &mut counters {
            let pod = counter.interface.as_deref().and_then(|interface| pods.get(interface));
            counter.pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name));
        }
        Ok(counters)
    }

    /// Does what tombstones ask for, and answers how many were done. Opening a node does it, too.
    pub async fn bury(&self) -> usize {
        self.inner.bury_all().await
    }
}
