//! What a datapath must know of the node it runs on. Never of other nodes.

use super::{Attributes, InterfaceName, NodeName};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The network below the pod network, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Underlay {
    /// The interface that carries traffic to other nodes.
    pub interface: InterfaceName,
    /// Its index in this node's network namespace.
    pub index: u32,
    /// Its MTU in bytes.
    pub mtu_bytes: u32,
    /// Our IPv4 address with the length of the segment's prefix: `192.0.2.7/24` means that `192.0.2.0/24` is on link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Net>,
    /// Our IPv6 address with the length of the segment's prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Net>,
}

impl Underlay {
    /// The prefixes on link of the underlay.
    pub fn segments(&self) -> impl Iterator<Item = IpNet> + use<> {
        let v4 = self.v4.map(|net| IpNet::V4(net.trunc()));
        v4.into_iter().chain(self.v6.map(|net| IpNet::V6(net.trunc())))
    }
}

/// Source NAT of pod traffic that leaves the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Masquerade {
    /// Pod prefixes whose traffic is masqueraded, sorted.
    pub sources: Vec<IpNet>,
    /// Destinations that see the pod's own address (pools and what the operator adds), sorted.
    pub keep: Vec<IpNet>,
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeContext {
    /// This node's name.
    pub name: NodeName,
    /// The labels of its Node, for selectors of configurations.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub labels: Attributes,
    /// The network below.
    pub underlay: Underlay,
    /// Masquerading, `None` when it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
}
