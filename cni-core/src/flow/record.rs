//! The record: who talked to whom, what was decided, and by what. Its JSON form is docs/formats/flow.md. Never where it came
//! from.

use crate::policy::model::{Direction, LabelMap, Protocol};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It passes, as far as this end is concerned.
    Allowed,
    /// It was dropped.
    Denied,
    /// It would pass, were the staged policies enforced. Decides nothing.
    WouldAllow,
    /// It would be dropped, were the staged policies enforced. Decides nothing.
    WouldDeny,
    /// A rule asked for a record; a later one decides.
    Logged,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Allowed, Self::Denied, Self::WouldAllow, Self::WouldDeny, Self::Logged];

    /// As in the JSON form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::WouldAllow => "would-allow",
            Self::WouldDeny => "would-deny",
            Self::Logged => "logged",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a packet was dropped, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// A rule denies it.
    Rule,
    /// No rule of a tier allows it, and a policy isolates the endpoint.
    EndOfTier,
    /// Its source is not an address of the pod that sent it.
    SpoofedSource,
    /// An ICMP error that its sender cannot know of.
    ForgedError,
    /// Its connection was allowed when it was opened, and is not any more.
    DeniedSinceOpened,
    /// The endpoint is not ready, or no longer there.
    UnknownEndpoint,
    /// It is neither IP nor what IP needs on a link.
    NotIp,
    /// It carries a VLAN tag.
    Vlan,
    /// A header is not all there, or contradicts itself.
    Malformed,
    /// A later fragment of a packet whose first was not seen.
    UnknownFragment,
    /// A table of the engine is full.
    Full,
    /// A table of the engine has no answer that it must have: it is not written yet.
    Incomplete,
    /// Another one, of a newer release.
    #[serde(other)]
    Other,
}

impl Reason {
    /// All that this release knows.
    pub const ALL: [Self; 12] = [
        Self::Rule,
        Self::EndOfTier,
        Self::SpoofedSource,
        Self::ForgedError,
        Self::DeniedSinceOpened,
        Self::UnknownEndpoint,
        Self::NotIp,
        Self::Vlan,
        Self::Malformed,
        Self::UnknownFragment,
        Self::Full,
        Self::Incomplete,
    ];

    /// As in the JSON form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::EndOfTier => "end-of-tier",
            Self::SpoofedSource => "spoofed-source",
            Self::ForgedError => "forged-error",
            Self::DeniedSinceOpened => "denied-since-opened",
            Self::UnknownEndpoint => "unknown-endpoint",
            Self::NotIp => "not-ip",
            Self::Vlan => "vlan",
            Self::Malformed => "malformed",
            Self::UnknownFragment => "unknown-fragment",
            Self::Full => "full",
            Self::Incomplete => "incomplete",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A pod of the cluster.
    Pod,
    /// A node of the cluster.
    Node,
    /// An interface of a node that nobody has told the pod of: a container without one, or one that is gone.
    Container,
}

/// One end of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// Its address as the packet has it; `None`: the packet could not be read so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its port, of protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What it is; `None`: the cluster does not know the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// A pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// A pod's or node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub labels: LabelMap,
    /// The number that its engine gives to all with the same labels, on its node; `None`: the engine knows no numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<u32>,
}

fn is_empty(labels: &LabelMap) -> bool {
    labels.is_empty()
}

/// An ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// Its code.
    pub code: u8,
}

/// The flags of a TCP header, in the order of its bits. RFC 9293, section 3.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    const NAMES: [&'static str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

    fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 & 1 << bit != 0).map(|(_, name)| name)
    }
}

impl From<TcpFlags> for Vec<String> {
    fn from(flags: TcpFlags) -> Self {
        flags.names().map(str::to_owned).collect()
    }
}

/// A word that is no flag of TCP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no flag of TCP")]
pub struct UnknownFlag(String);

