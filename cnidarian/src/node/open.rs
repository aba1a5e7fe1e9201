//! How a node comes up, in an order that leaves pods their network at every moment.
//!
//! ```text
//!  state directory, its lock -> store, pools -> underlay -> backend, proxy, policy opened -> publish ourselves -> addresses
//!    -> records and veths, pods that the proxy serves -> policy in sync -> pods in the datapath
//!    -> whole first state of the store: datapath and services in sync -> what other policy engines left goes -> tasks
//! ```

use super::cluster::Cluster;
use super::engine::EngineHandle;
use super::error::NodeError;
use super::events::Observer;
use super::ipam::Source;
use super::kernel::Kernel;
use super::locks::Locks;
use super::meters::Meters;
use super::records::Records;
use super::reload::Sections;
use super::services::{self, Proxy};
use super::{Inner, Node, policy, tasks, underlay};
use crate::config::{NodeConfig, PolicyConfig, ServicesConfig, StateConfig, StoreConfig};
use cni_core::backend::{Capability, OpenRequest, Parts, Registry, Translation};
use cni_core::ipam::{IpamError, LeaseStore};
use cni_core::model::{Underlay, overlap};
use cni_core::store::{FilesStore, LocalDatabase, MemoryStore, Store};
use net_linux::marks;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A file that was written a moment ago may be half written, so whether it is broken is not known yet. Where other agents
/// write all the time there is always such a file, so this is not waited for without end.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const SETTLE_TRIES: u32 = 20;

/// The folders of a state directory for the files of backends and of service proxies.
pub(crate) const BACKEND_FILES: &str = "backend";
/// See [`BACKEND_FILES`].
pub(crate) const SERVICES_FILES: &str = "services";

/// Where a node's own files are.
pub(super) enum StateDir {
    Kept(PathBuf),
    Ephemeral(tempfile::TempDir),
}

impl StateDir {
    fn open(config: &StateConfig) -> Result<Self, NodeError> {
        match config {
            StateConfig::Directory(path) => {
                make(path)?;
                Ok(Self::Kept(path.clone()))
            }
            StateConfig::Ephemeral => {
                let made = tempfile::Builder::new().prefix("cnidarian-").tempdir();
                let failed = |source| io_error("make a temporary directory in", &std::env::temp_dir(), source);
                Ok(Self::Ephemeral(made.map_err(failed)?))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Ephemeral(directory) => directory.path(),
        }
    }
}

fn io_error(operation: &'static str, path: &Path, source: std::io::Error) -> NodeError {
    NodeError::Io { operation, path: path.to_owned(), source: Arc::new(source) }
}

fn make(path: &Path) -> Result<(), NodeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| io_error("make directory", path, source))
}

/// A pool of the configuration that overlaps the underlay would cut this node off from the others.
fn refuse_pools_on(underlay: &Underlay, config: &NodeConfig) -> Result<(), NodeError> {
    for pool in &config.ipam.pools {
        if let Some(segment) = underlay.segments().find(|segment| overlap(segment, &pool.cidr)) {
            let (cidr, interface) = (pool.cidr, &underlay.interface);
            let problem =
                format!("{cidr} overlaps {segment} of the underlay ({interface}); use a pool outside of {segment}");
            let object = format!("pool {}", pool.name);
            return Err(IpamError::Invalid { object, field: "cidr", problem }.into());
        }
    }
    Ok(())
}

/// What all parts of a node stand on: its files, its place in the network, what the cluster knows.
struct Ground {
    state: StateDir,
    leases: Arc<dyn LeaseStore>,
    /// The directory behind the store, where there is one.
    files: Option<FilesStore>,
    store: Arc<dyn Store>,
    kernel: Kernel,
    ipam: Arc<Source>,
    cluster: Cluster,
}

