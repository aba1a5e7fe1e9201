//! The kernel's side of attachments, away from the tasks of the runtime. Never decides what is attached.

use super::error::NodeError;
use super::underlay;
use crate::config::UnderlayConfig;
use cni_core::cni;
use cni_core::model::{EndpointId, InterfaceName, Underlay};
use net_linux::attach::{AttachError, AttachRequest, Attached, Attacher};
use net_linux::monitor::{Group, Monitor};
use net_linux::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Attachers to take turns with: each has a socket of its own, so different endpoints are worked on side by side.
#[derive(Clone)]
pub(super) struct Kernel {
    host: NetNs,
    idle: Arc<Mutex<Vec<Attacher>>>,
}

/// An attachment that was begun.
pub(super) struct Attaching {
    /// The host's end is there, and down. Nothing is sent when it could not be made.
    pub(super) made: oneshot::Receiver<()>,
    /// The pod has its interface, and the host's end is still down.
    pub(super) done: JoinHandle<Result<(), NodeError>>,
}

/// Who changes an address often changes several.
const ADDRESS_QUIET: Duration = Duration::from_millis(200);

/// Wakes when an address of the host has come or gone; never where that cannot be watched.
pub(super) struct AddressWatch(Option<Monitor>);

impl AddressWatch {
    /// Waits for the next changes.
    pub(super) async fn changed(&mut self) {
        let Some(monitor) = &mut self.0 else { return std::future::pending().await };
        let mut broken = monitor.next().await.is_err();
        sleep(ADDRESS_QUIET).await;
        while !broken {
            match monitor.try_next() {
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) => broken = true,
            }
        }
        tracing::warn!("the watch for addresses broke; a change is found when the clock asks");
        self.0 = None;
    }
}

/// How many idle attachers are kept: as many as the agent has threads for such work.
const KEPT: usize = 16;

impl Kernel {
    /// For the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self, NodeError> {
        let host =
            NetNs::current().map_err(|error| NodeError::Kernel { operation: "open", problem: error.to_string() })?;
        let attacher =
            Attacher::open().map_err(|error| NodeError::Kernel { operation: "open", problem: error.to_string() })?;
        Ok(Self { host, idle: Arc::new(Mutex::new(vec![attacher])) })
    }

    fn take(&self) -> Result<Attacher, NodeError> {
        if let Some(attacher) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(attacher);
        }
        // A thread of a pool need not be in our namespace.
        let failed = |problem: String| NodeError::Kernel { operation: "open", problem };
        let opened = self.host.open_inside(Attacher::open).map_err(|error| failed(error.to_string()))?;
        opened.map_err(|error| failed(error.to_string()))
    }

    /// Works on the calling thread.
    fn here<T>(&self, work: impl FnOnce(&mut Attacher) -> Result<T, NodeError>) -> Result<T, NodeError> {
        let mut attacher = self.take()?;
        let answer = work(&mut attacher);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(attacher);
        }
        answer
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Attacher) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let kernel = self.clone();
        tokio::task::spawn_blocking(move || kernel.here(work)).await.unwrap_or(Err(NodeError::Closing))
    }

    /// Begins an attachment, on a thread of its own.
    pub(super) fn begin_attach(&self, namespace: NetNs, request: AttachRequest) -> Attaching {
        let kernel = self.clone();
        let (tell, made) = oneshot::channel();
        let done = tokio::task::spawn_blocking(move || {
            let made = || {
                let _nobody_waits_when_the_node_closes = tell.send(());
            };
            kernel.here(|attacher| Ok(attacher.attach_closed(&namespace, &request, made).map(drop)?))
        });
        Attaching { made, done }
    }

    /// The number of a namespace; `None` where the kernel does not tell.
    pub(super) async fn cookie(&self, namespace: NetNs) -> Option<u64> {
        let told = tokio::task::spawn_blocking(move || namespace.cookie()).await.ok()?;
        told.inspect_err(|error| tracing::debug!(%error, "who serves sockets cannot be told of this pod")).ok()
    }

    /// Packets pass from here on.
    pub(super) async fn open_up(&self, id: EndpointId) -> Result<(), NodeError> {
        self.with(move |attacher| Ok(attacher.open_up(&id)?)).await
    }

    /// The link goes down and waits for [`Self::reap`].
    pub(super) async fn detach(&self, id: EndpointId) -> Result<(), NodeError> {
        self.detach_then(id, || Ok(())).await
    }

    /// As [`Self::detach`], and on the same thread what has to wait for it and for the disk.
    pub(super) async fn detach_then(
        &self,
        id: EndpointId,
        then: impl FnOnce() -> Result<(), NodeError> + Send + 'static,
    ) -> Result<(), NodeError> {
        let kernel = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            kernel.here(|attacher| Ok(attacher.detach(&id).map(drop)?))?;
            then()
        });
        done.await.unwrap_or(Err(NodeError::Closing))
    }

    /// Deletes what was detached.
    pub(super) async fn reap(&self) -> Result<usize, NodeError> {
        self.with(|attacher| attacher.reap().map_err(|error| failed("reap", &error))).await
    }

    /// Attachments of ours that were not detached.
    pub(super) async fn list(&self) -> Result<Vec<Attached>, NodeError> {
        self.with(|attacher| {
            let links = attacher.list().map_err(|error| failed("list attachments", &error))?;
            Ok(links.into_iter().filter(|link| !link.doomed).collect())
        })
        .await
    }

    /// Whether an endpoint is attached, to a namespace that lives.
    pub(super) async fn is_alive(&self, id: EndpointId) -> Result<bool, NodeError> {
        self.with(move |attacher| attacher.is_alive(&id).map_err(|error| failed("look for an attachment", &error)))
            .await
    }

    /// What the network below is now.
    pub(super) async fn underlay(&self, config: UnderlayConfig) -> Result<Underlay, NodeError> {
        let host = self.host.clone();
        let found = tokio::task::spawn_blocking(move || host.run(|| underlay::detect(&config)));
        let found = found.await.map_err(|_| NodeError::Closing)?;
        found.map_err(|error| failed("enter our namespace", &error))?
    }

    /// The addresses of each interface of the host's.
    pub(super) async fn interfaces(&self) -> Result<BTreeMap<InterfaceName, BTreeSet<IpAddr>>, NodeError> {
        let host = self.host.clone();
        let found = tokio::task::spawn_blocking(move || host.run(underlay::interfaces));
        let found = found.await.map_err(|_| NodeError::Closing)?;
        found.map_err(|error| failed("enter our namespace", &error))?
    }

    /// Tells when addresses come or go.
    pub(super) fn watch_addresses(&self) -> AddressWatch {
        let monitor = Monitor::open_in(&self.host, &[Group::Addresses]);
        if let Err(error) = &monitor {
            tracing::warn!(%error, "addresses cannot be watched; a change is found when the clock asks");
        }
        AddressWatch(monitor.ok())
    }

    /// Every difference between what is there and what `attach` makes.
    pub(super) async fn check(
        &self,
        namespace: NetNs,
        request: AttachRequest,
        listed: Vec<cni::Route>,
    ) -> Result<Vec<String>, NodeError> {
        self.with(move |attacher| {
            let found = attacher.check(&namespace, &request, &listed)?;
            Ok(found.iter().map(ToString::to_string).collect())
        })
        .await
    }
}

fn failed(operation: &'static str, error: &dyn std::fmt::Display) -> NodeError {
    NodeError::Kernel { operation, problem: error.to_string() }
}

impl From<AttachError> for NodeError {
    fn from(error: AttachError) -> Self {
        Self::Attach(Box::new(error))
    }
}
