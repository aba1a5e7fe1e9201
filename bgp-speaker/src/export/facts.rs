//! What makes two peers equal on the way out, and what bytes they get. Never how the bytes are made.

use crate::config::PrivateAsns;
use crate::policy::Policy;
use crate::rib::PeerKind;
use crate::types::{Attributes, Family, NextHop, Nlri, PeerId, Refresh, Role, SelfNextHop};
use bytes::{Bytes, BytesMut};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that what a peer is told depends on: peers with equal facts are told the same, in the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupFacts {
    /// What the peers are to us.
    pub kind: PeerKind,
    /// Our own end of the session, as next hop.
    pub next_hop: SelfNextHop,
    /// The networks of the link to an external peer: a next hop in one of them is left as it is (RFC 4271, section 5.1.3).
    pub link: BTreeSet<IpNet>,
    /// Addresses of peers on that link. A next hop that is one of them is left as it is only if the route came from there: no
    /// peer may be told of its own address (RFC 4271, section 5.1.3).
    pub neighbours: Arc<BTreeSet<IpAddr>>,
    /// Routes from external peers go to internal ones with our own next hop.
    pub next_hop_self: bool,
    /// Private numbers on paths to external peers.
    pub private_asns: PrivateAsns,
    /// What we are to them. RFC 9234.
    pub role: Option<Role>,
    /// Families in which they get a default route in any case.
    pub default_originate: BTreeSet<Family>,
    /// All routes carry GRACEFUL_SHUTDOWN. RFC 8326.
    pub drain: bool,
    /// They know what LLGR_STALE means, having offered long-lived graceful restart. RFC 9494, section 4.3.
    pub long_lived: bool,
    /// What may pass.
    pub policy: Option<Arc<Policy>>,
    /// Paths of a prefix by family, where NLRI to them have path ids: 1 to 64.
    pub add_path: BTreeMap<Family, u8>,
    /// AS numbers are four bytes.
    pub four_octet_asn: bool,
    /// Families whose routes may have an IPv6 next hop besides their own kind. RFC 8950.
    pub extended_next_hop: BTreeSet<Family>,
    /// Bytes that a message may have: 4096 or 65535.
    pub max_message_bytes: u16,
}

impl GroupFacts {
    /// Facts of peers that know four-byte AS numbers and nothing else that need be agreed on, with no policy.
    #[must_use]
    pub fn new(kind: PeerKind, next_hop: SelfNextHop) -> Self {
        Self {
            kind,
            next_hop,
            link: BTreeSet::new(),
            neighbours: Arc::default(),
            next_hop_self: false,
            private_asns: PrivateAsns::Keep,
            role: None,
            default_originate: BTreeSet::new(),
            drain: false,
            long_lived: false,
            policy: None,
            add_path: BTreeMap::new(),
            four_octet_asn: true,
            extended_next_hop: BTreeSet::new(),
            max_message_bytes: 4096,
        }
    }

    /// Whether an UPDATE can carry a next hop with routes of a family. RFC 4760, section 3; RFC 8950, section 4.
    #[must_use]
    pub fn carries(&self, family: Family, next_hop: NextHop) -> bool {
        match (family, next_hop) {
            (Family::Ipv4, NextHop::V4(_)) | (Family::Ipv6, NextHop::V6 { .. }) => true,
            (Family::Ipv4, NextHop::V6 { .. }) => self.extended_next_hop.contains(&family),
            (Family::Ipv6, NextHop::V4(_)) => false,
        }
    }

    /// Whether a session can go from these facts to others: what its two ends agreed on must be the same.
    #[must_use]
    pub fn can_become(&self, other: &Self) -> bool {
        self.kind.is_external() == other.kind.is_external()
            && self.add_path.keys().eq(other.add_path.keys())
            && self.four_octet_asn == other.four_octet_asn
            && self.extended_next_hop == other.extended_next_hop
            && self.max_message_bytes == other.max_message_bytes
    }
}

/// Whole messages for a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// For whom.
    pub peer: PeerId,
    /// One message or more, in memory that is shared with other peers.
    pub bytes: Bytes,
}

/// Makes messages. Each call appends whole messages, as many as need be, to `out`.
pub trait Encode {
    /// UPDATEs with routes that share their attributes.
    fn announce(&self, to: &GroupFacts, family: Family, attributes: &Attributes, nlri: &[Nlri], out: &mut BytesMut);
    /// UPDATEs with routes that are gone.
    fn withdraw(&self, to: &GroupFacts, family: Family, nlri: &[Nlri], out: &mut BytesMut);
    /// The UPDATE that ends a table. RFC 4724, section 2.
    fn end_of_rib(&self, to: &GroupFacts, family: Family, out: &mut BytesMut);
    /// A ROUTE-REFRESH. RFC 7313.
    fn refresh(&self, to: &GroupFacts, refresh: Refresh, out: &mut BytesMut);
}
