//! The service proxy of a node. Never what is translated to what: the store's objects say.

use super::Inner;
use super::cluster::Takers;
use super::counted::Counted;
use super::engine::EngineHandle;
use super::error::NodeError;
use super::events::Observer;
use super::health::HealthServer;
use super::record::Record;
use super::status::Problem;
use crate::config::{NodeConfig, ServicesConfig};
use cni_core::backend::{Capability, Change, Error, ErrorKind, Meter, OpenRequest, ProxyParts, Registry, Support};
use cni_core::model::{EndpointId, FrontendKind, ServiceClient, ServiceItem, ServiceName};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The proxy that runs, or none of it.
#[derive(Default)]
pub(super) struct Proxy {
    pub(super) engine: Option<EngineHandle<ServiceItem>>,
    pub(super) clients: Option<EngineHandle<ServiceClient>>,
    pub(super) health: Option<HealthServer>,
    pub(super) running: Vec<JoinHandle<()>>,
    pub(super) notices: Vec<String>,
    pub(super) counted: Counted,
    pub(super) meter: Option<Arc<dyn Meter>>,
}

/// The proxy that the configuration names, which is asked with `request`; what any other left is cleared away.
pub(super) async fn open(
    config: &NodeConfig,
    registry: &Registry,
    request: Option<OpenRequest>,
    observer: &Arc<dyn Observer>,
) -> Result<Proxy, NodeError> {
    let wanted = config.services.as_ref().map_or(ServicesConfig::NONE, |services| services.engine.as_str());
    // What cannot be opened takes nothing away. Opening writes nothing.
    let opened = match request {
        None => None,
        Some(request) => {
            Some(registry.proxy(wanted)?.open(request).await.map_err(|error| or(error, wanted, registry))?)
        }
    };
    if let Some(parts) = opened.as_ref()
        && config.services.as_ref().is_some_and(|services| !services.announce.is_empty())
    {
        // Routers would send what nobody here translates.
        parts.proxy.capabilities().require(&[Capability::OutsideClients])?;
    }
    for other in registry.proxies().filter(|other| other.name() != wanted) {
        other.clear()?;
    }
    let Some(ProxyParts { proxy, clients, drift, notices, counters, meter, .. }) = opened else {
        return Ok(Proxy::default());
    };
    for notice in &notices {
        tracing::warn!(proxy = wanted, "{notice}");
    }
    let (engine, task) = EngineHandle::start(proxy, drift, config.resync_interval, observer.clone());
    let mut running = vec![task];
    let clients = clients.map(|clients| {
        let (clients, task) = EngineHandle::start(clients, None, config.resync_interval, observer.clone());
        running.push(task);
        clients
    });
    let (health, answering) = HealthServer::start({
        let engine = engine.clone();
        Arc::new(move || engine.works())
    })?;
    running.push(answering);
    let (engine, health) = (Some(engine), Some(health));
    Ok(Proxy { engine, clients, health, running, notices, counted: Counted::new(counters), meter })
}

/// The error with what else could translate services.
fn or(mut error: Error, wanted: &str, registry: &Registry) -> Error {
    let others: Vec<&str> = registry.proxies().map(|other| other.name()).filter(|other| *other != wanted).collect();
    if error.kind == ErrorKind::Unsupported && !others.is_empty() {
        error.detail = format!("{}; this build also has services: {}", error.detail, others.join(", "));
    }
    error
}

impl Inner {
    /// Who is told of changes of the cluster.
    pub(super) fn takers(&self) -> Takers {
        Takers { datapath: self.datapath.clone(), proxy: self.proxy.clone(), health: self.health.clone() }
    }

    /// Lets the proxy serve a pod, and answers when it does.
    pub(super) async fn serve(&self, record: &Record) -> Result<(), NodeError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        let Some(client) = record.client() else {
            let problem = format!("the kernel does not tell the number of the namespace of {}", record.endpoint.id);
            return Err(NodeError::Kernel { operation: "serve the sockets of a pod", problem });
        };
        Ok(clients.change(vec![Change::Put(client)], record.endpoint.id.clone()).await?)
    }

    /// The reverse of [`Self::serve`].
    pub(super) async fn serve_no_more(&self, id: &EndpointId) -> Result<(), NodeError> {
        let Some(clients) = &self.clients else { return Ok(()) };
        Ok(clients.change(vec![Change::Remove(id.clone())], id.clone()).await?)
    }

    /// Services that clients outside of the node are meant to reach, where the proxy lets none in.
    fn unreachable_frontends(&self) -> Vec<Problem> {
        let lacking = |proxy: &EngineHandle<ServiceItem>| {
            proxy.capabilities().iter().find_map(|(capability, support)| match support {
                Support::No { reason } if capability == Capability::OutsideClients => Some(reason.clone()),
                _ => None,
            })
        };
        let Some(reason) = self.proxy.as_ref().and_then(lacking) else { return Vec::new() };
        let mut kinds: BTreeMap<ServiceName, BTreeSet<FrontendKind>> = BTreeMap::new();
        for item in self.cluster.services().into_iter().filter(|item| item.kind != FrontendKind::ClusterIp) {
            kinds.entry(item.service).or_default().insert(item.kind);
        }
        let problem = |(service, kinds): (ServiceName, BTreeSet<FrontendKind>)| {
            let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            Problem {
                object: format!("Service {service}"),
                error: format!("{}: from this node and its pods only: {reason}", kinds.join(", ")),
                state: "left out".to_owned(),
            }
        };
        kinds.into_iter().map(problem).collect()
    }

    /// What is wrong with services here.
    pub(super) fn service_problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.proxy.iter().flat_map(|proxy| Problem::of_commit(&proxy.state().last_commit)).collect();
        problems.extend(self.unreachable_frontends());
        problems.extend(self.health.iter().flat_map(HealthServer::problems));
        let Some(clients) = &self.clients else { return problems };
        problems.extend(Problem::of_commit(&clients.state().last_commit));
        let unknown = self.records.all().into_iter().filter(|record| record.netns_cookie.is_none());
        problems.extend(unknown.map(|record| Problem {
            object: format!("endpoint {}", record.endpoint.id),
            error: "an older release attached it and did not note its network namespace: it sees no services until it is \
                    attached anew"
                .to_owned(),
            state: "left out".to_owned(),
        }));
        problems
    }

    /// The name of the proxy that translates services here.
    pub(super) fn proxy_name(&self) -> Option<String> {
        self.proxy.as_ref().and(self.config.services.as_ref()).map(|services| services.engine.clone())
    }
}
