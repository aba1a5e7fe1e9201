//! The question: one new connection. Never an established one: replies follow it.

use crate::policy::model::{Icmp, Protocol, WorkloadId};
use std::fmt;
use std::net::IpAddr;

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// A pod or a node, whatever its address is.
    Workload(WorkloadId),
    /// An address; that of a pod or node stands for it.
    Address(IpAddr),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(WorkloadId { namespace: Some(namespace), name, .. }) => write!(f, "{namespace}/{name}"),
            Self::Workload(id) => id.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A new connection, or a message that begins a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Who begins it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// The source port, for protocols with ports. `None`: one that no rule names, as clients use.
    pub source_port: Option<u16>,
    /// The destination port, for protocols with ports.
    pub destination_port: Option<u16>,
    /// The message, for ICMP and ICMPv6.
    pub icmp: Option<Icmp>,
}

impl Connection {
    /// A connection of a protocol with ports; of ICMP: an echo request, whatever the port.
    #[must_use]
    pub fn new(from: Party, to: Party, protocol: Protocol, destination_port: u16) -> Self {
        let icmp = match protocol {
            // RFC 792, page 14; RFC 4443, section 4.1.
            Protocol::ICMP => Some(Icmp { kind: 8, code: Some(0) }),
            Protocol::ICMPV6 => Some(Icmp { kind: 128, code: Some(0) }),
            _ => None,
        };
        let destination_port = protocol.has_ports().then_some(destination_port);
        Self { from, to, protocol, source_port: None, destination_port, icmp }
    }
}

/// A workload that is not in the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no {id} among the objects")]
pub struct UnknownParty {
    /// Which.
    pub id: WorkloadId,
}
