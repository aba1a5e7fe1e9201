//! What the compiler hands to engines: sets, chains of policies, and one program per local endpoint. Never a label: those
//! were resolved to addresses.
//!
//! ```text
//! EndpointProgram ─┬─ per direction ──> tiers ──> chains (one per policy and direction, shared by endpoints)
//! HostProgram ─────┘                              └─> rules ──> clauses ──> sets <── members
//! ```
//!
//! Each is an [`Item`] of its own, so that an engine translates one at a time: one more pod behind a selector is one more
//! [`PolicyItem::Member`], not a set written anew.

mod host;

pub use host::{BothWays, HostEndpointProgram, HostInterface, HostProgram};

use super::model::{Action, Direction, Family, Icmp, PolicyId, PortRange, Protocol, Stage, TierEnd, Unenforceable};
use crate::backend::{Change, Engine, Item};
use crate::model::{EndpointId, InterfaceName};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// A set's name: hexadecimal digits made from what the set means, so equal in every process, and a set never changes its
/// meaning under its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetId(pub Arc<str>);

/// What members of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SetKind {
    /// Single addresses of one family.
    Addresses(Family),
    /// Prefixes of one family, none within another.
    Networks(Family),
    /// An address, a protocol and a port of it: named ports.
    AddressPorts(Family),
}

/// A set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set {
    /// Its name.
    pub id: SetId,
    /// What its members are.
    pub kind: SetKind,
}

/// One member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Member {
    /// Of [`SetKind::Addresses`].
    Address(IpAddr),
    /// Of [`SetKind::Networks`].
    Network(IpNet),
    /// Of [`SetKind::AddressPorts`].
    AddressPort(IpAddr, Protocol, u16),
}

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// A condition on one end: its address is, or is not, in a set. In one of [`SetKind::AddressPorts`], which is only asked
/// about the destination, the address together with the packet's protocol and destination port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SetMatch {
    /// Which end.
    pub side: Side,
    /// Which set.
    pub set: Set,
    /// The condition is that it is not in there.
    pub negated: bool,
}

/// A conjunction: all that is there must hold. With a set in it, it has a family.
///
/// Conditions on ports, negated ones too, hold only for protocols that have ports ([`Protocol::has_ports`]), conditions on
/// messages only for ICMP and ICMPv6, also where `protocol` is `None`: an engine checks that as well. So an empty list of
/// ports that are not wanted still wants a protocol with ports. Ranges are in order and do not touch. A message that is
/// wanted and its protocol's number may belong to different families: then nothing matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Clause {
    /// Only this family.
    pub family: Option<Family>,
    /// Conditions on the ends.
    pub sets: Vec<SetMatch>,
    /// The other end is (`true`) or is not (`false`) the endpoint's own node.
    pub own_node: Option<bool>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Only other protocols.
    pub not_protocol: Option<Protocol>,
    /// Source ports, any of these.
    pub source_ports: Option<Vec<PortRange>>,
    /// Source ports, none of these.
    pub not_source_ports: Option<Vec<PortRange>>,
    /// Destination ports, any of these.
    pub destination_ports: Option<Vec<PortRange>>,
    /// Destination ports, none of these.
    pub not_destination_ports: Option<Vec<PortRange>>,
    /// Only this message.
    pub icmp: Option<Icmp>,
    /// Only other messages.
    pub not_icmp: Option<Icmp>,
}

/// A rule, ready to be enforced.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProgramRule {
    /// Where it stands in its object, `spec.ingress[0]`: with the chain's id, the rule's name in flows and counters.
    pub path: Arc<str>,
    /// What it does.
    pub action: Action,
    /// It matches when one of these holds; of none: never. At most 256, and nearly always one or one for each family.
    pub clauses: Vec<Clause>,
    /// Why it is not enforced as meant; the clauses are closed already.
    pub unenforceable: Option<Unenforceable>,
}

/// A chain's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId {
    /// The policy.
    pub policy: PolicyId,
    /// Which of its rules.
    pub direction: Direction,
}

/// The rules of one policy in one direction, for all endpoints that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub id: ChainId,
    /// Where it decides: [`Stage::Tracked`] but for policies about hosts.
    pub stage: Stage,
    /// In order.
    pub rules: Vec<ProgramRule>,
}

/// One tier, as far as it concerns an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TierProgram {
    /// Its name, for flows and counters.
    pub tier: Arc<str>,
    /// Chains of the policies that are about the endpoint, in order.
    pub chains: Vec<ChainId>,
    /// What happens to what no rule matched: `Deny` only when a policy isolates and the tier ends so.
    pub end: TierEnd,
}

/// One direction of an endpoint. Without tiers everything is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DirectionProgram {
    /// What decides.
    pub enforced: Vec<TierProgram>,
    /// The same with staged policies as if they were enforced: counted and logged, decides nothing. `None` without any.
    pub staged: Option<Vec<TierProgram>>,
}

/// All policy of one local endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointProgram {
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// The host's end of its veth.
    pub host_interface: InterfaceName,
    /// Its addresses: from others it may not send.
    pub addresses: Vec<IpAddr>,
    /// To it.
    pub ingress: DirectionProgram,
    /// From it.
    pub egress: DirectionProgram,
}

/// One thing that a policy engine turns into kernel objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyItem {
    /// A set, empty.
    Set(Set),
    /// A member of a set.
    Member(Set, Member),
    /// A policy's rules.
    Chain(Chain),
    /// An endpoint's program.
    Endpoint(EndpointProgram),
    /// The program of the node itself.
    Host(HostProgram),
}

/// Which item.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PolicyKey {
    /// A set, by its name.
    Set(SetId),
    /// A member, by set and value.
    Member(SetId, Member),
    /// A policy's rules.
    Chain(ChainId),
    /// An endpoint.
    Endpoint(EndpointId),
    /// The node itself.
    Host,
}

impl Item for PolicyItem {
    type Key = PolicyKey;

    fn key(&self) -> PolicyKey {
        match self {
            Self::Set(set) => PolicyKey::Set(set.id.clone()),
            Self::Member(set, member) => PolicyKey::Member(set.id.clone(), member.clone()),
            Self::Chain(chain) => PolicyKey::Chain(chain.id.clone()),
            Self::Endpoint(program) => PolicyKey::Endpoint(program.endpoint.clone()),
            Self::Host(_) => PolicyKey::Host,
        }
    }
}

/// A change of what is to be enforced.
pub type PolicyChange = Change<PolicyItem>;

/// The policy part of a backend.
pub trait PolicyEngine: Engine<PolicyItem> {}

impl<E: Engine<PolicyItem>> PolicyEngine for E {}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::AddressPort(address, protocol, port) => write!(f, "{address} {protocol} {port}"),
        }
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.policy, self.direction)?;
        if self.policy.part > 0 {
            write!(f, " part {}", self.policy.part)?;
        }
        Ok(())
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(set) => write!(f, "set {set}"),
            Self::Member(set, member) => write!(f, "member {member} of set {set}"),
            Self::Chain(chain) => write!(f, "chain {chain}"),
            Self::Endpoint(endpoint) => write!(f, "policy of endpoint {endpoint}"),
            Self::Host => f.write_str("policy of the node"),
        }
    }
}
