//! `cnidarian agent`: one node, its socket and its metrics, until SIGTERM. Never leaves the foreground.
//!
//! ```text
//!  open the node (takes the lock of stateDir, recovers) -> listen -> tombstones -> serve ... SIGTERM -> drain -> end
//! ```
//! The end leaves the kernel as it is: pods keep their network while no agent runs.

mod connection;
mod http;
mod metrics;
mod reload;
mod server;
mod service_metrics;

use cni_core::backend::Registry;
use cni_core::rpc::Call;
use cnidarian::Node;
use cnidarian::config::{ConfigError, ReadConfig, read_config};
use metrics::Metrics;
use reload::Reloader;
use rustix::process::{Resource, getrlimit, setrlimit};
use server::Server;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    /// A file could not be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration is no YAML.
    #[error("{path}: {problem}", path = path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where, and what.
        problem: String,
    },
    /// The configuration is not acceptable.
    #[error("{path}: {source}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Key, value, and what would be right.
        source: ConfigError,
    },
    /// The node could not be opened.
    #[error("{0}")]
    Node(#[from] cnidarian::NodeError),
    /// Nobody can be listened to there.
    #[error("listen on {path}: {source}", path = path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Metrics cannot be served there.
    #[error("metrics.address {address}: {source}")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The process cannot be set up.
    #[error("start: {0}")]
    Start(#[source] std::io::Error),
}

/// Reads and checks a configuration file.
pub(crate) fn load(file: &Path, registry: &Registry) -> Result<ReadConfig, AgentError> {
    from_document(read_document(file)?, file, registry)
}

fn read_document(file: &Path) -> Result<serde_json::Value, AgentError> {
    let text = std::fs::read_to_string(file).map_err(|source| AgentError::Read { path: file.to_owned(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|error| AgentError::Yaml { path: file.to_owned(), problem: error.to_string() })
}

fn from_document(document: serde_json::Value, file: &Path, registry: &Registry) -> Result<ReadConfig, AgentError> {
    read_config(document, registry, &host_name()).map_err(|source| AgentError::Config { path: file.to_owned(), source })
}

/// The question what a configuration file would do, after a check of it here.
pub(crate) fn plan_for(file: &Path) -> Result<Call, AgentError> {
    load(file, &cnidarian::built_in())?;
    Ok(Call::PlanFor { document: read_document(file)? })
}

/// The node's name where the configuration has none: `NODE_NAME`, else the host's name, in lower case as Kubernetes does.
fn host_name() -> String {
    let name = std::env::var("NODE_NAME")
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
    name.to_ascii_lowercase()
}

/// Raises how many files the agent may have open from what shells and service managers give (often 1,024) to what it may take:
/// each session, client and health check port is one.
fn take_all_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Runs the agent to its end.
pub(crate) fn run(file: PathBuf, config: ReadConfig, registry: &Registry) -> Result<(), AgentError> {
    take_all_files();
    // Kernel work is done on threads of its own; two are enough to read requests and to answer.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(512 << 10)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(AgentError::Start)?;
    runtime.block_on(serve(file, config, registry))
}

async fn serve(file: PathBuf, config: ReadConfig, registry: &Registry) -> Result<(), AgentError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Start)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(AgentError::Start)?;
    let reloader = Arc::new(Reloader::new(file, config.clone(), registry.clone()));
    let metrics = Arc::new(Metrics::new());
    let node = Arc::new(Node::open_observed(config.node, registry, metrics.clone()).await?);
    if let Some(address) = config.metrics {
        let listener = TcpListener::bind(address).await.map_err(|source| AgentError::Metrics { address, source })?;
        tokio::spawn(http::serve(listener, metrics::router(metrics, node.clone())));
    }
    let server = Server::listen(&config.socket, node.clone(), reloader.clone())
        .map_err(|source| AgentError::Listen { path: config.socket.clone(), source })?;
    // After we listen: a DEL that finds nobody listening writes its tombstone before it looks again.
    let buried = node.bury().await;
    tracing::info!(socket = %config.socket.display(), buried, "ready");
    let stop = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => match reloader.reload(&node).await {
                    Ok(()) => tracing::info!("the configuration was read again and is in force"),
                    Err(error) => tracing::error!(%error, "the configuration was read again and is refused"),
                },
            }
        }
        tracing::info!("ending; pods keep their network");
    };
    // As a task: the thread that waits for the runtime is none of its workers, and each connection would have to be
    // carried over.
    let served = tokio::spawn(server.serve(stop)).await;
    if let Some(panic) = served.err().and_then(|ended| ended.try_into_panic().ok()) {
        std::panic::resume_unwind(panic);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_example_that_we_ship_is_acceptable() {
        let config = load(&root().join("deploy/agent.yaml"), &cnidarian::built_in()).unwrap();
        assert_eq!(config.node.backend, "vxlan");
    }

    /// Every key that the documentation shows exists, with values that are in range.
    #[test]
    fn the_documented_configuration_is_acceptable() {
        let text = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
        let yaml = text.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let config = load(file.path(), &cnidarian::built_in()).unwrap();
        assert_eq!(config.node.name.as_str(), "node-1");
        assert_eq!(config.node.ipam.pools.len(), 1);
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "backend: vxlan\n  ipam: [").unwrap();
        let error = load(file.path(), &cnidarian::built_in()).unwrap_err();
        assert!(matches!(error, AgentError::Yaml { .. }), "{error}");
    }
}
