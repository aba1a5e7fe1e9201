//! What a speaker is told to be: itself, its peers, the ranges that peers may come from. Never how it was written down: an
//! embedder builds it, and [`Config::check`] refuses what cannot be.

mod check;
mod error;
mod peer;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Refusal};
pub use peer::{
    AddPath, Bfd, Hold, LongLived, MaxPrefixes, PeerAddress, PeerConfig, PrivateAsns, RemoteAsn, Restart, Secret,
    TtlSecurity,
};

use crate::types::{Asn, RouterId};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// The port of BGP. RFC 4271, section 4.
pub const BGP_PORT: u16 = 179;

/// What a peer, or a range of peers, is called by people.
pub type PeerName = Arc<str>;

/// Peers that may come without being named one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRange {
    /// Where they come from, without host bits.
    pub range: IpNet,
    /// What they are; [`PeerConfig::address`] and `passive` say nothing here.
    pub template: PeerConfig,
    /// At most so many at a time.
    pub limit: u32,
}

/// How the best path is chosen where operators differ. RFC 4271, section 9.1.2.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Paths that a route may use at once: 1 to 64 (ECMP).
    pub max_paths: u8,
    /// External paths of equal length share the load though their systems differ.
    pub as_path_relax: bool,
    /// MEDs of different neighbouring systems are compared.
    pub always_compare_med: bool,
    /// A missing MED is the greatest, not 0.
    pub missing_med_is_worst: bool,
    /// Routes with the community GRACEFUL_SHUTDOWN are used last. RFC 8326.
    pub graceful_shutdown: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            max_paths: 16,
            as_path_relax: false,
            always_compare_med: false,
            missing_med_is_worst: false,
            graceful_shutdown: true,
        }
    }
}

/// A prefix that is announced when at least one route inside it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The routes inside are not announced.
    pub summary_only: bool,
}

/// A whole speaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our system.
    pub asn: Asn,
    /// Our BGP identifier. Changing it resets all sessions.
    pub router_id: RouterId,
    /// Our cluster as a route reflector. RFC 4456; the BGP identifier by default.
    pub cluster_id: Option<RouterId>,
    /// Our next hop for IPv4 routes on sessions over IPv6; `None`: the session's own address, where the peer takes it
    /// (RFC 8950).
    pub next_hop_v4: Option<Ipv4Addr>,
    /// Our next hop for IPv6 routes on sessions over IPv4; `None`: the lowest global IPv6 address of the device that the
    /// session's own address is on, and where there is none such sessions carry no routes of our own.
    pub next_hop_v6: Option<Ipv6Addr>,
    /// Where peers may connect to. Empty: only we connect.
    pub listen: Vec<SocketAddr>,
    /// The choice of the best path.
    pub selection: Selection,
    /// Prefixes announced for what is inside them.
    pub aggregates: BTreeMap<IpNet, Aggregate>,
    /// Our own graceful restart: how we ask others to keep our routes.
    pub restart: Restart,
    /// After a restart, how long peers that have not connected yet are waited for before the first routes go out. Peers
    /// that are connected and owe their End-of-RIB are waited for as long, since their session was up or their last UPDATE
    /// came. Nobody for longer than `restart.time`.
    pub restart_patience: Duration,
    /// Peers by name.
    pub peers: BTreeMap<PeerName, PeerConfig>,
    /// Ranges by name.
    pub ranges: BTreeMap<PeerName, ListenRange>,
}

impl Config {
    /// A speaker without peers that nobody can connect to.
    #[must_use]
    pub fn new(asn: Asn, router_id: RouterId) -> Self {
        Self {
            asn,
            router_id,
            cluster_id: None,
            next_hop_v4: None,
            next_hop_v6: None,
            listen: Vec::new(),
            selection: Selection::default(),
            aggregates: BTreeMap::new(),
            restart: Restart::default(),
            restart_patience: Duration::from_secs(20),
            peers: BTreeMap::new(),
            ranges: BTreeMap::new(),
        }
    }

    /// Our cluster.
    #[must_use]
    pub fn cluster(&self) -> RouterId {
        self.cluster_id.unwrap_or(self.router_id)
    }
}
