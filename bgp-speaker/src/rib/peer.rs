//! What the tables have to know of a peer. Never its session.

use crate::config::MaxPrefixes;
use crate::policy::Policy;
use crate::types::{Asn, Family, Role, RouterId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What a peer is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerKind {
    /// Of another system.
    External,
    /// Of our system.
    Internal,
    /// Of our system, and we reflect routes to and from it. RFC 4456.
    Client,
}

impl PeerKind {
    /// Of another system.
    #[must_use]
    pub const fn is_external(self) -> bool {
        matches!(self, Self::External)
    }
}

/// A peer as the tables see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFacts {
    /// What policies call it.
    pub name: Arc<str>,
    /// What it is to us.
    pub kind: PeerKind,
    /// Its system.
    pub asn: Asn,
    /// Its BGP identifier.
    pub router_id: RouterId,
    /// Its address.
    pub address: IpAddr,
    /// Our address of the session: no route of the peer may have it as next hop.
    pub local: Option<IpAddr>,
    /// Our networks, for an external peer one hop away: what is a next hop of its routes is in one of them (RFC 4271, section
    /// 6.3). Empty: nothing is known of them, or the peer is another one, and all next hops are taken.
    pub link: BTreeSet<IpNet>,
    /// The device of the session, where it is known.
    pub interface: Option<Arc<str>>,
    /// How often our own system may be on a path.
    pub allow_own_asn: u8,
    /// The first system on a path need not be the peer's.
    pub skip_first_asn_check: bool,
    /// What we are to it. RFC 9234.
    pub role: Option<Role>,
    /// How much it may announce.
    pub max_prefixes: BTreeMap<Family, MaxPrefixes>,
}

impl PeerFacts {
    /// Facts of a peer that may announce what it likes and is allowed no exception.
    #[must_use]
    pub const fn new(name: Arc<str>, kind: PeerKind, asn: Asn, router_id: RouterId, address: IpAddr) -> Self {
        Self {
            name,
            kind,
            asn,
            router_id,
            address,
            local: None,
            link: BTreeSet::new(),
            interface: None,
            allow_own_asn: 0,
            skip_first_asn_check: false,
            role: None,
            max_prefixes: BTreeMap::new(),
        }
    }
}

/// A peer announced more than it may. The session has to end; what it sent until then is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {limit} {family} prefixes")]
pub struct OverLimit {
    /// In which family.
    pub family: Family,
    /// The limit.
    pub limit: u32,
}

/// A peer has come near to what it may announce. Said once until it has gone below again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NearLimit {
    /// In which family.
    pub family: Family,
    /// How many there are.
    pub count: u32,
    /// The limit.
    pub limit: u32,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) facts: Arc<PeerFacts>,
    pub(super) import: Option<Arc<Policy>>,
    /// Paths in the tables, refused ones included.
    pub(super) counts: [u32; Family::ALL.len()],
    warned: [bool; Family::ALL.len()],
}

impl Peer {
    pub(super) fn new(facts: Arc<PeerFacts>, import: Option<Arc<Policy>>) -> Self {
        Self { facts, import, counts: Default::default(), warned: Default::default() }
    }

    /// One path more, if it may.
    pub(super) fn count_up(&mut self, family: Family) -> Result<(), OverLimit> {
        let count = &mut self.counts[family.index()];
        if let Some(max) = self.facts.max_prefixes.get(&family).filter(|max| *count >= max.limit) {
            return Err(OverLimit { family, limit: max.limit });
        }
        *count += 1;
        Ok(())
    }

    /// Whether a warning is due.
    pub(super) fn near_limit(&mut self, family: Family) -> Option<NearLimit> {
        let (count, limit, is_near) = self.nearness(family)?;
        let warned = std::mem::replace(&mut self.warned[family.index()], is_near);
        (is_near && !warned).then_some(NearLimit { family, count, limit })
    }

    /// One path less.
    pub(super) fn count_down(&mut self, family: Family) {
        self.counts[family.index()] -= 1;
        self.warned[family.index()] &= self.nearness(family).is_some_and(|(.., is_near)| is_near);
    }

    fn nearness(&self, family: Family) -> Option<(u32, u32, bool)> {
        let max = self.facts.max_prefixes.get(&family)?;
        let count = self.counts[family.index()];
        Some((count, max.limit, u64::from(count) * 100 >= u64::from(max.limit) * u64::from(max.warn_percent)))
    }
}
