//! How a node comes up, in an order that leaves pods their network at every moment.
//!
//! ```text
//!  state directory, its lock -> store, pools -> underlay -> backend -> addresses -> records and veths
//!    -> whole first state of the store -> in sync -> publish ourselves -> tasks
//! ```

use super::cluster::{Cluster, Following};
use super::engine::EngineHandle;
use super::error::NodeError;
use super::events::Observer;
use super::ipam::Source;
use super::kernel::Kernel;
use super::locks::Locks;
use super::policy::{self, Policy};
use super::records::Records;
use super::reload::Sections;
use super::{Inner, Node, underlay};
use crate::config::{NodeConfig, PolicyConfig, StateConfig, StoreConfig};
use cni_core::backend::{Capability, OpenRequest, Parts, PolicyParts, Registry};
use cni_core::ipam::{IpamError, LeaseStore};
use cni_core::model::{Underlay, overlap};
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::store::{FilesStore, LocalDatabase, MemoryStore, Store};
use futures_util::StreamExt;
use net_linux::{heap, marks};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Detached links wait this long for others, so that the kernel's grace periods are waited for once.
const REAP_PAUSE: Duration = Duration::from_millis(100);
/// A file that was written a moment ago may be half written, so whether it is broken is not known yet. Where other agents
/// write all the time there is always such a file, so this is not waited for without end.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
const SETTLE_TRIES: u32 = 20;
/// Changes of pods wait this long for others before other nodes are told.
const TELL_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries of a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often leaks are looked for, and the underlay is read again.
const LOOK: Duration = Duration::from_secs(10);

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
        let state = StateDir::open(&config.state)?;
        let state_dir = state.path().to_owned();
        // The lock of this file is what keeps a second agent of this node away.
        let leases: Arc<dyn LeaseStore> = Arc::new(LocalDatabase::open(state_dir.join(marks::STATE_DATABASE))?);
        let files = match &config.store {
            StoreConfig::Memory => None,
            StoreConfig::Files { directory } => Some(FilesStore::open(directory)?),
        };
        let store: Arc<dyn Store> = match &files {
            None => Arc::new(MemoryStore::new()),
            Some(files) => Arc::new(files.clone()),
        };
        let underlay = underlay::detect(&config.underlay)?;
        refuse_pools_on(&underlay, &config)?;
        let kernel = Kernel::open()?;
        let ipam = Arc::new(Source::open(&config, store.clone(), leases.clone()).await?);
        let cluster = Cluster::new(store.clone(), &config, underlay, ipam.clone());
        cluster.bring_pools().await?;
        let backend_dir = state_dir.join("backend").join(&config.backend);
        make(&backend_dir)?;
        let request = OpenRequest {
            node: cluster.context(),
            config: config.backend_config.clone(),
            state_dir: backend_dir,
            host_stack_for: host_stack_for(&config, registry)?,
        };
        for other in registry.backends().filter(|other| other.name() != config.backend) {
            other.clear()?;
        }
        let Parts { datapath, attributes, pod_mtu_bytes, drift, notices, inspect, node_ports, .. } =
            registry.get(&config.backend)?.open(request).await?;
        if config.services.is_some() {
            datapath.capabilities().require(&[Capability::ServiceAddresses])?;
        }
        for notice in &notices {
            tracing::warn!(backend = %config.backend, "{notice}");
        }
        let pod_mtu_bytes = match config.mtu_bytes {
            Some(mtu) if mtu > pod_mtu_bytes => {
                tracing::warn!(mtu, pod_mtu_bytes, "mtu is more than the underlay carries; large packets will be lost");
                mtu
            }
            mtu => mtu.unwrap_or(pod_mtu_bytes),
        };
        let (datapath, running) = EngineHandle::start(datapath, drift, config.resync_interval, observer.clone());
        if let Some(files) = files.as_ref().filter(|_| config.policy.engine != PolicyConfig::NONE) {
            refuse_broken(files).await?;
        }
        let (policy, enforcing) = open_policy(&config, registry, store, &observer, node_ports).await?.unzip();
        // Peers find us, and blocks are claimed in our name, only once our Node is there.
        cluster.publish(&attributes).await?;
        ipam.refresh().await?;
        let inner = Arc::new(Inner {
            sections: tokio::sync::Mutex::new(Sections::of(&config)),
            config,
            pod_mtu_bytes,
            attributes,
            notices,
            inspect,
            state_dir,
            ipam,
            leases,
            datapath,
            policy,
            kernel,
            cluster,
            records: Records::default(),
            locks: Locks::default(),
            observer,
            reap: Notify::new(),
        });
        inner.recover().await?;
        let policies = match &inner.policy {
            None => None,
            Some(policy) => {
                let mut following = policy.follow().await?;
                let interfaces = inner.kernel.interfaces().await?;
                policy.first_sync(&mut following, &inner.records.all(), interfaces).await?;
                Some(following)
            }
        };
        let mut following = inner.cluster.follow().await?;
        inner.cluster.first_sync(&mut following, &inner.datapath).await?;
        inner.take_node_addresses().await;
        inner.bury_all().await;
        let mut tasks = vec![
            running,
            tokio::spawn(follow(inner.clone(), following)),
            tokio::spawn(reap(inner.clone())),
            tokio::spawn(look(inner.clone())),
        ];
        tasks.extend(enforcing);
        tasks.extend(policies.map(|following| tokio::spawn(follow_policy(inner.clone(), following))));
        tasks.push(tokio::spawn(remember_pods(inner.clone())));
        // Other nodes read a directory; memory is ours alone.
        tasks.extend(files.is_some().then(|| tokio::spawn(tell_of_pods(inner.clone()))));
        tasks.extend(files.map(|files| tokio::spawn(follow_files(inner.clone(), files))));
        Ok(Self { inner, tasks, _state: state })
    }
}

