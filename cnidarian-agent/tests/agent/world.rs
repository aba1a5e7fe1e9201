//! One node in a network namespace: underlay, agent, and a runtime that executes the plugin. Removes all with itself.

use cni_core::model::EndpointId;
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::attach::Attacher;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::{Route, RouteFilter};
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const POOL: &str = "10.42.0.0/24";
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until something holds.
pub(crate) fn until<T>(what: &str, mut holds: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match holds() {
            Ok(value) => return value,
            Err(why) if Instant::now() > end => panic!("{what}: {why}"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The plugin's program, built once: it is another package's.
pub(crate) fn plugin() -> &'static Path {
    static PLUGIN: OnceLock<PathBuf> = OnceLock::new();
    PLUGIN.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "cnidarian-cni"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cargo build -p cnidarian-cni");
        let plugin = Path::new(env!("CARGO_BIN_EXE_cnidarian")).with_file_name("cnidarian-cni");
        assert!(plugin.is_file(), "{}", plugin.display());
        plugin
    })
}

/// What a plugin answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) success: bool,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> u64 {
        assert!(!self.success, "{}", self.json);
        self.json["code"].as_u64().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.json["msg"].as_str().unwrap_or(""), self.json["details"].as_str().unwrap_or(""))
    }

    pub(crate) fn ok(self) -> Value {
        assert!(self.success, "{}", self.json);
        self.json
    }
}

/// A pod's namespace as a runtime holds it.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: NetNs,
}

impl Pod {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), netns: NetNs::new().unwrap() }
    }

    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_fd().as_raw_fd())
    }
}

pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) netns: NetNs,
    /// The engine of the configuration.
    pub(crate) policy: String,
    agent: Option<Child>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
        // Pins would outlive the namespace.
        let clear = || {
            let registry = cnidarian::built_in();
            let policies = registry.policies().filter_map(|engine| engine.clear().err()).count();
            policies + registry.proxies().filter_map(|proxy| proxy.clear().err()).count()
        };
        let _ = self.netns.run(clear);
    }
}

impl World {
    /// A node whose agent is not started yet.
    pub(crate) fn new() -> Self {
        plugin();
        let netns = NetNs::new().unwrap();
        netns.run(underlay).unwrap();
        Self { dir: tempfile::tempdir().unwrap(), netns, policy: "nftables".to_owned(), agent: None }
    }

    /// A node with an agent that is ready, and has this policy engine.
    pub(crate) fn enforcing(engine: &str) -> Self {
        let mut world = Self::new();
        world.policy = engine.to_owned();
        world.start();
        world
    }

    /// A node with an agent that is ready.
    pub(crate) fn started() -> Self {
        let mut world = Self::new();
        world.start();
        world
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agent.sock")
    }

    pub(crate) fn config(&self) -> Value {
        json!({
            "nodeName": "node-1", "backend": "vxlan",
            "underlay": {"interface": "eth0"},
            "ipam": {"pools": [{"name": "default", "cidr": POOL}], "coolDownSeconds": 0},
            "store": {"files": {"directory": self.dir.path().join("cluster")}},
            "policy": self.policy, "stateDir": self.state(), "socket": self.socket(), "log": "debug",
        })
    }

    pub(crate) fn start(&mut self) {
        self.start_with(&self.config());
    }

    pub(crate) fn start_with(&mut self, config: &Value) {
        self.spawn(config);
        until("the agent takes requests", || {
            if let Some(status) = self.agent.as_mut().unwrap().try_wait().unwrap() {
                panic!("the agent ended with {status}:\n{}", self.log());
            }
            UnixStream::connect(self.socket()).map(drop).map_err(|error| format!("{error}\n{}", self.log()))
        });
    }

