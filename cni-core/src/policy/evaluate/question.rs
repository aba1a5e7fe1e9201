//! A connection as people ask for it: ports by name, ICMP of whatever family. Never a verdict.

use super::{Connection, Party};
use crate::policy::model::{Protocol, WorkloadId};
use crate::policy::world::World;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// A text that names no party.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pod, node or address; write NAMESPACE/POD, node/NAME or an IP address")]
pub struct InvalidParty {
    /// The text.
    pub text: String,
}

impl FromStr for Party {
    type Err = InvalidParty;

    /// Reads `shop/web`, `node/n1`, `192.0.2.7`, `2001:db8::7` or `[2001:db8::7]`.
    fn from_str(text: &str) -> Result<Self, InvalidParty> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(address));
        }
        match text.split_once('/') {
            Some((first, name)) if !first.is_empty() && !name.is_empty() && !name.contains('/') => Ok(match first {
                "node" => Self::Workload(WorkloadId::node(name)),
                namespace => Self::Workload(WorkloadId::pod(namespace, name)),
            }),
            _ => Err(InvalidParty { text: text.to_owned() }),
        }
    }
}

/// A port by number or by a name of the destination's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortChoice {
    /// By number; any number for protocols without ports.
    Number(u16),
    /// By name.
    Name(Arc<str>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// Who begins it.
    pub from: Party,
    /// To whom.
    pub to: Party,
    /// [`Protocol::ICMP`] stands for ICMPv6 where the ends talk IPv6.
    pub protocol: Protocol,
    /// The destination port.
    pub port: PortChoice,
}

/// The destination has no port of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{to} names no {protocol} port {name:?}")]
pub struct NoSuchPort {
    /// The destination.
    pub to: Party,
    /// The protocol.
    pub protocol: Protocol,
    /// The name.
    pub name: Arc<str>,
}

impl Question {
    /// The connection that is asked for.
    ///
    /// # Errors
    /// [`NoSuchPort`].
    pub fn connection(&self, world: &World) -> Result<Connection, NoSuchPort> {
        let protocol = match self.protocol {
            Protocol::ICMP if !(has_v4(world, &self.from) && has_v4(world, &self.to)) => Protocol::ICMPV6,
            protocol => protocol,
        };
        let port = match &self.port {
            PortChoice::Number(number) => *number,
            PortChoice::Name(name) => {
                let missing = || NoSuchPort { to: self.to.clone(), protocol, name: name.clone() };
                self.named_port(world, name).ok_or_else(missing)?
            }
        };
        Ok(Connection::new(self.from.clone(), self.to.clone(), protocol, port))
    }

    fn named_port(&self, world: &World, name: &str) -> Option<u16> {
        let holder = match &self.to {
            Party::Workload(id) => world.workloads.get(id)?,
            Party::Address(address) => {
                let mut all = world.workloads.values();
                all.find(|workload| workload.addresses.contains(address) && !workload.host_network)?
            }
        };
        let mut ports = holder.ports.iter();
        ports.find(|port| &*port.name == name && port.protocol == self.protocol).map(|port| port.port)
    }
}

/// Whether a party may talk IPv4. One without an address may.
fn has_v4(world: &World, party: &Party) -> bool {
    match party {
        Party::Address(address) => address.is_ipv4(),
        Party::Workload(id) => world
            .workloads
            .get(id)
            .is_none_or(|workload| workload.addresses.is_empty() || workload.addresses.iter().any(IpAddr::is_ipv4)),
    }
}
