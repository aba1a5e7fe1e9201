//! Where a node says whether it has endpoints of a service (`healthCheckNodePort`), for balancers outside, as kube-proxy does. Never
//! who has endpoints: the model says.
//!
//! ```text
//! model -- Put, Remove --> task: one listening socket for each address and port --> connections, bounded
//!                           | what is taken by somebody else is tried again
//! ```

mod connections;
mod http;
#[cfg(test)]
mod tests;

use super::error::NodeError;
use super::status::Problem;
use cni_core::backend::Change;
use cni_core::model::{HealthChange, HealthCheck};
use connections::{Connections, Works};
use net_linux::listen;
use net_linux::netns::NetNs;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// How often a port that somebody else has is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Ports that are open at once: each costs the agent a descriptor, and whoever writes Services may ask for thousands.
const MOST: usize = 512;
const TOO_MANY: &str = "512 ports of health checks are open on this node, and no more are opened";
/// How many sets of changes may wait.
const QUEUE: usize = 64;

/// What keeps checks from being answered.
type Broken = Arc<Mutex<BTreeMap<SocketAddr, (HealthCheck, String)>>>;

/// A handle of the task that answers.
#[derive(Clone)]
pub(super) struct HealthServer {
    changes: mpsc::Sender<Vec<HealthChange>>,
    broken: Broken,
}

impl HealthServer {
    /// Starts the task. It listens in the network namespace of the calling thread, wherever it runs later.
    ///
    /// # Errors
    /// [`NodeError::Kernel`] when the namespace cannot be known.
    pub(super) fn start(works: Works) -> Result<(Self, JoinHandle<()>), NodeError> {
        let netns = NetNs::current()
            .map_err(|error| NodeError::Kernel { operation: "listen for health checks", problem: error.to_string() })?;
        let (changes, queue) = mpsc::channel(QUEUE);
        let broken = Broken::default();
        let connections = Arc::new(Connections::default());
        let ports = Ports { netns, works, connections, open: BTreeMap::new(), broken: broken.clone() };
        Ok((Self { changes, broken }, tokio::spawn(ports.run(queue))))
    }

    /// Passes changes on.
    pub(super) async fn change(&self, changes: Vec<HealthChange>) -> Result<(), NodeError> {
        self.changes.send(changes).await.map_err(|_| NodeError::Closing)
    }

    /// Checks that nobody answers, because the port cannot be had.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let problem = |(check, error): &(HealthCheck, String)| Problem {
            object: format!("Service {}", check.service),
            error: format!("health checks at {}: {error}", check.at),
            state: "retrying".to_owned(),
        };
        broken.values().map(problem).collect()
    }
}

/// A port that is open. Dropping it closes the port.
struct Port {
    check: watch::Sender<HealthCheck>,
    task: JoinHandle<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Ports {
    netns: NetNs,
    works: Works,
    connections: Arc<Connections>,
    open: BTreeMap<SocketAddr, Port>,
    broken: Broken,
}

impl Ports {
    async fn run(mut self, mut queue: mpsc::Receiver<Vec<HealthChange>>) {
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let has_broken = !self.broken().is_empty();
            tokio::select! {
                changes = queue.recv() => match changes {
                    Some(changes) => self.take(changes).await,
                    None => return,
                },
                _ = retry.tick(), if has_broken => {
                    let again = self.broken().values().map(|(check, _)| check.clone()).collect();
                    self.listen(again).await;
                }
            }
        }
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, (HealthCheck, String)>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&mut self, changes: Vec<HealthChange>) {
        // The last word about a port counts: the first state of a store has several.
        let mut new = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put(check) => match self.open.get(&check.at) {
                    Some(port) => drop(port.check.send_replace(check)),
                    None => drop(new.insert(check.at, check)),
                },
                Change::Remove(at) => {
                    if let Some(mut port) = self.open.remove(&at) {
                        // The same port may be asked for next.
                        port.task.abort();
                        let _ = (&mut port.task).await;
                    }
                    self.broken().remove(&at);
                    new.remove(&at);
                }
                Change::Node(_) | Change::Config(_) | Change::InSync => {}
            }
        }
        self.listen(new.into_values().collect()).await;
    }

    /// Opens ports.
    async fn listen(&mut self, checks: Vec<HealthCheck>) {
        if checks.is_empty() {
            return;
        }
        let (netns, places) = (self.netns.clone(), checks.iter().map(|check| check.at).collect::<Vec<_>>());
        let open = move || netns.open_inside(|| places.into_iter().map(listen::tcp).collect::<Vec<_>>());
        let opened = match tokio::task::spawn_blocking(open).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => checks.iter().map(|_| Err(io::Error::other(error.to_string()))).collect(),
            Err(_) => return,
        };
        for (check, socket) in checks.into_iter().zip(opened) {
            let at = check.at;
            let socket = if self.open.len() < MOST { socket } else { Err(io::Error::other(TOO_MANY)) };
            match socket.and_then(TcpListener::from_std) {
                Ok(listener) => {
                    self.broken().remove(&at);
                    let (sender, receiver) = watch::channel(check);
                    let (works, connections) = (self.works.clone(), self.connections.clone());
                    let task = tokio::spawn(connections::serve(listener, at, receiver, works, connections));
                    self.open.insert(at, Port { check: sender, task });
                }
                Err(error) => {
                    let why = match error.kind() {
                        io::ErrorKind::AddrInUse => {
                            "another process listens there; stop it, or choose another port".to_owned()
                        }
                        _ => error.to_string(),
                    };
                    let known = self.broken().insert(at, (check.clone(), why.clone()));
                    if known.is_none_or(|(_, known)| known != why) {
                        tracing::warn!(service = %check.service, %at, %why, "health checks cannot be answered; trying again");
                    }
                }
            }
        }
    }
}
