//! Writes to the maps, in the order in which they have to be done. Never done here.

use super::meaning::{Digest, Meant};
use backend_ebpf_abi::{Endpoint, EndpointKey, PeerClass, PeerKey, Verdict, VerdictKey};
use ipnet::IpNet;

/// A key of one of the tries that say classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Trie {
    /// Protocol and destination port or message, with as many bits as count.
    Traffic(u32, [u8; 7]),
    /// Source port, with as many bits as count.
    Source(u32, [u8; 6]),
}

/// One entry that is there with this value, or is not (`None`); or the end of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// What is enforced at an address.
    Endpoint(EndpointKey, Option<Endpoint>),
    /// What is enforced of the node at one of its addresses, at an interface.
    Host(EndpointKey, Option<Endpoint>),
    /// The identity of a prefix.
    Identity(IpNet, Option<u32>),
    /// The class of an identity for a program.
    Peer(PeerKey, Option<PeerClass>),
    /// The class of traffic or of source ports.
    Class(Trie, Option<u16>),
    /// A verdict.
    Verdict(VerdictKey, Option<Verdict>),
    /// What a number stands for: no program asks for it, a successor does.
    Meaning(Meant, Option<Digest>),
    /// What was written before this counts for open connections too: the next epoch ([`backend_ebpf_abi::Judged`]) begins.
    Advance,
}

impl Write {
    /// The same entry taken away; what is no entry stays as it is.
    #[must_use]
    pub const fn removal(self) -> Self {
        match self {
            Self::Endpoint(key, _) => Self::Endpoint(key, None),
            Self::Host(key, _) => Self::Host(key, None),
            Self::Identity(key, _) => Self::Identity(key, None),
            Self::Peer(key, _) => Self::Peer(key, None),
            Self::Class(key, _) => Self::Class(key, None),
            Self::Verdict(key, _) => Self::Verdict(key, None),
            Self::Meaning(key, _) => Self::Meaning(key, None),
            Self::Advance => Self::Advance,
        }
    }

    /// Where it stands among the writes of one change: first goes what nothing leads to any more, which makes room; then comes what is
    /// looked up before what leads there, last the end. Of prefixes one within another comes before what is around it, and goes after it:
    /// so an address has what it had, or what it shall have. What one map takes at once is side by side.
    #[must_use]
    pub(crate) const fn place(&self) -> (u8, u8) {
        match self {
            Self::Peer(_, None) => (0, 0),
            Self::Verdict(_, None) => (1, 0),
            Self::Class(Trie::Traffic(..), None) => (2, 0),
            Self::Class(Trie::Source(..), None) => (3, 0),
            Self::Meaning(_, None) => (4, 0),
            Self::Meaning(_, Some(_)) => (5, 0),
            Self::Class(Trie::Traffic(..), Some(_)) => (6, 0),
            Self::Class(Trie::Source(..), Some(_)) => (7, 0),
            Self::Verdict(_, Some(_)) => (8, 0),
            Self::Peer(_, Some(_)) => (9, 0),
            Self::Identity(IpNet::V4(net), Some(_)) => (10, u8::MAX - net.prefix_len()),
            Self::Identity(IpNet::V6(net), Some(_)) => (11, u8::MAX - net.prefix_len()),
            Self::Identity(IpNet::V4(net), None) => (12, net.prefix_len()),
            Self::Identity(IpNet::V6(net), None) => (13, net.prefix_len()),
            // An address can move from one endpoint to another.
            Self::Endpoint(_, None) => (14, 0),
            Self::Endpoint(_, Some(_)) => (15, 0),
            Self::Host(_, None) => (16, 0),
            Self::Host(_, Some(_)) => (17, 0),
            Self::Advance => (18, 0),
        }
    }

    /// Where it stands in the order of entries: what is looked up is there before what leads there.
    #[must_use]
    pub const fn level(&self) -> u8 {
        match self {
            Self::Meaning(..) => 0,
            Self::Class(..) => 1,
            Self::Verdict(..) => 2,
            Self::Peer(..) => 3,
            Self::Identity(..) => 4,
            Self::Endpoint(..) | Self::Host(..) => 5,
            Self::Advance => 6,
        }
    }
}