impl TryFrom<Vec<String>> for TcpFlags {
    type Error = UnknownFlag;

    fn try_from(names: Vec<String>) -> Result<Self, UnknownFlag> {
        names.into_iter().try_fold(Self(0), |flags, name| match Self::NAMES.iter().position(|known| *known == name) {
            Some(bit) => Ok(Self(flags.0 | 1 << bit)),
            None => Err(UnknownFlag(name)),
        })
    }
}

/// What decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct By {
    /// The tier; `None` for what stands before or after all tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// The policy, as `NetworkPolicy shop/web`; `None` for what is no policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Arc<str>>,
    /// Where the rule stands in its policy, as `spec.ingress[0]`; else what the place is: `end of tier`, `no tier decides`.
    pub rule: Arc<str>,
}

/// What the client asked for, before its destination was translated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Translated {
    /// The service, as `shop/web`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What passed one way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets, as the node hands them on.
    pub packets: u64,
    /// Their bytes, with the network's header.
    pub bytes: u64,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ending {
    /// Both ends said that they have no more to send (TCP's FIN).
    Closed,
    /// One end broke it (TCP's RST).
    Reset,
    /// Nothing passed for longer than the engine waits.
    TimedOut,
    /// Another one began with the same ends while only one of them had closed it.
    Replaced,
    /// The endpoint is gone.
    EndpointGone,
    /// Another one, of a newer release.
    #[serde(other)]
    Other,
}

impl Ending {
    /// All that this release knows.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Reset, Self::TimedOut, Self::Replaced, Self::EndpointGone];

    /// As in the JSON form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::TimedOut => "timed-out",
            Self::Replaced => "replaced",
            Self::EndpointGone => "endpoint-gone",
            Self::Other => "other",
        }
    }
}

/// A connection that is over, and all that passed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Why.
    pub why: Ending,
    /// From its first packet to its last, in seconds.
    pub seconds: u32,
    /// From who began it.
    pub sent: Traffic,
    /// To who began it.
    pub received: Traffic,
}

/// One decision at one endpoint. A connection between two pods of one node is decided at both, so it is two records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// When, in microseconds since the Unix epoch.
    pub time_unix_us: u64,
    /// The node that decided.
    pub node: Arc<str>,
    /// At which end: egress at the source, ingress at the destination. `None`: before an end was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// What was decided.
    pub verdict: Verdict,
    /// Why it was dropped, or would be; `None` for what passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Who sent it.
    pub source: End,
    /// To whom.
    pub destination: End,
    /// The protocol above IP; `None`: the packet could not be read so far.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "protocol")]
    pub protocol: Option<Protocol>,
    /// The message, of ICMP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// The flags, of TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<TcpFlags>,
    /// What decided.
    pub by: By,
    /// The service that the client asked for; `None`: none, or the engine does not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub translated: Option<Translated>,
    /// The connection that it is of is over; the packet's fields say how it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// It is one packet of an open connection that was chosen by chance, one of so many. It decides nothing, and is also in what is
    /// told when the connection is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<u32>,
    /// Packets that the record stands for, and no other record does but for what is sampled.
    pub packets: u64,
    /// Their bytes, with the network's header.
    pub bytes: u64,
}

impl Flow {
    /// Whether something was decided: not that a connection is over, nor what one of its packets was like.
    #[must_use]
    pub const fn is_decision(&self) -> bool {
        self.ended.is_none() && self.sampled.is_none()
    }
}

/// A protocol by its name, else its number as text.
mod protocol {
    use super::Protocol;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(protocol: &Option<Protocol>, out: S) -> Result<S::Ok, S::Error> {
        match protocol {
            Some(protocol) => out.collect_str(protocol),
            None => out.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Protocol>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        // Rules cannot be about protocol 0; a packet can have it.
        let number = text.parse().map(Protocol);
        number.or_else(|_| text.parse()).map(Some).map_err(D::Error::custom)
    }
}