impl Ground {
    async fn open(config: &NodeConfig) -> Result<Self, NodeError> {
        let state = StateDir::open(&config.state)?;
        // The lock of this file is what keeps a second agent of this node away.
        let leases: Arc<dyn LeaseStore> = Arc::new(LocalDatabase::open(state.path().join(marks::STATE_DATABASE))?);
        let files = match &config.store {
            StoreConfig::Memory => None,
            StoreConfig::Files { directory } => Some(FilesStore::open(directory)?),
        };
        let store: Arc<dyn Store> = match &files {
            None => Arc::new(MemoryStore::new()),
            Some(files) => Arc::new(files.clone()),
        };
        let underlay = underlay::detect(&config.underlay)?;
        refuse_pools_on(&underlay, config)?;
        let kernel = Kernel::open()?;
        let ipam = Arc::new(Source::open(config, store.clone(), leases.clone()).await?);
        let cluster = Cluster::new(store.clone(), config, underlay, ipam.clone());
        cluster.bring_pools().await?;
        cluster.bring_balancer_pools().await?;
        Ok(Self { state, leases, files, store, kernel, ipam, cluster })
    }

    /// What a part is opened with, and a folder of its own for its files.
    fn request(
        &self,
        (part, name): (&str, &str),
        config: &serde_json::Value,
        host_stack_for: &[String],
    ) -> Result<OpenRequest, NodeError> {
        let state_dir = self.state.path().join(part).join(name);
        make(&state_dir)?;
        let (node, config) = (self.cluster.context(), config.clone());
        Ok(OpenRequest { node, config, state_dir, host_stack_for: host_stack_for.to_vec() })
    }

    /// The backend that the configuration names; what any other left is cleared away.
    async fn open_backend(
        &self,
        config: &NodeConfig,
        registry: &Registry,
        host_stack_for: &[String],
    ) -> Result<Parts, NodeError> {
        for other in registry.backends().filter(|other| other.name() != config.backend) {
            other.clear()?;
        }
        let asked = self.request((BACKEND_FILES, &config.backend), &config.backend_config, host_stack_for)?;
        let parts = registry.get(&config.backend)?.open(asked).await?;
        // Who has no proxy has a section for what is announced only.
        if let Some(services) = &config.services
            && (services.engine == ServicesConfig::NONE || !services.announce.is_empty())
        {
            parts.datapath.capabilities().require(&[Capability::ServiceAddresses])?;
        }
        for notice in &parts.notices {
            tracing::warn!(backend = %config.backend, "{notice}");
        }
        Ok(parts)
    }

    /// The service proxy that the configuration names.
    async fn open_proxy(
        &self,
        config: &NodeConfig,
        registry: &Registry,
        host_stack_for: &[String],
        observer: &Arc<dyn Observer>,
    ) -> Result<Proxy, NodeError> {
        let wanted = config.services.as_ref().filter(|services| services.engine != ServicesConfig::NONE);
        let asked =
            wanted.map(|services| self.request((SERVICES_FILES, &services.engine), &services.config, host_stack_for));
        services::open(config, registry, asked.transpose()?, observer).await
    }

    /// All parts, and what others find us by. Answers what runs, too.
    async fn open_parts(
        self,
        config: NodeConfig,
        registry: &Registry,
        observer: Arc<dyn Observer>,
    ) -> Result<(Inner, StateDir, Vec<JoinHandle<()>>), NodeError> {
        let host_stack_for = host_stack_for(&config, registry)?;
        let translation = translation(&config, registry)?;
        let backend = self.open_backend(&config, registry, &host_stack_for).await?;
        let Parts { datapath, attributes, drift, mut notices, inspect, meter, node_ports, .. } = backend;
        let proxy = self.open_proxy(&config, registry, &host_stack_for, &observer).await?;
        notices.extend(proxy.notices);
        let (datapath, task) = EngineHandle::start(datapath, drift, config.resync_interval, observer.clone());
        let mut running = vec![task];
        running.extend(proxy.running);
        if let Some(files) = self.files.as_ref().filter(|_| config.policy.engine != PolicyConfig::NONE) {
            refuse_broken(files).await?;
        }
        let policy = policy::open(&config, registry, self.store, &observer, node_ports, translation).await?;
        let policy_meter = policy.as_ref().and_then(|opened| opened.meter.clone());
        let policy = policy.map(|opened| {
            running.push(opened.running);
            opened.policy
        });
        // Peers find us, and blocks are claimed in our name, only once our Node is there.
        self.cluster.publish(&attributes).await?;
        self.ipam.refresh().await?;
        let inner = Inner {
            sections: tokio::sync::Mutex::new(Sections::of(&config)),
            pod_mtu_bytes: pod_mtu_bytes(config.mtu_bytes, backend.pod_mtu_bytes),
            config,
            attributes,
            notices,
            inspect,
            state_dir: self.state.path().to_owned(),
            ipam: self.ipam,
            leases: self.leases,
            datapath,
            proxy: proxy.engine,
            health: proxy.health,
            clients: proxy.clients,
            policy,
            counted: proxy.counted,
            meters: Meters::new([("backend", meter), ("policy", policy_meter), ("services", proxy.meter)]),
            former_policy: AtomicBool::new(false),
            kernel: self.kernel,
            cluster: self.cluster,
            records: Records::default(),
            locks: Locks::default(),
            observer,
            reap: Notify::new(),
        };
        Ok((inner, self.state, running))
    }
}

