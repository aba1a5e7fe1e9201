//! How a node comes up, in an order that leaves pods their network at every moment.
//!
//! ```text
//!  state directory, its lock -> store, pools -> underlay -> backend, proxy, policy opened -> publish ourselves -> addresses
//!    -> records and veths, pods that the proxy serves -> policy in sync -> pods in the datapath
//!    -> whole first state of the store: datapath and services in sync -> what other policy engines left goes -> tasks
//! ```

use super::cluster::Cluster;
use super::counted::Counted;
use super::engine::EngineHandle;
use super::error::NodeError;
use super::events::Observer;
use super::ipam::Source;
use super::kernel::Kernel;
use super::locks::Locks;
use super::meters::{self, Meters};
use super::policy::{self, Policy};
use super::records::Records;
use super::reload::Sections;
use super::{Inner, Node, balance, services, tasks, underlay};
use crate::config::{NodeConfig, PolicyConfig, ServicesConfig, StateConfig, StoreConfig};
use cni_core::backend::{Capability, Meter, OpenRequest, Parts, PolicyParts, Registry, Translation};
use cni_core::ipam::{IpamError, LeaseStore};
use cni_core::model::{Underlay, overlap};
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::store::{FilesStore, LocalDatabase, MemoryStore, Store};
use net_linux::marks;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        cluster.bring_balancer_pools().await?;
        let host_stack_for = host_stack_for(&config, registry)?;
        let translation = translation(&config, registry)?;
        let request = |part: &str, name: &str, config: &serde_json::Value| {
            let own = state_dir.join(part).join(name);
            let host_stack_for = host_stack_for.clone();
            make(&own).map(|()| OpenRequest {
                node: cluster.context(),
                config: config.clone(),
                state_dir: own,
                host_stack_for,
            })
        };
        for other in registry.backends().filter(|other| other.name() != config.backend) {
            other.clear()?;
        }
        let asked = request(BACKEND_FILES, &config.backend, &config.backend_config)?;
        let Parts { datapath, attributes, pod_mtu_bytes, drift, mut notices, inspect, meter, node_ports, .. } =
            registry.get(&config.backend)?.open(asked).await?;
        let of_services = config.services.clone().unwrap_or_default();
        // Who has no proxy has a section for what is announced only.
        if config.services.is_some() && (of_services.engine == ServicesConfig::NONE || !of_services.announce.is_empty())
        {
            datapath.capabilities().require(&[Capability::ServiceAddresses])?;
        }
        let asked = match of_services.engine.as_str() {
            ServicesConfig::NONE => None,
            engine => Some(request(SERVICES_FILES, engine, &of_services.config)?),
        };
        let proxy = services::open(&config, registry, asked, &observer).await?;
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
        let (proxy, clients, health, translating, counted, of_proxy) = match proxy {
            None => (None, None, None, Vec::new(), Counted::default(), None),
            Some(services::Proxy { engine, clients, health, running, notices: told, counted, meter }) => {
                notices.extend(told);
                (Some(engine), clients, Some(health), running, counted, meter)
            }
        };
        let (datapath, running) = EngineHandle::start(datapath, drift, config.resync_interval, observer.clone());
        if let Some(files) = files.as_ref().filter(|_| config.policy.engine != PolicyConfig::NONE) {
            refuse_broken(files).await?;
        }
        let opened = open_policy(&config, registry, store, &observer, node_ports, translation).await?;
        let (policy, enforcing, of_policy) = match opened {
            None => (None, None, None),
            Some((policy, running, meter)) => (Some(policy), Some(running), meter),
        };
        let meters = Meters::new([("backend", meter), ("policy", of_policy), ("services", of_proxy)]);
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
            proxy,
            health,
            clients,
            policy,
            counted,
            meters,
            former_policy: AtomicBool::new(false),
            kernel,
            cluster,
            records: Records::default(),
            locks: Locks::default(),
            observer,
            reap: Notify::new(),
        });
        let attached = inner.recover().await?;
        // Before the datapath: it may begin to take packets past an engine that saw them so far.
        let policies = match &inner.policy {
            None => None,
            Some(policy) => {
                let mut following = policy.follow().await?;
                let interfaces = inner.kernel.interfaces().await?;
                let was_there = registry.policy(&inner.config.policy.engine)?.is_there()?;
                let pods = inner.records.all();
                policy.first_sync(&mut following, &pods, interfaces).await?;
                refuse_two_engines(policy, &inner.config.policy.engine, registry)?;
                if !was_there && !pods.is_empty() {
                    refuse_open_pods(policy, &inner.config.policy.engine, registry)?;
                }
                Some(following)
            }
        };
        inner.datapath.change_all(attached).await?;
        let mut following = inner.cluster.follow().await?;
        inner.cluster.first_sync(&mut following, &inner.takers()).await?;
        if inner.policy.is_some() {
            // What another engine enforced is in force until this one does, and sees all packets: pods are open at no moment.
            if inner.datapath.state().last_commit.failed.is_empty() {
                clear_other_engines(&inner.config.policy.engine, registry)?;
            } else {
                let others = registry.policies().filter(|other| other.name() != inner.config.policy.engine);
                let is_there = others.map(|other| other.is_there()).collect::<Result<Vec<_>, _>>()?.contains(&true);
                inner.former_policy.store(is_there, Ordering::Relaxed);
                tracing::error!(
                    "the datapath is not all there; what another engine enforced stays, until the next start"
                );
            }
        }
        inner.take_node_addresses().await;
        inner.bury_all().await;
        let mut tasks = vec![
            running,
            tokio::spawn(tasks::follow(inner.clone(), following)),
            tokio::spawn(tasks::reap(inner.clone())),
            tokio::spawn(tasks::look(inner.clone())),
        ];
        tasks.extend(enforcing);
        tasks.extend(translating);
        tasks.extend(policies.map(|following| tokio::spawn(tasks::follow_policy(inner.clone(), following))));
        tasks.push(tokio::spawn(tasks::remember_pods(inner.clone())));
        tasks.push(tokio::spawn(policy::hear(inner.clone())));
        tasks.push(tokio::spawn(meters::watch(inner.clone())));
        if inner.config.services.is_some() {
            tasks.push(tokio::spawn(balance::run(inner.clone(), files.clone())));
        }
        // Other nodes read a directory; memory is ours alone.
        tasks.extend(files.is_some().then(|| tokio::spawn(tasks::tell_of_pods(inner.clone()))));
        tasks.extend(files.map(|files| tokio::spawn(tasks::follow_files(inner.clone(), files))));
        Ok(Self { inner, tasks, _state: state })
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

