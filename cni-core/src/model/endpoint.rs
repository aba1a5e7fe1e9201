//! A pod's attachment on this node. Never another node's: those are [`super::Peer`]s and their prefixes.

use super::{EndpointId, InterfaceName, InvalidName, MacAddr, NamespaceName, PodName};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The Kubernetes pod behind an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid, where the runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

impl PodRef {
    /// Checks the names, which come from outside and end up in keys of objects and in logs.
    ///
    /// # Errors
    /// [`InvalidName`] of the namespace or of the name.
    pub fn check(&self) -> Result<(), InvalidName> {
        NamespaceName::new(&self.namespace)?;
        PodName::new(&self.name)?;
        Ok(())
    }
}

/// One attached interface of one container on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Container and interface, CNI's key.
    pub id: EndpointId,
    /// The pod, where the runtime said which (`K8S_POD_NAMESPACE`, `K8S_POD_NAME`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// The host's end of the veth.
    pub host_interface: InterfaceName,
    /// The MAC address of the host's end, the pod's permanent neighbour for its gateway.
    pub host_mac: MacAddr,
    /// The MAC address of the pod's end, the host's permanent neighbour for `addresses`.
    pub pod_mac: MacAddr,
    /// The pod's own addresses, at least one, each routed as `/32` or `/128`.
    pub addresses: Vec<IpAddr>,
}
