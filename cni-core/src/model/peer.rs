//! Another node, as a datapath needs to know it. Never what one backend alone cares for: that travels in `attributes`.

use super::{Attributes, NodeName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// When traffic to a prefix is wrapped in an outer packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Encapsulation {
    /// Always through the tunnel.
    Always,
    /// Plain routes inside a layer 2 segment, the tunnel across.
    CrossSubnet,
    /// Never: the underlay carries pod addresses.
    Never,
}

/// A block of pod addresses that lives on a peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerPrefix {
    /// The prefix, without host bits.
    pub prefix: IpNet,
    /// What the pool says; `None` leaves it to the backend's own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encapsulation: Option<Encapsulation>,
}

/// Another node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The node's name.
    pub node: NodeName,
    /// Its IPv4 address on the underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address on the underlay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ipv6Addr>,
    /// Its pod prefixes, sorted.
    pub prefixes: Vec<PeerPrefix>,
    /// The labels of its Node, for selectors of configurations.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub labels: Attributes,
    /// What the peer's backend published of itself (`vtep-mac`, `asn`, ...), for the same backend here to read.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}
