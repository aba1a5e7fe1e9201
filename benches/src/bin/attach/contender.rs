//! Who is measured: our plugin with a running agent, and the reference plugins. Never reaches into one of them: all are
//! executed in the same way.

use super::AnyError;
use cni_core::cni::Environment;
use cni_core::model::EndpointId;
use cni_core::runtime::{Exec, Invocation, ProcessExec};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use testlab::lab::{Lab, Programs};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

/// A pod to be attached.
pub(super) struct PodUnderTest {
    pub(super) namespace: NetNs,
    id: EndpointId,
}

/// A plugin with its configuration, executed as a runtime does: environment, stdin, stdout. What a runtime writes to its
/// own cache is left out: it is the same for all.
struct Plugin {
    program: PathBuf,
    conf: Vec<u8>,
    search_path: PathBuf,
    exec: ProcessExec,
}

impl Plugin {
    fn new(program: PathBuf, conf: &Value) -> Self {
        let search_path = program.parent().map(PathBuf::from).unwrap_or_default();
        Self { program, conf: conf.to_string().into_bytes(), search_path, exec: ProcessExec::default() }
    }

    fn call(&self, verb: &str, pod: &PodUnderTest) -> Result<(), AnyError> {
        let mut environment = Environment::of_process();
        let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.namespace.as_fd().as_raw_fd());
        let container = pod.id.container();
        for (name, value) in [("COMMAND", verb), ("CONTAINERID", container), ("NETNS", &netns), ("IFNAME", "eth0")] {
            environment.set(format!("CNI_{name}"), value);
        }
        environment.set("CNI_PATH", &self.search_path);
        let timeout = Some(Duration::from_secs(60));
        let output = self.exec.exec(&self.program, &Invocation { environment, stdin: self.conf.clone(), timeout })?;
        if output.success { Ok(()) } else { Err(String::from_utf8_lossy(&output.stdout).into_owned().into()) }
    }
}

/// One way to attach pods.
pub(super) trait Contender: Sync {
    /// For the table.
    fn name(&self) -> &str;
    /// A fresh pod; not measured.
    fn pod(&self) -> Result<PodUnderTest, AnyError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let namespace = NetNs::new()?;
        let id = EndpointId::of(&format!("pod{}", NUMBER.fetch_add(1, Ordering::Relaxed)), "eth0")?;
        Ok(PodUnderTest { namespace, id })
    }
    /// Attaches it.
    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError>;
    /// Detaches it.
    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError>;
}

/// Our plugin, with an agent of one node.
pub(super) struct Cnidarian {
    name: &'static str,
    lab: Lab,
    plugin: Plugin,
}

impl Cnidarian {
    /// With lines of a scenario that say which backend, and how.
    pub(super) fn start(name: &'static str, lines: &str, programs: &Programs) -> Result<Self, AnyError> {
        let scenario = Scenario::parse(&format!("name: attach\nnodes: [{{name: node-1}}]\npods: []\n{lines}\n"))?;
        let lab = Lab::start(scenario, programs, &Registry::open()?, false, &AtomicBool::new(false))?;
        let node = &lab.nodes[0];
        let state = node.socket.with_file_name("state");
        let conf = json!({
            "cniVersion": "1.1.0", "name": "cnidarian", "type": "cnidarian-cni", "agentSocket": node.socket, "stateDir": state,
        });
        let plugin = Plugin::new(programs.plugin.clone(), &conf);
        Ok(Self { name, lab, plugin })
    }
}

impl Contender for Cnidarian {
    fn name(&self) -> &str {
        self.name
    }

    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.lab.nodes[0].namespace.run(|| self.plugin.call("ADD", pod))?
    }

    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.lab.nodes[0].namespace.run(|| self.plugin.call("DEL", pod))?
    }
}

/// A reference plugin, in a namespace of its own.
pub(super) struct Reference {
    name: &'static str,
    namespace: NetNs,
    plugin: Plugin,
    _state: tempfile::TempDir,
}

impl Reference {
    pub(super) fn bridge() -> Result<Self, AnyError> {
        Self::new(
            "bridge + host-local (IPv4)",
            &json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false}),
        )
    }

    pub(super) fn ptp() -> Result<Self, AnyError> {
        Self::new("ptp + host-local (IPv4)", &json!({"type": "ptp", "ipMasq": false}))
    }

    fn new(name: &'static str, plugin: &serde_json::Value) -> Result<Self, AnyError> {
        let state = tempfile::tempdir()?;
        let mut plugin = plugin.clone();
        plugin["ipam"] = json!({
            "type": "host-local",
            "ranges": [[{"subnet": "10.99.0.0/16"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": state.path().join("leases"),
        });
        plugin["cniVersion"] = json!("1.0.0");
        plugin["name"] = json!("reference");
        let program = PathBuf::from("/usr/lib/cni").join(plugin["type"].as_str().unwrap_or_default());
        Ok(Self { name, namespace: NetNs::new()?, plugin: Plugin::new(program, &plugin), _state: state })
    }
}

impl Contender for Reference {
    fn name(&self) -> &str {
        self.name
    }

    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.namespace.run(|| self.plugin.call("ADD", pod))?
    }

    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.namespace.run(|| self.plugin.call("DEL", pod))?
    }
}
