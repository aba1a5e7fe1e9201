//! The store's side of a node: what others published comes in, what we are goes out. Never touches the kernel.

mod balance;
mod publish;
mod services;

use super::engine::EngineHandle;
use super::error::NodeError;
use super::health::HealthServer;
use super::ipam::Source;
use super::status::Problem;
use crate::config::{IpamMode, NodeConfig};
use cni_core::backend::{Change, NetworkChange, ServiceChange};
use cni_core::cluster::{ClusterProblem, ClusterView, PodNetwork};
use cni_core::ipam::pools::Hints;
use cni_core::model::{HealthChange, Masquerade, NetworkItem, NodeContext, Peer, PodRef, ServiceItem, Underlay};
use cni_core::store::Problem as FileProblem;
use cni_core::store::{Event, Kind, Object, ObjectKey, Query, Store, StoreExt, Watch};
use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use ipnet::IpNet;
use services::Services;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the store says of a pod's addresses.
#[derive(Debug, Default)]
pub(super) struct PodWishes {
    /// Whether the store knows the pod.
    pub(super) known: bool,
    pub(super) hints: Hints,
    pub(super) namespace_labels: Option<BTreeMap<String, String>>,
}

/// Who is told of changes.
pub(super) struct Takers {
    pub(super) datapath: EngineHandle<NetworkItem>,
    /// `None`: nobody here translates services.
    pub(super) proxy: Option<EngineHandle<ServiceItem>>,
    /// `None`: nobody here answers balancers outside.
    pub(super) health: Option<HealthServer>,
}

/// What follows from events.
#[derive(Default)]
struct Changes {
    network: Vec<NetworkChange>,
    services: Vec<ServiceChange>,
    checks: Vec<HealthChange>,
}

impl Changes {
    fn extend(&mut self, later: Self) {
        self.network.extend(later.network);
        self.services.extend(later.services);
        self.checks.extend(later.checks);
    }

    async fn pass_on(self, to: &Takers) -> Result<(), NodeError> {
        // Who is told of an address comes at once: it is translated before.
        if let Some(proxy) = to.proxy.as_ref().filter(|_| !self.services.is_empty()) {
            proxy.change_all(self.services).await?;
        }
        if !self.network.is_empty() {
            to.datapath.change_all(self.network).await?;
        }
        if let Some(health) = to.health.as_ref().filter(|_| !self.checks.is_empty()) {
            health.change(self.checks).await?;
        }
        Ok(())
    }
}

/// The cluster as this node sees it.
pub(super) struct Cluster {
    store: Arc<dyn Store>,
    config: NodeConfig,
    view: Mutex<ClusterView>,
    /// `None`: nobody looks at services.
    services: Option<Mutex<Services>>,
    underlay: Mutex<Underlay>,
    /// Why there is no underlay now.
    lost: Mutex<Option<String>>,
    ipam: Arc<Source>,
    /// What the datapath was told of this node.
    told: Mutex<Option<NodeContext>>,
    /// Files of the store that are not in force.
    files: Mutex<Vec<FileProblem>>,
    disturbed: Mutex<Option<String>>,
    /// Addresses of load balancers may have to be others.
    unbalanced: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    pub(super) fn new(store: Arc<dyn Store>, config: &NodeConfig, underlay: Underlay, ipam: Arc<Source>) -> Self {
        let network = match config.ipam.mode {
            IpamMode::PodCidr => PodNetwork::PodCidrs,
            IpamMode::Pools => PodNetwork::Pools,
        };
        let view = ClusterView::new(config.name.clone(), network, underlay.v4, underlay.v6);
        ipam.set_underlay(&underlay);
        Self {
            store,
            config: config.clone(),
            view: Mutex::new(view),
            services: config.services.as_ref().map(|services| Mutex::new(Services::new(&config.name, services))),
            underlay: Mutex::new(underlay),
            lost: Mutex::new(None),
            ipam,
            told: Mutex::new(None),
            files: Mutex::new(Vec::new()),
            disturbed: Mutex::new(None),
            unbalanced: Notify::new(),
        }
    }

    pub(super) fn peers(&self) -> Vec<Peer> {
        lock(&self.view).peers().collect()
    }

    /// Who but a pod of this node has an address, or `None`: a pod that had it would cut them off from us.
    pub(super) fn holder(&self, address: IpAddr) -> Option<String> {
        let underlay = lock(&self.underlay).clone();
        let segments = [underlay.v4.map(IpNet::V4), underlay.v6.map(IpNet::V6)];
        if let Some(segment) = segments.into_iter().flatten().find(|segment| segment.contains(&address)) {
            return Some(format!("is on the underlay {} ({})", segment.trunc(), underlay.interface));
        }
        let view = lock(&self.view);
        view.peers().find_map(|peer| {
            let own = [peer.v4.map(IpAddr::V4), peer.v6.map(IpAddr::V6)].contains(&Some(address));
            let prefix = peer.prefixes.iter().find(|own| own.prefix.contains(&address));
            match prefix {
                _ if own => Some(format!("is the underlay address of node {}", peer.node)),
                Some(prefix) => Some(format!("is in {} of node {}", prefix.prefix, peer.node)),
                None => None,
            }
        })
    }

