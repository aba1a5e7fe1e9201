//! What two speakers offer each other and what they agree on. Never the capability codes of the wire.

use super::{Asn, Family, RouterId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Who sends several paths of one prefix, from the view of who offers it. RFC 7911, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddPathMode {
    /// It takes them (1).
    Receive,
    /// It sends them (2).
    Send,
    /// Both (3).
    Both,
}

/// What a speaker is to its neighbour. RFC 9234, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// 0
    Provider,
    /// 1
    RouteServer,
    /// 2
    RouteServerClient,
    /// 3
    Customer,
    /// 4
    Peer,
}

impl Role {
    /// What the other side has to be.
    #[must_use]
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::Customer => Self::Provider,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Peer => Self::Peer,
        }
    }
}

/// A family of a graceful restart capability. RFC 4724, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RestartFamily {
    /// Which one.
    pub family: Family,
    /// Its routes were kept while the sender restarted (F bit).
    pub forwarding_kept: bool,
}

/// Graceful restart as offered. RFC 4724, section 3; RFC 8538, section 2.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GracefulRestart {
    /// The sender has restarted and waits for routes (R bit).
    pub restarting: bool,
    /// A NOTIFICATION or an expired hold timer is a reason to keep routes too (N bit).
    pub notification: bool,
    /// How long it may take to come back, 0 to 4095 seconds.
    pub restart_time_seconds: u16,
    /// What it keeps. Empty: it only helps others.
    pub families: Vec<RestartFamily>,
}

/// A family of long-lived graceful restart. RFC 9494, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LongLivedFamily {
    /// Which one.
    pub family: Family,
    /// Its routes were kept (F bit).
    pub forwarding_kept: bool,
    /// How long they may be stale, 0 to 16 777 215 seconds (24 bits).
    pub stale_time_seconds: u32,
}

/// What one side offers in its OPEN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Multiprotocol (1). Empty in a peer's OPEN without any: then IPv4 unicast is meant.
    pub families: BTreeSet<Family>,
    /// Four-octet AS number (65).
    pub asn: Option<Asn>,
    /// Route refresh (2).
    pub route_refresh: bool,
    /// Enhanced route refresh (70). RFC 7313.
    pub enhanced_route_refresh: bool,
    /// Messages of up to 65535 bytes (6). RFC 8654.
    pub extended_message: bool,
    /// Families whose next hop may be an IPv6 address (5). RFC 8950; IPv4 is the one that matters.
    pub extended_next_hop: BTreeSet<Family>,
    /// Several paths of one prefix (69).
    pub add_path: BTreeMap<Family, AddPathMode>,
    /// Graceful restart (64).
    pub graceful_restart: Option<GracefulRestart>,
    /// Long-lived graceful restart (71).
    pub long_lived: Vec<LongLivedFamily>,
    /// Role (9).
    pub role: Option<Role>,
    /// Codes that we do not know, for the status page.
    pub unknown: Vec<u8>,
}

/// What holds on an established session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's system.
    pub peer_asn: Asn,
    /// The peer's BGP identifier.
    pub peer_id: RouterId,
    /// The smaller of both hold times; zero: no keepalives and no limit.
    pub hold_time: Duration,
    /// Families both offer.
    pub families: BTreeSet<Family>,
    /// AS numbers are four bytes in the messages of this session.
    pub four_octet_asn: bool,
    /// Bytes that a message may have: 4096 or 65535.
    pub max_message_bytes: u16,
    /// The peer takes route refresh requests.
    pub route_refresh: bool,
    /// Both mark the begin and the end of a refresh.
    pub enhanced_route_refresh: bool,
    /// Families whose routes the peer may give, and take, with an IPv6 next hop besides their own kind.
    pub extended_next_hop: BTreeSet<Family>,
    /// Families in which NLRI from the peer have path ids.
    pub add_path_in: BTreeSet<Family>,
    /// Families in which NLRI to the peer have path ids.
    pub add_path_out: BTreeSet<Family>,
    /// The peer's graceful restart, cut down to families of this session.
    pub graceful_restart: Option<GracefulRestart>,
    /// The peer's long-lived graceful restart, cut down likewise; only beside `graceful_restart`.
    pub long_lived: Vec<LongLivedFamily>,
    /// Our role, when both sides said theirs.
    pub role: Option<Role>,
}
