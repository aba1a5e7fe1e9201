//! Ports of a node that no policy about hosts closes, so that a mistake in one does not lock its author out. Never about pods.

use super::model::{Action, Direction, PolicyId, PortRange, Protocol, Stage};
use super::program::{Chain, ChainId, Clause, ProgramRule};
use crate::store::{Kind, ObjectKey};
use std::fmt;
use std::str::FromStr;

/// A protocol with ports, and one of its ports: `22/TCP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProtocolPort {
    /// The protocol.
    pub protocol: Protocol,
    /// From 1 on.
    pub port: u16,
}

/// A text that is no [`ProtocolPort`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no port of a protocol; write one as in 22/TCP")]
pub struct InvalidProtocolPort {
    /// The text.
    pub text: String,
}

impl FromStr for ProtocolPort {
    type Err = InvalidProtocolPort;

    fn from_str(text: &str) -> Result<Self, InvalidProtocolPort> {
        let read = || {
            let (port, protocol) = text.split_once('/')?;
            let (port, protocol) = (port.parse().ok()?, protocol.parse::<Protocol>().ok()?);
            (port > 0 && protocol.has_ports()).then_some(Self { protocol, port })
        };
        read().ok_or_else(|| InvalidProtocolPort { text: text.to_owned() })
    }
}

impl fmt::Display for ProtocolPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// What stays open between a node and everybody but its own pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failsafe {
    /// Ports of the node.
    pub ingress: Vec<ProtocolPort>,
    /// Ports of others that the node may go to.
    pub egress: Vec<ProtocolPort>,
}

/// Those of Felix: SSH, DHCP, BGP, etcd, Typha, the API server.
const TCP_BOTH_WAYS: [u16; 7] = [179, 2379, 2380, 5473, 6443, 6666, 6667];

impl Default for Failsafe {
    fn default() -> Self {
        let tcp = |port: &u16| ProtocolPort { protocol: Protocol::TCP, port: *port };
        let udp = |port: &u16| ProtocolPort { protocol: Protocol::UDP, port: *port };
        let both = || TCP_BOTH_WAYS.iter().map(tcp);
        Self {
            ingress: [22].iter().map(tcp).chain([68].iter().map(udp)).chain(both()).collect(),
            egress: [53, 67].iter().map(udp).chain(both()).collect(),
        }
    }
}

impl Failsafe {
    /// The name of the tier that it is in programs, before all others.
    pub const TIER: &'static str = "failsafe";

    /// No port.
    #[must_use]
    pub const fn none() -> Self {
        Self { ingress: Vec::new(), egress: Vec::new() }
    }

    /// The ports of a direction, seen from the node.
    #[must_use]
    pub fn ports(&self, direction: Direction) -> &[ProtocolPort] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether a connection stays open.
    #[must_use]
    pub fn has(&self, direction: Direction, protocol: Protocol, port: Option<u16>) -> bool {
        port.is_some_and(|port| self.ports(direction).contains(&ProtocolPort { protocol, port }))
    }

    /// The chain of a stage and a direction.
    #[must_use]
    pub fn chain_id(stage: Stage, direction: Direction) -> ChainId {
        let object = ObjectKey::cluster(Kind::new("cnidarian.io/v1", "Failsafe"), "node");
        // Where connections are not tracked, answers need rules of their own.
        ChainId { policy: PolicyId { object, part: u16::from(stage == Stage::Untracked) }, direction }
    }

    /// What that chain says. Its packets are tracked, whatever the stage.
    #[must_use]
    pub fn chain(&self, stage: Stage, direction: Direction) -> Chain {
        let rule = |path: String, clause| ProgramRule {
            path: path.into(),
            action: Action::Allow,
            clauses: vec![clause],
            unenforceable: None,
        };
        let to = self.ports(direction).iter().map(|open| {
            let ports = Some(vec![PortRange::one(open.port)]);
            rule(
                open.to_string(),
                Clause { protocol: Some(open.protocol), destination_ports: ports, ..Clause::default() },
            )
        });
        let opposite = match direction {
            Direction::Ingress => Direction::Egress,
            Direction::Egress => Direction::Ingress,
        };
        let answers = self.ports(opposite).iter().filter(|_| stage == Stage::Untracked).map(|open| {
            let ports = Some(vec![PortRange::one(open.port)]);
            let clause = Clause { protocol: Some(open.protocol), source_ports: ports, ..Clause::default() };
            rule(format!("answers of {open}"), clause)
        });
        Chain { id: Self::chain_id(stage, direction), stage: Stage::Tracked, rules: to.chain(answers).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_as_it_is_shown_and_what_has_no_ports_is_refused() {
        let ssh: ProtocolPort = "22/TCP".parse().unwrap();
        assert_eq!((ssh, ssh.to_string().as_str()), (ProtocolPort { protocol: Protocol::TCP, port: 22 }, "22/TCP"));
        for wrong in ["22", "TCP", "0/TCP", "70000/TCP", "8/ICMP", "22/", "/TCP"] {
            assert!(wrong.parse::<ProtocolPort>().is_err(), "{wrong}");
        }
    }

    /// Felix's configuration reference: `FailsafeInboundHostPorts`, `FailsafeOutboundHostPorts`.
    #[test]
    fn the_defaults_are_those_of_felix() {
        let shown = |direction| {
            let ports = Failsafe::default().ports(direction).iter().map(ToString::to_string).collect::<Vec<_>>();
            ports.join(" ")
        };
        let both = "179/TCP 2379/TCP 2380/TCP 5473/TCP 6443/TCP 6666/TCP 6667/TCP";
        assert_eq!(shown(Direction::Ingress), format!("22/TCP 68/UDP {both}"));
        assert_eq!(shown(Direction::Egress), format!("53/UDP 67/UDP {both}"));
    }
}