    pub(crate) fn spawn(&mut self, config: &Value) {
        let file = self.dir.path().join("agent.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
        command.args(["agent", "--config"]).arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.agent = Some(self.netns.spawn(&mut command).unwrap());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().unwrap().id()
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// As a service manager does it.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().unwrap();
        let pid = rustix::process::Pid::from_child(&agent);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        until("the agent ends", || agent.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
    }

    pub(crate) fn wait_for_end(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().unwrap();
        until("the agent ends", || agent.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
    }

    pub(crate) fn conf(&self) -> Value {
        json!({
            "cniVersion": "1.1.0", "name": "pods", "type": "cnidarian-cni",
            "agentSocket": self.socket(), "stateDir": self.state(),
        })
    }

    /// Executes the plugin as a runtime does: environment, stdin, in the node's namespace.
    pub(crate) fn run(&self, env: &[(&str, &str)], conf: &str) -> Answer {
        let mut command = Command::new(plugin());
        command.env_clear().envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.netns.spawn(&mut command).unwrap();
        // A plugin that refuses its environment need not read its stdin.
        let _ = child.stdin.take().unwrap().write_all(conf.as_bytes());
        let output = child.wait_with_output().unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Answer { success: output.status.success(), json }
    }

    pub(crate) fn cni_with(&self, verb: &str, pod: &Pod, conf: &Value, extra: &[(&str, &str)]) -> Answer {
        let path = pod.path();
        let mut env = vec![
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", pod.id.as_str()),
            ("CNI_NETNS", path.as_str()),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/usr/lib/cni"),
        ];
        env.extend_from_slice(extra);
        self.run(&env, &conf.to_string())
    }

    pub(crate) fn cni(&self, verb: &str, pod: &Pod) -> Answer {
        self.cni_with(verb, pod, &self.conf(), &[])
    }

    pub(crate) fn check(&self, pod: &Pod, added: &Value) -> Answer {
        let mut conf = self.conf();
        conf["prevResult"] = added.clone();
        self.cni_with("CHECK", pod, &conf, &[])
    }

    /// The program as an operator runs it.
    pub(crate) fn ask(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
        let output = command.args(args).arg("--socket").arg(self.socket()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Leased addresses of pods.
    pub(crate) fn leases(&self) -> Vec<String> {
        let (done, text) = self.ask(&["ipam", "show", "--json"]);
        assert!(done, "{text}");
        let shown: Value = serde_json::from_str(&text).unwrap();
        let leases = shown["leases"].as_array().unwrap().iter();
        let pods = leases.filter(|lease| !lease["owner"].as_str().unwrap().starts_with("cnidarian-node"));
        pods.map(|lease| lease["address"].as_str().unwrap().to_owned()).collect()
    }

    /// Host ends of pods' veths, also doomed ones.
    pub(crate) fn veths(&self) -> Vec<EndpointId> {
        let list = self.netns.run(|| Attacher::open().unwrap().list().unwrap()).unwrap();
        list.into_iter().map(|attached| attached.id).collect()
    }

    /// Routes to single pods.
    pub(crate) fn routes(&self) -> Vec<IpNet> {
        let dump = || Route::dump(&mut Socket::route().unwrap(), &RouteFilter::ours()).unwrap();
        let routes = self.netns.run(dump).unwrap().into_iter().map(|route| route.destination);
        routes.filter(|net| net.prefix_len() == net.max_prefix_len()).collect()
    }

    /// Nothing of any pod is left: no lease, veth, route.
    pub(crate) fn assert_empty(&self) {
        until("nothing of a pod is left", || {
            let left = (self.leases(), self.veths(), self.routes());
            if left.0.is_empty() && left.1.is_empty() && left.2.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
}

/// A segment with nobody else: one veth whose other end stays here.
fn underlay() {
    let mut socket = Socket::route().unwrap();
    let peer = VethPeer { name: "segment", mac: None, namespace: None };
    NewLink::new("eth0", NewLinkKind::Veth(peer)).create(&mut socket).unwrap();
    let links = Link::dump(&mut socket, &LinkFilter::default()).unwrap();
    let mut batch = Batch::new();
    for link in &links {
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(link.index));
    }
    let eth0 = links.iter().find(|link| link.name == "eth0").unwrap().index;
    Address::new(eth0, "192.0.2.1/24".parse().unwrap()).create(&mut batch);
    socket.run_all(&mut batch).unwrap();
}
