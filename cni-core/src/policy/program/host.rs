//! The program of the node itself: what may come to it, go from it, and pass through its own interfaces. Never a pod's.
//!
//! ```text
//!  in  ──> untracked ──> before NAT ──┬──> local, ingress  ──> the node's processes ──> local, egress ──> untracked ──> out
//!          (stateless)                └──> forwarded, ingress ──> pods' programs ──> forwarded, egress ──────────────> out
//! ```
//!
//! # What engines do beside the program
//! - The loopback interface is never looked at.
//! - Packets of connections that are tracked, and were let in, pass; answers so follow their connection.
//! - Neighbour discovery and the reports of multicast listeners pass (RFC 4890, sections 4.3.1 and 4.4.1): a host without
//!   them is cut off from its link.
//! - What an early stage allows is asked no later stage of the host; a pod's program is asked all the same.

use super::DirectionProgram;
use crate::model::InterfaceName;
use std::fmt;
use std::sync::Arc;

/// Which packets, by the interface that they come from or go to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostInterface {
    /// Those of one interface.
    Named(InterfaceName),
    /// Those of all other interfaces but of pods.
    Others,
    /// Those between the node and its own pods.
    Pods,
}

/// A program for each direction, seen from the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct BothWays {
    /// In through the interface.
    pub ingress: DirectionProgram,
    /// Out through it.
    pub egress: DirectionProgram,
}

impl BothWays {
    /// Whether everything is allowed and nothing counted.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// All policy of the packets of some interfaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostEndpointProgram {
    /// For people: the host endpoint's or the node's name.
    pub name: Arc<str>,
    /// Which packets.
    pub interface: HostInterface,
    /// To and from the node itself.
    pub local: BothWays,
    /// What passes through the node.
    pub forwarded: BothWays,
    /// Before connections are tracked, of both. What a rule allows is not tracked.
    pub untracked: BothWays,
    /// Before destinations are translated, of both.
    pub before_nat: DirectionProgram,
}

impl HostEndpointProgram {
    /// Whether everything is allowed.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let Self { local, forwarded, untracked, before_nat, .. } = self;
        [local, forwarded, untracked].into_iter().all(BothWays::is_open) && *before_nat == DirectionProgram::default()
    }

    /// Every direction of every part.
    pub fn directions(&self) -> impl Iterator<Item = &DirectionProgram> {
        let Self { local, forwarded, untracked, before_nat, .. } = self;
        let both = [local, forwarded, untracked].into_iter().flat_map(|part| [&part.ingress, &part.egress]);
        both.chain([before_nat])
    }
}

/// All policy of the node itself. There is none while everything is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HostProgram {
    /// No two of one interface. A packet is that of the named interface, else of a pod's, else of the others.
    pub endpoints: Vec<HostEndpointProgram>,
}

impl fmt::Display for HostInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "interface {name}"),
            Self::Others => f.write_str("other interfaces"),
            Self::Pods => f.write_str("its own pods"),
        }
    }
}