/// While policy is not all in force here, what another engine enforced has to stay; and the datapath may be one that takes packets
/// past that one.
fn refuse_two_engines(policy: &Policy, wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let Some(failure) = policy.engine().state().last_commit.failed.into_iter().next() else { return Ok(()) };
    for other in registry.policies().filter(|other| other.name() != wanted) {
        if other.is_there()? {
            let (wanted, other) = (wanted.to_owned(), other.name().to_owned());
            return Err(NodeError::NotInForce { wanted, other, why: failure.error });
        }
    }
    Ok(())
}

/// Pods that are open, because nobody enforced policy so far, would stay open. What the engine wrote goes: it would be taken for
/// something that was in force.
fn refuse_open_pods(policy: &Policy, wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let Some(failure) = policy.engine().state().last_commit.failed.into_iter().next() else { return Ok(()) };
    registry.policy(wanted)?.clear()?;
    Err(NodeError::PodsOpen { wanted: wanted.to_owned(), why: failure.error })
}

/// What engines that the configuration does not name left in the kernel goes.
fn clear_other_engines(wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let mut others = registry.policies().filter(|other| other.name() != wanted);
    Ok(others.try_for_each(|other| other.clear())?)
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

/// The policy engine that the configuration names.
async fn open_policy(
    config: &NodeConfig,
    registry: &Registry,
    store: Arc<dyn Store>,
    observer: &Arc<dyn Observer>,
    node_ports: Vec<ProtocolPort>,
    translation: Option<Translation>,
) -> Result<Option<(Policy, JoinHandle<()>, Option<Arc<dyn Meter>>)>, NodeError> {
    let wanted = config.policy.engine.as_str();
    if wanted == PolicyConfig::NONE {
        return clear_other_engines(wanted, registry).map(|()| None);
    }
    let PolicyParts { engine, drift, counters, flows, meter, .. } =
        registry.policy(wanted)?.open(&config.policy.config, translation).await?;
    let (engine, running) = EngineHandle::start(engine, drift, config.resync_interval, observer.clone());
    let mut failsafe = config.policy.failsafe.clone();
    for ports in [&mut failsafe.ingress, &mut failsafe.egress] {
        ports.extend(&node_ports);
    }
    Ok(Some((Policy::new(config.name.clone(), store, engine, counters, flows, failsafe), running, meter)))
}
