//! What a speaker knows, for people and programs. Never changes anything.

use super::DownReason;
use super::core::Speaker;
use super::peer::{Counters, Peer};
use crate::config::{PeerAddress, PeerName};
use crate::rib::Explanation;
use crate::session::State;
use crate::types::{Attributes, Family, Negotiated, PathId, PeerId};
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// A peer as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub id: PeerId,
    /// What people call it.
    pub name: PeerName,
    /// Where it is configured to be.
    pub configured: PeerAddress,
    /// Where it is.
    pub address: Option<IpAddr>,
    /// Our address of the session.
    pub local: Option<IpAddr>,
    /// The range it came from by itself.
    pub range: Option<PeerName>,
    /// The state of its session.
    pub state: State,
    /// Since when it is established, or is not.
    pub since: Instant,
    /// What holds, while it is established.
    pub session: Option<Negotiated>,
    /// Why the last session or attempt ended; `None` while one is established.
    pub last: Option<DownReason>,
    /// Ended by us for announcing too much.
    pub held: bool,
    /// What BFD says; `None`: nothing.
    pub bfd: Option<bool>,
    /// Families whose routes are kept though the peer has not sent them again.
    pub stale: Vec<Family>,
    /// Prefixes that it has announced, by family.
    pub received: [u32; Family::ALL.len()],
    /// Bytes that wait to be sent.
    pub queued_bytes: usize,
    /// What was counted.
    pub counters: Counters,
}

/// A route with what it carries.
pub type RouteStatus = (IpNet, PathId, Arc<Attributes>);

impl Speaker {
    /// All peers, by id.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| self.status(peer)).collect()
    }

    /// A peer, by what people call it.
    #[must_use]
    pub fn peer(&self, name: &str) -> Option<PeerStatus> {
        self.peers.named(name).and_then(|id| self.peers.get(id)).map(|peer| self.status(peer))
    }

    fn status(&self, peer: &Peer) -> PeerStatus {
        PeerStatus {
            id: peer.id,
            name: peer.name.clone(),
            configured: peer.config.address.clone(),
            address: peer.address,
            local: peer.established().map(|ends| ends.local.ip()),
            range: peer.range.clone(),
            state: peer.session.state(),
            since: peer.since,
            session: peer.session.negotiated().cloned(),
            last: peer.last.clone(),
            held: peer.held,
            bfd: peer.bfd.as_ref().map(|bfd| bfd.up),
            stale: peer.retention.families(),
            received: Family::ALL.map(|family| self.rib.received(peer.id, family)),
            queued_bytes: peer.queued_bytes,
            counters: peer.counters.clone(),
        }
    }

    /// Why a prefix goes the way it goes; `None` when nobody announces it.
    #[must_use]
    pub fn explain(&self, prefix: &IpNet) -> Option<Explanation> {
        self.rib.explain(&prefix.trunc())
    }

    /// The best path of each prefix of a family.
    #[must_use]
    pub fn routes(&self, family: Family) -> Vec<RouteStatus> {
        let slots = 0..self.rib.slots(family);
        let best = slots.filter_map(|slot| Some((self.rib.prefix(family, slot)?, self.rib.best(family, slot)?)));
        best.map(|(prefix, path)| (prefix, path.id, path.attributes.clone())).collect()
    }

    /// What a peer has announced, before any policy.
    #[must_use]
    pub fn received(&self, peer: PeerId, family: Family) -> Vec<RouteStatus> {
        let routes = self.rib.received_from(peer, family);
        routes.map(|(prefix, path, attributes)| (prefix, path, attributes.clone())).collect()
    }

    /// Whether we still wait for others after a restart.
    #[must_use]
    pub const fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    /// The tables.
    #[must_use]
    pub const fn rib(&self) -> &crate::rib::Rib {
        &self.rib
    }
}
