//! One pod of a lab, attached and detached as a container runtime does it: the real plugin, executed.

use super::{LabError, Manifests, Node};
use crate::scenario::PodSpec;
use cni_core::cni::CniArgs;
use cni_core::model::EndpointId;
use cni_core::runtime::{Attachment, RuntimeError};
use net_linux::link::{LinkChange, LinkId};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use serde_json::json;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// The name inside the pod.
const INTERFACE: &str = "eth0";

/// An attached pod.
#[derive(Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The index of its node.
    pub node: usize,
    /// Its network namespace.
    pub namespace: NetNs,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// How long ADD took, from fork to answer.
    pub add_time: Duration,
    attachment: Attachment,
}

impl Pod {
    /// Makes a namespace and executes ADD.
    pub(super) fn attach(spec: &PodSpec, node: &Node) -> Result<Self, LabError> {
        let namespace = NetNs::new()?;
        namespace.run(loopback_up)??;
        let failed = |detail: String| LabError::Plugin {
            operation: "ADD",
            pod: spec.name.clone(),
            node: node.name.clone(),
            detail,
        };
        let attachment = attachment(spec, &namespace).map_err(|error| failed(error.to_string()))?;
        let start = Instant::now();
        let result = node.add(&attachment).map_err(|error| failed(explain(&error)))?;
        let add_time = start.elapsed();
        let mut addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.addr()).collect();
        addresses.sort_unstable();
        if addresses.is_empty() {
            return Err(failed("the result has no address".to_owned()));
        }
        Ok(Self { name: spec.name.clone(), node: spec.node, namespace, addresses, add_time, attachment })
    }

    /// Executes DEL.
    pub(super) fn detach(&self, node: &Node) -> Result<(), LabError> {
        node.del(&self.attachment).map_err(|error| LabError::Plugin {
            operation: "DEL",
            pod: self.name.clone(),
            node: node.name.clone(),
            detail: explain(&error),
        })
    }
}

/// An error and its causes on one line.
fn explain(error: &RuntimeError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn attachment(spec: &PodSpec, namespace: &NetNs) -> Result<Attachment, Box<dyn std::error::Error>> {
    let container = format!("{}-{}-{}", spec.namespace, spec.name, namespace.id().inode);
    // Our own process holds the namespace; the plugin's sees it there.
    let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    let mut attachment = Attachment::new(EndpointId::of(&container, INTERFACE)?, path);
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={}", spec.namespace, spec.name);
    attachment.args = args.parse::<CniArgs>()?;
    Ok(attachment)
}

/// A runtime brings the loopback device up itself, or runs the `loopback` plugin.
fn loopback_up() -> Result<(), LabError> {
    let mut batch = Batch::new();
    LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("lo"));
    Ok(Socket::route()?.run_all(&mut batch)?)
}

/// What Kubernetes would know of the pod.
pub(super) fn write_manifest(spec: &PodSpec, node: &Node, manifests: &Manifests) -> Result<(), LabError> {
    let annotations: serde_json::Map<_, _> =
        spec.annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": spec.name, "namespace": spec.namespace, "annotations": annotations},
        "spec": {"nodeName": node.name},
    });
    manifests.put(&format!("pod-{}-{}", spec.namespace, spec.name), &pod)
}
