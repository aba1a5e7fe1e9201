//! Takes a node's pod network away: all that any part of this build ever wrote to the kernel, in the network namespace of the calling
//! thread, and on request the node's own files. Never while an agent runs, nor under pods unless they are to go as well.

use crate::node::{BACKEND_FILES, SERVICES_FILES};
use cni_core::backend::{self, Registry};
use cni_core::model::EndpointId;
use cni_core::rpc::TOMBSTONE_DIR;
use cni_core::store::{LocalDatabaseError, LocalDatabaseLock};
use net_linux::attach::{Attacher, OpenError};
use net_linux::{marked, marks, netlink};
use std::fmt::Display;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What shall go beside the node's objects in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uninstall {
    /// The state directory of the node's agent. Its lock keeps agents away meanwhile.
    pub state_dir: PathBuf,
    /// Detach pods that are there; else they are a reason to refuse.
    pub pods: bool,
    /// Remove what the agent has in the state directory: leases, records, tombstones, files of backends. Then the directory, if it
    /// is empty.
    pub state: bool,
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Uninstalled {
    /// What was taken away one by one, in order. Programs, maps and rules that a part takes away by itself are not among them.
    pub removed: Vec<String>,
    /// What could not be, each with the reason. It is safe to try again.
    pub problems: Vec<String>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UninstallError {
    /// An agent runs, or its lock cannot be taken.
    #[error(transparent)]
    Database(#[from] LocalDatabaseError),
    /// There is no such directory, and something of ours is in the kernel: an agent with another one may run.
    #[error(
        "stateDir {directory}: not there, so nothing keeps an agent away; name the configuration of this node's agent, or make the \
         directory if it had this one",
        directory = directory.display()
    )]
    NoState {
        /// The directory.
        directory: PathBuf,
    },
    /// Pods are attached.
    #[error(
        "{} of this node are attached and would lose their network: {}; drain the node first, or have them detached as well",
        if pods.len() == 1 { "a pod".to_owned() } else { format!("{} pods", pods.len()) },
        pods.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    Pods {
        /// Which.
        pods: Vec<EndpointId>,
    },
    /// No interface can be looked at or detached.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The kernel could not be read.
    #[error(transparent)]
    Kernel(#[from] netlink::Error),
    /// What is ours could not be read.
    #[error(transparent)]
    Marked(#[from] backend::Error),
}

/// Takes a node's pod network away. Goes on over failures.
///
/// # Errors
/// [`UninstallError`]; nothing is changed then.
pub fn uninstall(registry: &Registry, wanted: &Uninstall) -> Result<Uninstalled, UninstallError> {
    let database = wanted.state_dir.join(marks::STATE_DATABASE);
    let lock = wanted.state_dir.is_dir().then(|| LocalDatabaseLock::take(&database)).transpose()?;
    if lock.is_none() && !marked::find()?.is_empty() {
        return Err(UninstallError::NoState { directory: wanted.state_dir.clone() });
    }
    let mut attacher = Attacher::open()?;
    let pods: Vec<EndpointId> = attacher.list()?.into_iter().filter(|pod| !pod.doomed).map(|pod| pod.id).collect();
    if !pods.is_empty() && !wanted.pods {
        return Err(UninstallError::Pods { pods });
    }
    let mut done = Uninstalled::default();
    for pod in pods {
        let detached = attacher.detach(&pod);
        done.note(format_args!("interface of {pod}"), detached);
    }
    let swept = attacher.reap().and_then(|_| attacher.sweep());
    done.tell("interfaces of pods", swept);
    // Services first: what they lead to goes. Policy last: what it closes stays closed until then.
    for proxy in registry.proxies() {
        done.tell(format_args!("services {}", proxy.name()), proxy.clear());
    }
    for backend in registry.backends() {
        done.tell(format_args!("backend {}", backend.name()), backend.clear());
    }
    for engine in registry.policies() {
        done.tell(format_args!("policy {}", engine.name()), engine.clear());
    }
    match marked::find() {
        Ok(found) => found.iter().for_each(|object| done.note(object, marked::remove(object))),
        found => done.tell("what carries a mark of ours", found),
    }
    // While something is left, the next try needs its lock.
    if let (true, true, Some(lock)) = (wanted.state, done.problems.is_empty(), lock) {
        let removed = remove_state(&wanted.state_dir, lock);
        done.note(wanted.state_dir.display(), removed);
    }
    Ok(done)
}

impl Uninstalled {
    /// Of something that is taken away by itself.
    fn note<T>(&mut self, what: impl Display, result: Result<T, impl Display>) {
        match result {
            Ok(_) => self.removed.push(what.to_string()),
            Err(error) => self.problems.push(format!("{what}: {error}")),
        }
    }

    /// Of a part, which takes away its own.
    fn tell<T>(&mut self, what: impl Display, result: Result<T, impl Display>) {
        if let Err(error) = result {
            self.problems.push(format!("{what}: {error}"));
        }
    }
}

/// The agent's own, by name: somebody may have put other things beside them.
fn remove_state(directory: &Path, lock: LocalDatabaseLock) -> io::Result<()> {
    for name in [TOMBSTONE_DIR, BACKEND_FILES, SERVICES_FILES] {
        gone_is_ok(fs::remove_dir_all(directory.join(name)))?;
    }
    lock.remove()?;
    match gone_is_ok(fs::remove_dir(directory)) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn gone_is_ok(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
