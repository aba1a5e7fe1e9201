//! The items of the network that a datapath translates, one at a time.

use super::{Encapsulation, Endpoint, EndpointId, NodeName, Peer};
use crate::backend::Item;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// A block of pod addresses that lives on this node: announced by routing protocols, unreachable where no pod has the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalBlock {
    /// The block, without host bits.
    pub prefix: IpNet,
    /// The pool it was cut from, `None` for a node's `podCIDR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What the pool says of encapsulation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
    /// An address of the block that no pod gets: the node's own source towards pods of other nodes, so that their
    /// answers come back through the tunnel. `None`: the node uses its underlay address, and the underlay has to
    /// carry answers from pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_address: Option<IpAddr>,
}

/// An address of a service that packets from outside may have as their destination and that this node takes: routers outside
/// are told so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAddress {
    /// The address.
    pub address: IpAddr,
    /// The services that have it, `NAMESPACE/NAME`, sorted; for people.
    pub services: Vec<String>,
}

/// One thing of the network that a datapath turns into kernel objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum NetworkItem {
    /// A block of this node's pods.
    Block(LocalBlock),
    /// A pod of this node.
    Endpoint(Endpoint),
    /// Another node.
    Peer(Peer),
    /// An address of services, for datapaths with [`crate::backend::Capability::ServiceAddresses`].
    ServiceAddress(ServiceAddress),
}

/// Which item: stable while its content changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum NetworkKey {
    /// A block, by its prefix.
    Block(IpNet),
    /// A pod, by its endpoint.
    Endpoint(EndpointId),
    /// A node, by its name.
    Peer(NodeName),
    /// An address of services.
    ServiceAddress(IpAddr),
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(prefix) => write!(f, "block {prefix}"),
            Self::Endpoint(id) => write!(f, "endpoint {id}"),
            Self::Peer(node) => write!(f, "peer {node}"),
            Self::ServiceAddress(address) => write!(f, "service address {address}"),
        }
    }
}

impl Item for NetworkItem {
    type Key = NetworkKey;

    fn key(&self) -> NetworkKey {
        match self {
            Self::Block(block) => NetworkKey::Block(block.prefix),
            Self::Endpoint(endpoint) => NetworkKey::Endpoint(endpoint.id.clone()),
            Self::Peer(peer) => NetworkKey::Peer(peer.node.clone()),
            Self::ServiceAddress(service) => NetworkKey::ServiceAddress(service.address),
        }
    }
}
