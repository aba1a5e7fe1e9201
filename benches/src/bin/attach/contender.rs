//! Who is measured: our plugin with a running agent, and the reference plugins. Never reaches into one of them: all are
//! executed by the same runtime.

use super::AnyError;
use cni_core::cni::NetConfList;
use cni_core::model::EndpointId;
use cni_core::runtime::{Attachment, Options, ProcessExec, Runtime};
use net_linux::netns::NetNs;
use serde_json::json;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use testlab::lab::{Lab, Programs};
use testlab::registry::Registry;
use testlab::scenario::{Overrides, Scenario};

/// A pod to be attached.
pub(super) struct PodUnderTest {
    pub(super) namespace: NetNs,
    attachment: Attachment,
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
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
        Ok(PodUnderTest { namespace, attachment: Attachment::new(id, path) })
    }
    /// Attaches it.
    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError>;
    /// Detaches it.
    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError>;
}

/// Our plugin, with an agent of one node.
pub(super) struct Cnidarian {
    lab: Lab,
}

impl Cnidarian {
    pub(super) fn start(programs: &Programs) -> Result<Self, AnyError> {
        let one = Overrides { backend: None, nodes: Some(1), pods: Some(0) };
        let scenario = Scenario::standard().with(&one)?;
        let lab = Lab::start(scenario, programs, &Registry::open()?, false, &AtomicBool::new(false))?;
        Ok(Self { lab })
    }
}

impl Contender for Cnidarian {
    fn name(&self) -> &str {
        "cnidarian (vxlan, IPv4 + IPv6)"
    }

    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.lab.nodes[0].add(&pod.attachment)?;
        Ok(())
    }

    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        Ok(self.lab.nodes[0].del(&pod.attachment)?)
    }
}

/// A reference plugin, in a namespace of its own.
pub(super) struct Reference {
    name: &'static str,
    namespace: NetNs,
    runtime: Runtime,
    network: NetConfList,
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
        let list = json!({"cniVersion": "1.0.0", "name": "reference", "plugins": [plugin]});
        let network = NetConfList::parse(list.to_string().as_bytes())?;
        let options = Options::new(["/usr/lib/cni"], state.path().join("cache"));
        let runtime = Runtime::new(options, Arc::new(ProcessExec::default()));
        Ok(Self { name, namespace: NetNs::new()?, runtime, network, _state: state })
    }
}

impl Contender for Reference {
    fn name(&self) -> &str {
        self.name
    }

    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        self.namespace.run(|| self.runtime.add(&self.network, &pod.attachment))??;
        Ok(())
    }

    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        Ok(self.namespace.run(|| self.runtime.del(&self.network, &pod.attachment))??)
    }
}
