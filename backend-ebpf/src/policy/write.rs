//! Writes to the maps, in the order in which they have to be done. Never done here.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// What is enforced at an address.
    Endpoint(EndpointKey, Option<Endpoint>),
    /// The identity of a prefix.
    Identity(IpNet, Option<u32>),
    /// The class of an identity for a program.
    Peer(PeerKey, Option<PeerClass>),
    /// The class of traffic or of source ports.
    Class(Trie, Option<u16>),
    /// A verdict.
    Verdict(VerdictKey, Option<Verdict>),
    /// What was written before this counts for open connections too: the next epoch ([`backend_ebpf_abi::Judged`]) begins.
    Advance,
}