impl Node {
    /// As [`Node::open`], and tells an observer of everything that happens.
    ///
    /// # Errors
    /// As [`Node::open`].
    pub async fn open_observed(
        config: NodeConfig,
        registry: &Registry,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, NodeError> {
        let ground = Ground::open(&config).await?;
        let files = ground.files.clone();
        let (inner, state, mut tasks) = ground.open_parts(config, registry, observer).await?;
        let inner = Arc::new(inner);
        let following = inner.begin(registry).await?;
        tasks.extend(tasks::start(&inner, following, files));
        Ok(Self { inner, tasks, _state: state })
    }
}

/// The MTU of pods: what is configured, else what the backend's packets leave of the underlay's.
fn pod_mtu_bytes(configured: Option<u32>, fits: u32) -> u32 {
    if let Some(mtu) = configured.filter(|mtu| *mtu > fits) {
        tracing::warn!(mtu, fits, "mtu is more than the underlay carries; large packets will be lost");
    }
    configured.unwrap_or(fits)
}

/// Nobody knows which policies stand in a file that cannot be read. A running agent goes on with what it knew of it; one that
/// starts knows nothing, and would open what those policies close. So it does not start, and what the kernel has stays.
async fn refuse_broken(files: &FilesStore) -> Result<(), NodeError> {
    for _ in 0..SETTLE_TRIES {
        if files.is_settled().await? {
            break;
        }
        sleep(SETTLE_PAUSE).await;
    }
    match files.problems().await?.into_iter().next() {
        Some(problem) => Err(NodeError::BrokenManifest { problem }),
        None => Ok(()),
    }
}

/// Parts that have to see packets of pods in the host's stack, whatever the backend is.
fn host_stack_for(config: &NodeConfig, registry: &Registry) -> Result<Vec<String>, NodeError> {
    let engine = config.policy.engine.as_str();
    let policy = engine != PolicyConfig::NONE && registry.policy(engine)?.needs_host_stack();
    let policy = policy.then(|| format!("policy {engine}"));
    let proxy = config.services.as_ref().map(|services| services.engine.as_str());
    let proxy = match proxy.filter(|proxy| *proxy != ServicesConfig::NONE) {
        Some(proxy) if registry.proxy(proxy)?.needs_host_stack() => Some(format!("services {proxy}")),
        _ => None,
    };
    Ok(policy.into_iter().chain(proxy).collect())
}

/// Where the proxy that the configuration names translates, which the policy engine has to know how to follow.
fn translation(config: &NodeConfig, registry: &Registry) -> Result<Option<Translation>, NodeError> {
    let services = config.services.as_ref().filter(|services| services.engine != ServicesConfig::NONE);
    let Some(services) = services else { return Ok(None) };
    let translation = registry.proxy(&services.engine)?.translates();
    if config.policy.engine != PolicyConfig::NONE {
        registry.policy(&config.policy.engine)?.judges_after(translation)?;
    }
    Ok(Some(translation))
}
