//! One node of a lab: its namespace, its agent's files, the agent's process. Never a pod.

use super::{LabError, Programs, file_error};
use crate::patience::stretched;
use crate::scenario::{NodeSpec, Scenario};
use crate::tether::Tethered;
use cni_core::cni::{AddResult, NetConfList};
use cni_core::runtime::{Attachment, ConfDir, Options, ProcessExec, Runtime, RuntimeError};
use net_linux::marks;
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An agent that does not answer by then will not.
const READY: Duration = Duration::from_secs(30);
/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// The underlay interface's name on every node.
pub(super) const UNDERLAY: &str = "eth0";

/// A node of the lab.
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub namespace: NetNs,
    /// The agent's socket.
    pub socket: PathBuf,
    /// The node's container runtime, as far as CNI goes.
    runtime: Runtime,
    network: NetConfList,
    config: PathBuf,
    log: PathBuf,
    agent: Option<Tethered>,
    /// After the agent, which would write them again.
    _pins: Pins,
}

/// Pins in a bpffs outlive the namespace that they are of.
struct Pins(NetNs);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Ok(cookie) = self.0.cookie() {
            // Most nodes have none.
            let _ = fs::remove_dir_all(Path::new(marks::BPFFS_FOLDER).join(cookie.to_string()));
        }
    }
}

impl Node {
    /// Writes the files of a node.
    pub(super) fn prepare(
        scenario: &Scenario,
        spec: &NodeSpec,
        namespace: NetNs,
        directory: &Path,
        manifests: &Path,
        programs: &Programs,
    ) -> Result<Self, LabError> {
        let name = spec.name.to_string();
        let home = directory.join(&name);
        let (socket, state) = (home.join("agent.sock"), home.join("state"));
        let (conf_dir, config) = (home.join("net.d"), home.join("agent.yaml"));
        fs::create_dir_all(&conf_dir).map_err(file_error(&conf_dir))?;
        // JSON is YAML too.
        write_json(&config, &agent_config(scenario, spec, &socket, &state, manifests))?;
        write_json(&conf_dir.join("10-cnidarian.conflist"), &conf_list(&socket, &state))?;
        let network =
            ConfDir::new(&conf_dir).first().map_err(|source| LabError::ConfList { node: name.clone(), source })?;
        let plugins = programs.plugin.parent().unwrap_or(Path::new("/"));
        let options = Options::new([plugins], home.join("cache"));
        let runtime = Runtime::new(options, Arc::new(ProcessExec::default()));
        let pinned = namespace.clone();
        Ok(Self {
            namespace,
            socket,
            runtime,
            network,
            config,
            log: home.join("agent.log"),
            agent: None,
            _pins: Pins(pinned),
            name,
        })
    }

    /// Executes ADD on this node.
    ///
    /// # Errors
    /// What the plugin or the runtime says.
    pub fn add(&self, attachment: &Attachment) -> Result<AddResult, RuntimeError> {
        // A runtime runs in its node's namespace, and so do the plugins that it starts.
        self.inside(|| self.runtime.add(&self.network, attachment))
    }

    /// Executes DEL on this node.
    ///
    /// # Errors
    /// What the plugin or the runtime says.
    pub fn del(&self, attachment: &Attachment) -> Result<(), RuntimeError> {
        self.inside(|| self.runtime.del(&self.network, attachment))
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).expect("a namespace that we made and hold open can be entered")
    }

    /// Starts the agent; [`wait_ready`](Self::wait_ready) waits for it.
    ///
    /// # Errors
    /// [`LabError::Tether`].
    pub fn start_agent(&mut self, programs: &Programs) -> Result<(), LabError> {
        let config = self.config.to_string_lossy();
        let args = ["agent", "--config", &config];
        let agent = Tethered::start(&programs.cnidarian, &self.namespace, &programs.cnidarian, &args, &self.log)?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Writes another configuration for the next start of the agent.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn reconfigure(&self, change: impl FnOnce(&mut Value)) -> Result<(), LabError> {
        let written = fs::read(&self.config).map_err(file_error(&self.config))?;
        let mut config = serde_json::from_slice(&written).expect("we wrote it as JSON");
        change(&mut config);
        write_json(&self.config, &config)
    }

    /// Waits until the agent takes requests.
    ///
    /// # Errors
    /// [`LabError::AgentEnded`], [`LabError::AgentSilent`], [`LabError::Interrupted`].
    pub fn wait_ready(&mut self, cancel: &AtomicBool) -> Result<(), LabError> {
        let deadline = Instant::now() + stretched(READY);
        while UnixStream::connect(&self.socket).is_err() {
            if cancel.load(Ordering::SeqCst) {
                return Err(LabError::Interrupted);
            }
            if !self.agent.as_mut().is_some_and(Tethered::is_running) {
                return Err(LabError::AgentEnded { node: self.name.clone(), log: self.log_tail() });
            }
            if Instant::now() > deadline {
                return Err(LabError::AgentSilent { node: self.name.clone(), log: self.log_tail() });
            }
            std::thread::park_timeout(STEP);
        }
        Ok(())
    }

    /// The agent's process id while it runs.
    #[must_use]
    pub fn agent_pid(&self) -> Option<u32> {
        self.agent.as_ref().map(Tethered::pid)
    }

    /// Kills the agent as `kill -9` does.
    pub fn kill_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
    }

    /// Ends the agent as a service manager does.
    pub fn stop_agent(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.stop();
        }
    }

    /// The last lines of the agent's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// What an operator would write.
fn agent_config(scenario: &Scenario, spec: &NodeSpec, socket: &Path, state: &Path, manifests: &Path) -> Value {
    let pools: Vec<Value> = scenario.pools.iter().map(|(name, cidr)| json!({"name": name, "cidr": cidr})).collect();
    let mut config = scenario.parts();
    for (key, value) in [
        ("nodeName", json!(spec.name)),
        ("underlay", json!({"interface": UNDERLAY})),
        ("ipam", json!({"mode": "pools", "pools": pools})),
        ("store", json!({"files": {"directory": manifests}})),
        ("stateDir", json!(state)),
        ("socket", json!(socket)),
    ] {
        config[key] = value;
    }
    config
}

fn conf_list(socket: &Path, state: &Path) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": "cnidarian",
        "plugins": [{"type": "cnidarian-cni", "agentSocket": socket, "stateDir": state}],
    })
}

pub(super) fn write_json(path: &Path, value: &Value) -> Result<(), LabError> {
    fs::write(path, format!("{value:#}\n")).map_err(file_error(path))
}
