//! A whole lab: underlay, nodes with agents, pods attached as a runtime does it. Never touches a namespace that it did
//! not make.

pub(crate) mod fabric;
mod manifests;
mod node;
mod paths;
mod pod;
mod survey;

pub use fabric::Fabric;
pub use manifests::Manifests;
pub use node::Node;
pub use pod::Pod;

use crate::registry::{Entry, Registry, RegistryError, State, started};
use crate::scenario::{PodSpec, Scenario};
use crate::tether::TetherError;

use net_linux::netns::NetNsError;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The programs that a lab runs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The program with the agent.
    pub cnidarian: PathBuf,
    /// The CNI plugin.
    pub plugin: PathBuf,
}

/// A lab that can't be built or used.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The registry of labs.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A file of the lab.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// A kernel object of the underlay.
    #[error("underlay: {0}")]
    Netlink(#[from] net_linux::netlink::Error),
    /// A device that should be there.
    #[error("underlay: there is no interface {name}")]
    NoLink {
        /// Its name.
        name: String,
    },
    /// A sysctl of a namespace.
    #[error("underlay: {0}")]
    Sysctl(#[from] net_linux::sysctl::SysctlError),
    /// An agent's process.
    #[error(transparent)]
    Tether(#[from] TetherError),
    /// The agent ended.
    #[error("the agent of {node} ended; its last words:\n{log}")]
    AgentEnded {
        /// Whose.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// The agent takes no requests.
    #[error("the agent of {node} takes no requests; its last words:\n{log}")]
    AgentSilent {
        /// Whose.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// The plugin's answer.
    #[error("{operation} pod {pod} on {node}: {detail}")]
    Plugin {
        /// `ADD` or `DEL`.
        operation: &'static str,
        /// The pod.
        pod: String,
        /// Its node.
        node: String,
        /// What the plugin said.
        detail: String,
    },
    /// The configuration list that the lab wrote.
    #[error("configuration list of {node}: {source}")]
    ConfList {
        /// Whose.
        node: String,
        /// What is wrong with it.
        source: cni_core::runtime::LoadError,
    },
    /// A probe that could not even be asked.
    #[error(transparent)]
    Probe(#[from] crate::probe::ProbeError),
    /// A thread of the lab.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The agent could not put in force what was written.
    #[error("resync of {node}: {detail}; its last words:\n{log}")]
    Resync {
        /// Whose.
        node: String,
        /// What it said.
        detail: String,
        /// The end of its log.
        log: String,
    },
    /// Somebody asked us to stop.
    #[error("interrupted")]
    Interrupted,
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> LabError + '_ {
    move |source| LabError::File { path: path.to_path_buf(), source }
}

/// A running lab. Dropped, it ends its agents and takes its namespaces and files along.
pub struct Lab {
    /// What it was made from.
    pub scenario: Scenario,
    /// Nodes, in the order of the scenario.
    pub nodes: Vec<Node>,
    /// Pods, in the order of the scenario.
    pub pods: Vec<Pod>,
    /// Objects of the cluster.
    pub manifests: Manifests,
    fabric: Fabric,
    programs: Programs,
    registry: Registry,
    entry: Entry,
    directory: Directory,
}

/// A directory that goes when it is dropped.
#[derive(Debug)]
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left is found by whoever lists labs next.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// Builds the underlay, starts the agents, attaches the pods. Says on standard error how far it is.
    ///
    /// # Errors
    /// [`LabError`]; nothing is left behind then.
    pub fn start(
        scenario: Scenario,
        programs: &Programs,
        registry: &Registry,
        user_namespace: bool,
        cancel: &AtomicBool,
    ) -> Result<Self, LabError> {
        let (name, path) = registry.create(&scenario.name)?;
        let directory = Directory(path);
        let pid = std::process::id();
        let entry = Entry {
            name,
            pid,
            started: started(pid).unwrap_or_default(),
            state: State::Starting,
            user_namespace,
            namespaces: BTreeMap::new(),
            sockets: BTreeMap::new(),
            backend: scenario.backend.clone(),
        };
        registry.write(&directory.0, &entry)?;
        eprintln!("lab {}: {} nodes on {} segment(s)", entry.name, scenario.nodes.len(), scenario.subnets.len());
        let fabric = Fabric::build(&scenario)?;
        let manifests = Manifests::create(directory.0.join("manifests"))?;
        let specs = scenario.nodes.iter().zip(&fabric.nodes);
        let nodes = specs
            .map(|(spec, namespace)| {
                Node::prepare(&scenario, spec, namespace.clone(), &directory.0, manifests.path(), programs)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let programs = programs.clone();
        let (registry, pods) = (registry.clone(), Vec::new());
        let mut lab = Self { scenario, nodes, pods, manifests, fabric, programs, registry, entry, directory };
        lab.start_agents(cancel)?;
        lab.attach_pods(cancel)?;
        Ok(lab)
    }

    fn start_agents(&mut self, cancel: &AtomicBool) -> Result<(), LabError> {
        eprintln!("starting {} agents with the backend {} ...", self.nodes.len(), self.scenario.backend);
        for node in &mut self.nodes {
            node.start_agent(&self.programs)?;
        }
        self.nodes.iter_mut().try_for_each(|node| node.wait_ready(cancel))
    }

    fn attach_pods(&mut self, cancel: &AtomicBool) -> Result<(), LabError> {
        eprintln!("attaching {} pods with {} ...", self.scenario.pods.len(), self.programs.plugin.display());
        for spec in self.scenario.pods.clone() {
            if cancel.load(Ordering::SeqCst) {
                return Err(LabError::Interrupted);
            }
            let node = &self.nodes[spec.node];
            pod::write_manifest(&spec, node, &self.manifests)?;
            let pod = Pod::attach(&spec, node);
            // A plugin that was ended with us is no failure of its own.
            let pod = if cancel.load(Ordering::SeqCst) { Err(LabError::Interrupted) } else { pod }?;
            self.pods.push(pod);
        }
        Ok(())
    }

    /// The namespace beyond the nodes.
    #[must_use]
    pub fn outside(&self) -> &net_linux::netns::NetNs {
        &self.fabric.outside
    }

    /// The underlay.
    #[must_use]
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Attaches one more pod, whose object its author has written to [`manifests`](Self::manifests). It is no part of
    /// [`pods`](Self::pods): whoever attaches it detaches it.
    ///
    /// # Errors
    /// [`LabError::Plugin`], [`LabError::Namespace`].
    pub fn attach(&self, spec: &PodSpec) -> Result<Pod, LabError> {
        Pod::attach(spec, &self.nodes[spec.node])
    }

    /// Detaches a pod as a runtime does it.
    ///
    /// # Errors
    /// [`LabError::Plugin`].
    pub fn detach(&self, pod: &Pod) -> Result<(), LabError> {
        pod.detach(&self.nodes[pod.node])
    }

    /// The programs that this lab runs, to start an agent again.
    #[must_use]
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Keeps the lab until `cancel`: other processes find it in the registry.
    ///
    /// # Errors
    /// [`LabError::Registry`], [`LabError::File`].
    pub fn hold(&mut self, state: State, cancel: &AtomicBool) -> Result<(), LabError> {
        let log = self.directory.0.join("lab.log");
        let file = File::create(&log).map_err(file_error(&log))?;
        let nodes = self.nodes.iter().map(|node| (node.name.clone(), node.namespace.as_fd().as_raw_fd()));
        let pods = self.pods.iter().map(|pod| (pod.name.clone(), pod.namespace.as_fd().as_raw_fd()));
        let outside = ("outside".to_owned(), self.fabric.outside.as_fd().as_raw_fd());
        self.entry.namespaces = nodes.chain(pods).chain([outside]).collect();
        self.entry.sockets = self.nodes.iter().map(|node| (node.name.clone(), node.socket.clone())).collect();
        self.entry.state = state;
        // Whoever reads our output through a pipe shall see its end.
        nix::unistd::dup2_stdout(&file)
            .and_then(|()| nix::unistd::dup2_stderr(&file))
            .map_err(|errno| file_error(&log)(errno.into()))?;
        self.registry.write(&self.directory.0, &self.entry)?;
        while !cancel.load(Ordering::SeqCst) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Shows the end of each agent's log on standard error.
    pub fn show_logs(&self) {
        for node in &self.nodes {
            eprintln!("--- agent of {}:\n{}", node.name, node.log_tail());
        }
    }

    /// Detaches every pod as a runtime does and tells what is left on the nodes that should not be.
    ///
    /// # Errors
    /// [`LabError::Plugin`].
    pub fn down(mut self) -> Result<Vec<String>, LabError> {
        eprintln!("detaching {} pods, stopping the agents ...", self.pods.len());
        for pod in self.pods.drain(..) {
            pod.detach(&self.nodes[pod.node])?;
        }
        let left = survey::leftovers(&self.nodes)?;
        for node in &mut self.nodes {
            node.stop_agent();
        }
        Ok(left)
    }
}