    /// What is wrong with files of the store now. What is new of it is logged.
    pub(super) fn set_file_problems(&self, problems: Vec<FileProblem>) {
        let mut known = lock(&self.files);
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            tracing::warn!(%problem, "a manifest is not acceptable; what was known of it stays");
        }
        *known = problems;
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let blocked = |problem: ClusterProblem| {
            let state = "blocked".to_owned();
            match problem {
                ClusterProblem::Invalid(invalid) => {
                    Problem { error: format!("{}: {}", invalid.field, invalid.detail), object: invalid.object, state }
                }
                other => Problem { object: "cluster".to_owned(), error: other.to_string(), state },
            }
        };
        let mut problems: Vec<Problem> = lock(&self.view).problems().into_iter().map(blocked).collect();
        problems.extend(self.services.iter().flat_map(|services| lock(services).problems().collect::<Vec<_>>()));
        problems.extend(self.ipam.problems().into_iter().map(|error| Problem {
            object: "address management".to_owned(),
            error,
            state: "blocked".to_owned(),
        }));
        problems.extend(lock(&self.files).iter().map(|problem| Problem {
            object: "store".to_owned(),
            error: problem.to_string(),
            state: "blocked".to_owned(),
        }));
        problems.extend(lock(&self.lost).iter().map(|error| Problem {
            object: "underlay".to_owned(),
            error: error.clone(),
            state: "waiting".to_owned(),
        }));
        problems.extend(lock(&self.disturbed).iter().map(|error| Problem {
            object: "store".to_owned(),
            error: error.clone(),
            state: "retrying".to_owned(),
        }));
        problems
    }

    /// What the datapath has to know of the node itself, with masquerading as the pools have it now.
    pub(super) fn context(&self) -> NodeContext {
        let masquerade = self.config.masquerade.enabled.then(|| {
            let sources = lock(&self.view).pod_prefixes();
            let mut keep: Vec<IpNet> = sources.iter().chain(&self.config.masquerade.keep).copied().collect();
            keep.sort_unstable();
            keep.dedup();
            Masquerade { sources, keep }
        });
        let own = lock(&self.view).own_node().map(|node| node.labels.clone()).unwrap_or_default();
        let labels = own.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        NodeContext { name: self.config.name.clone(), labels, underlay: lock(&self.underlay).clone(), masquerade }
    }

    /// What the store says of a pod. A pod that the store does not know wishes nothing.
    pub(super) async fn pod(&self, pod: Option<&PodRef>) -> Result<PodWishes, NodeError> {
        let Some(pod) = pod else { return Ok(PodWishes::default()) };
        let annotations = |object: &Option<Arc<Object>>| {
            object.as_ref().map(|object| object.metadata.annotations.clone()).unwrap_or_default()
        };
        let key = ObjectKey::namespaced(Kind::POD, &pod.namespace, &pod.name);
        let found = self.store.find(&key).await?;
        let namespace = self.store.find(&ObjectKey::cluster(Kind::NAMESPACE, &pod.namespace)).await?;
        let hints = Hints::from_annotations(&annotations(&found), &annotations(&namespace))?;
        let namespace_labels = namespace.map(|namespace| namespace.metadata.labels.clone());
        Ok(PodWishes { known: found.is_some(), hints, namespace_labels })
    }

    /// Begins to watch. Each stream begins with the whole state.
    pub(super) async fn follow(&self) -> Result<Following, NodeError> {
        let mut streams = Vec::new();
        let of_services = self.services.iter().flat_map(|_| Services::kinds());
        for kind in [Kind::IP_POOL, Kind::NODE, Kind::IP_BLOCK].into_iter().chain(of_services) {
            let watch: Watch = self.store.follow(&Query::kind(kind.clone())).await?;
            streams.push(watch.map(move |event| (kind.clone(), event)).boxed());
        }
        Ok(Following { waiting: streams.len(), events: select_all(streams) })
    }

    /// All frontends of services with their backends, sorted by service.
    pub(super) fn services(&self) -> Vec<ServiceItem> {
        let mut items = self.services.as_ref().map(|services| lock(services).items()).unwrap_or_default();
        items.sort_by(|one, other| {
            (&one.service, &one.port_name, &one.key).cmp(&(&other.service, &other.port_name, &other.key))
        });
        items
    }

    /// Takes in events until the whole first state is there, then tells of it and that the engines are in sync.
    ///
    /// Not before: a frontend without the slices of its service has no backend, and a proxy that is told of it refuses
    /// connections that its predecessor's kernel state still served.
    pub(super) async fn first_sync(&self, following: &mut Following, to: &Takers) -> Result<(), NodeError> {
        let mut all = Changes::default();
        while following.waiting > 0 {
            let Some((kind, event)) = following.events.next().await else { return Err(NodeError::Closing) };
            if matches!(event, Ok(Event::Resynced(_))) {
                following.waiting -= 1;
            }
            all.extend(self.take(&kind, event).await);
        }
        all.network.push(Change::InSync);
        all.services.push(Change::InSync);
        all.pass_on(to).await
    }

    /// Passes changes on for as long as the store lives.
    pub(super) async fn run(&self, mut following: Following, to: &Takers) {
        while let Some((kind, event)) = following.events.next().await {
            if let Err(error) = self.take(&kind, event).await.pass_on(to).await {
                tracing::warn!(%error, "a change of the cluster could not be passed on");
            }
        }
    }

    /// Takes an event in. Answers what follows from it.
    async fn take(&self, kind: &Kind, event: cni_core::store::Result<Event>) -> Changes {
        let event = match event {
            Ok(event) => {
                *lock(&self.disturbed) = None;
                event
            }
            Err(error) => {
                tracing::warn!(%error, "the store is disturbed; what was known stays in force");
                *lock(&self.disturbed) = Some(error.to_string());
                return Changes::default();
            }
        };
        let (refused, mut changes) = {
            let mut view = lock(&self.view);
            (view.take(kind, &event), view.changes())
        };
        let mut of_services = (Vec::new(), Vec::new());
        if let Some(services) = &self.services {
            let pods = lock(&self.view).pod_prefixes();
            let (follows, unbalanced) = {
                let mut services = lock(services);
                (services.take(kind, &event, &pods), services.take_unbalanced())
            };
            if unbalanced {
                self.unbalanced.notify_one();
            }
            changes.extend(follows.addresses);
            of_services = (follows.items, follows.checks);
        }
        for error in refused {
            tracing::warn!(%error, "an object of the store is not acceptable; what was known of it stays");
        }
        let node = if *kind == Kind::NODE { lock(&self.view).own_node().cloned() } else { None };
        self.ipam.observe(&event, node.as_ref()).await;
        changes.extend(self.context_change());
        Changes { network: changes, services: of_services.0, checks: of_services.1 }
    }

    /// Tells the datapath of the node when something of it changed.
    fn context_change(&self) -> Option<NetworkChange> {
        let context = self.context();
        let mut told = lock(&self.told);
        if told.as_ref() == Some(&context) {
            return None;
        }
        *told = Some(context.clone());
        Some(Change::Node(context))
    }

    /// Takes in that the underlay is another now.
    pub(super) fn set_underlay(&self, underlay: Underlay) -> Vec<NetworkChange> {
        let mut changes = {
            let mut view = lock(&self.view);
            view.set_underlay(underlay.v4, underlay.v6);
            view.changes()
        };
        self.ipam.set_underlay(&underlay);
        *lock(&self.lost) = None;
        *lock(&self.underlay) = underlay;
        changes.extend(self.context_change());
        changes
    }

    /// Takes in that there is no underlay any more: what was known stays in force, but the node is not ready.
    pub(super) fn lose_underlay(&self, problem: String) {
        *lock(&self.lost) = Some(problem);
    }

    /// Why other nodes cannot be reached.
    pub(super) fn lost_underlay(&self) -> Option<String> {
        lock(&self.lost).clone()
    }

    /// What follows from the node's own addresses in its blocks.
    pub(super) fn node_address_changes(&self) -> Vec<NetworkChange> {
        let mut view = lock(&self.view);
        for (block, address) in self.ipam.node_addresses() {
            view.set_node_address(block, Some(address));
        }
        view.changes()
    }

    /// Whether what the store has of our own node differs from what we are.
    pub(super) fn must_publish(&self, attributes: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        let underlay = lock(&self.underlay).clone();
        let view = lock(&self.view);
        view.own_node().is_none_or(|node| {
            node.v4 != underlay.v4.map(|net| net.addr())
                || node.v6 != underlay.v6.map(|net| net.addr())
                || node.backend.as_deref() != Some(&*self.config.backend)
                || node.attributes != *attributes
        })
    }
}

/// Watches of nodes, blocks and pools, and of services where those are looked at.
pub(super) struct Following {
    waiting: usize,
    events: SelectAll<futures_util::stream::BoxStream<'static, (Kind, cni_core::store::Result<Event>)>>,
}
