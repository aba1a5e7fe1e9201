//! Plugins in process that note every call and fail on demand. Never decides what a test expects.

use cni_core::cni::{
    AddResult, CniError, Environment, ErrorCode, Interface, IpConfig, NetConf, NetConfList, SpecVersion, Verb,
};
use cni_core::model::EndpointId;
use cni_core::plugin::{
    self, About, AddRequest, CheckRequest, DelRequest, Delegate, GcRequest, Io, Netns, Origin, Plugin, StatusRequest,
};
use cni_core::runtime::{Attachment, Exec, InProcessExec, Options, Runtime};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One call that reached a plugin's verb.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) plugin: &'static str,
    pub(crate) verb: Verb,
    pub(crate) stdin: Value,
    pub(crate) environment: Environment,
}

impl Entry {
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).and_then(|value| value.to_str())
    }
}

pub(crate) type Log = Arc<Mutex<Vec<Entry>>>;

/// A plugin that has interfaces in a set instead of in a kernel.
pub(crate) struct Fake {
    pub(crate) name: &'static str,
    pub(crate) spec: &'static [SpecVersion],
    pub(crate) netns: Netns,
    pub(crate) log: Log,
    pub(crate) failing: Mutex<BTreeMap<Verb, CniError>>,
    pub(crate) interfaces: Mutex<BTreeSet<EndpointId>>,
    pub(crate) address: Option<&'static str>,
}

impl Fake {
    pub(crate) fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            spec: SpecVersion::ALL,
            netns: Netns::NotUsed,
            log: log.clone(),
            failing: Mutex::default(),
            interfaces: Mutex::default(),
            address: None,
        }
    }

    pub(crate) fn failing(self, verb: Verb, code: ErrorCode) -> Self {
        self.failing.lock().unwrap().insert(verb, CniError::new(code, format!("{} fails {verb}", self.name)));
        self
    }

    fn note(&self, origin: &Origin) -> Result<(), CniError> {
        self.log.lock().unwrap().push(Entry {
            plugin: self.name,
            verb: origin.verb,
            stdin: serde_json::from_slice(&origin.stdin).unwrap(),
            environment: origin.environment.clone(),
        });
        self.failing.lock().unwrap().get(&origin.verb).map_or(Ok(()), |error| Err(error.clone()))
    }

    /// An IPAM plugin does not delegate to itself, though it gets the same configuration.
    fn forward(&self, conf: &NetConf, delegate: Option<Delegate<'_>>) -> Result<(), CniError> {
        match delegate {
            Some(delegate) if conf.plugin.as_str() == self.name => delegate.forward(),
            _ => Ok(()),
        }
    }
}

impl Plugin for Fake {
    fn about(&self) -> About {
        About { name: self.name, version: "1.0.0", spec: self.spec, netns: self.netns }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        self.note(&request.origin)?;
        if !self.interfaces.lock().unwrap().insert(request.id()) {
            return Err(CniError::interface_exists(&request.ifname));
        }
        let mut result = request.conf.prev_result.clone().unwrap_or_default();
        result.ips.extend(self.address.map(|address| IpConfig::new(address.parse().unwrap())));
        if request.conf.plugin.as_str() != self.name {
            return Ok(result);
        }
        result.interfaces.push(Interface::on_host(self.name, "02:00:00:00:00:01"));
        let done = match request.ipam() {
            Some(ipam) => ipam.add(|addresses| {
                result.ips.extend(addresses.ips);
                Ok(result)
            }),
            None => Ok(result),
        };
        done.inspect_err(|_| {
            self.interfaces.lock().unwrap().remove(&request.id());
        })
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        self.note(&request.origin)?;
        self.interfaces.lock().unwrap().remove(&request.id());
        self.forward(&request.conf, request.ipam())
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        self.note(&request.origin)?;
        self.forward(&request.conf, request.ipam())
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        self.note(&request.origin)?;
        self.forward(&request.conf, request.ipam())
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        self.note(&request.origin)?;
        if let Some(valid) = request.valid_attachments() {
            self.interfaces.lock().unwrap().retain(|id| valid.contains(id));
        }
        self.forward(&request.conf, request.ipam())
    }
}

/// What was called so far, as `plugin VERB`; forgets it.
pub(crate) fn calls(log: &Log) -> Vec<String> {
    log.lock().unwrap().drain(..).map(|entry| format!("{} {}", entry.plugin, entry.verb)).collect()
}

pub(crate) fn in_process(plugins: impl IntoIterator<Item = Fake>) -> Arc<dyn Exec> {
    let mut exec = InProcessExec::default();
    for plugin in plugins {
        exec = exec.with(Arc::new(plugin)).unwrap();
    }
    Arc::new(exec)
}

pub(crate) fn runtime(directory: &Path, exec: Arc<dyn Exec>) -> Runtime {
    Runtime::new(Options { environment: Environment::default(), ..Options::new(["/opt/cni/bin"], directory) }, exec)
}

pub(crate) fn list(json: Value) -> NetConfList {
    NetConfList::parse(json.to_string().as_bytes()).unwrap()
}

pub(crate) fn attachment(container: &str) -> Attachment {
    Attachment::new(EndpointId::of(container, "eth0").unwrap(), format!("/run/netns/{container}"))
}

/// The environment of a call as a runtime makes it.
pub(crate) fn environment(verb: &str) -> Environment {
    [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/blue"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
    .into_iter()
    .collect()
}

/// Exit code and stdout of one call.
pub(crate) fn call(plugin: &dyn Plugin, environment: Environment, stdin: &[u8], exec: Arc<dyn Exec>) -> (u8, Vec<u8>) {
    let mut stdout = Vec::new();
    let code = plugin::run(plugin, Io { environment, stdin: &mut &*stdin, stdout: &mut stdout, exec });
    (code, stdout)
}

/// As [`call`], with JSON both ways and nobody to delegate to.
pub(crate) fn call_json(plugin: &dyn Plugin, verb: &str, conf: &Value) -> (u8, Value) {
    let (code, stdout) = call(plugin, environment(verb), conf.to_string().as_bytes(), in_process([]));
    (code, serde_json::from_slice(&stdout).unwrap_or_default())
}