impl Inner {
    /// The node's own address in its blocks, so that pods of other nodes can answer it through the tunnel.
    async fn take_node_addresses(&self) {
        if let Err(error) = self.ipam.take_node_addresses().await {
            tracing::debug!(%error, "the node has no address of its own in the pools yet");
            return;
        }
        let changes = self.cluster.node_address_changes();
        if !changes.is_empty() {
            let _ = self.datapath.change_all(changes).await;
        }
    }
}

impl Inner {
    /// Some host endpoints are known by the addresses of their interface.
    async fn look_at_interfaces(&self) {
        let Some(policy) = &self.policy else { return };
        let told = match self.kernel.interfaces().await {
            Ok(interfaces) => policy.set_interfaces(interfaces).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "addresses of interfaces could not be passed on to policy");
        }
    }
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
    let sees = engine != PolicyConfig::NONE && registry.policy(engine)?.needs_host_stack();
    Ok(sees.then(|| format!("policy {engine}")).into_iter().collect())
}

/// The policy engine that the configuration names; what any other left is cleared away.
async fn open_policy(
    config: &NodeConfig,
    registry: &Registry,
    store: Arc<dyn Store>,
    observer: &Arc<dyn Observer>,
    node_ports: Vec<ProtocolPort>,
) -> Result<Option<(Policy, JoinHandle<()>)>, NodeError> {
    let wanted = config.policy.engine.as_str();
    for other in registry.policies().filter(|other| other.name() != wanted) {
        other.clear()?;
    }
    if wanted == PolicyConfig::NONE {
        return Ok(None);
    }
    let PolicyParts { engine, drift, counters, .. } = registry.policy(wanted)?.open(&config.policy.config).await?;
    let (engine, running) = EngineHandle::start(engine, drift, config.resync_interval, observer.clone());
    let mut failsafe = config.policy.failsafe.clone();
    for ports in [&mut failsafe.ingress, &mut failsafe.egress] {
        ports.extend(&node_ports);
    }
    Ok(Some((Policy::new(config.name.clone(), store, engine, counters, failsafe), running)))
}

async fn follow_policy(inner: Arc<Inner>, following: policy::Following) {
    if let Some(policy) = &inner.policy {
        policy.run(following).await;
    }
}

/// Writes down which pods the store has told of.
async fn remember_pods(inner: Arc<Inner>) {
    let Some(policy) = &inner.policy else { return };
    loop {
        policy.told_of_pods().await;
        for record in inner.records.all() {
            if let Err(error) = inner.remember_pod(policy, &record).await {
                tracing::warn!(endpoint = %record.endpoint.id, %error, "cannot write down that the store knows its pod");
            }
        }
    }
}

/// Tells other nodes which addresses our pods have: who wrote a pod's manifest does not know them.
async fn tell_of_pods(inner: Arc<Inner>) {
    loop {
        if let Err(error) = inner.cluster.publish_endpoints(&inner.records.pods()).await {
            tracing::warn!(%error, "the addresses of our pods cannot be written to the store; trying again");
            sleep(RETRY).await;
            continue;
        }
        inner.records.changed().await;
        // Others come soon after, and the ADD itself still reads the store, which waits for a write.
        sleep(TELL_PAUSE).await;
    }
}

async fn follow(inner: Arc<Inner>, following: Following) {
    inner.cluster.run(following, &inner.datapath).await;
}

/// Tells of manifests that are not acceptable.
async fn follow_files(inner: Arc<Inner>, files: FilesStore) {
    let Ok(mut problems) = files.follow_problems().await else { return };
    while let Some(problems) = problems.next().await {
        inner.cluster.set_file_problems(problems);
    }
}

/// Deletes detached links, many at once.
async fn reap(inner: Arc<Inner>) {
    loop {
        inner.reap.notified().await;
        sleep(REAP_PAUSE).await;
        match inner.kernel.reap().await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "detached links cannot be deleted; trying again");
                sleep(Duration::from_secs(1)).await;
                inner.reap.notify_one();
            }
        }
    }
}

/// Leaks, tombstones beside a living agent, another underlay, a Node that somebody changed: of most no event tells.
/// Also gives back what bursts of events left free in the heap.
async fn look(inner: Arc<Inner>) {
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = BTreeMap::new();
    let mut addresses = inner.kernel.watch_addresses();
    loop {
        tokio::select! {
            _ = clock.tick() => {
                inner.bury_all().await;
                inner.look_for_leaks(&mut seen, inner.config.ipam.leak_grace, Instant::now()).await;
                inner.take_node_addresses().await;
                inner.ipam.maintain().await;
                heap::give_back();
            }
            // Peers send to the old address until they are told.
            () = addresses.changed() => {}
        }
        inner.look_at_interfaces().await;
        let config = inner.config.underlay.clone();
        match inner.kernel.underlay(config).await {
            Ok(found) => {
                let changes = inner.cluster.set_underlay(found);
                if !changes.is_empty() {
                    tracing::info!("the underlay changed");
                    let _ = inner.datapath.change_all(changes).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the underlay cannot be found; what was known stays in force");
                inner.cluster.lose_underlay(match error {
                    NodeError::Underlay { problem, .. } => problem,
                    other => other.to_string(),
                });
            }
        }
        if inner.cluster.must_publish(&inner.attributes)
            && let Err(error) = inner.cluster.publish(&inner.attributes).await
        {
            tracing::warn!(%error, "our Node cannot be written to the store; trying again");
        }
    }
}
