//! What a route carries besides its prefix. Never the prefix: many routes share one set of attributes.

use super::{AsPath, Asn, Community, ExtendedCommunity, LargeCommunity, RouterId};
use bytes::Bytes;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a route came into BGP, the best first. RFC 4271, section 5.1.1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// From inside its system (0).
    #[default]
    Igp,
    /// From the old EGP (1).
    Egp,
    /// Otherwise (2).
    Incomplete,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Igp => "igp",
            Self::Egp => "egp",
            Self::Incomplete => "incomplete",
        })
    }
}

/// Where packets of a route go next. RFC 4271, section 5.1.3; RFC 2545, section 3; RFC 8950.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// An IPv4 address, of an IPv4 route.
    V4(Ipv4Addr),
    /// An IPv6 address, of an IPv6 route or of an IPv4 route (RFC 8950).
    V6 {
        /// The global address; a link-local one where a peer has nothing else.
        global: Ipv6Addr,
        /// The link-local address beside it, on the link that the session runs over.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// The address that the route is resolved through: the link-local one only where there is no global one.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(*address),
            Self::V6 { global, .. } => IpAddr::V6(*global),
        }
    }
}

impl From<IpAddr> for NextHop {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 { global, link_local: None },
        }
    }
}

/// Who aggregated a route. RFC 4271, section 5.1.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Aggregator {
    /// Its system.
    pub asn: Asn,
    /// Its BGP identifier. Some senders put 0.0.0.0.
    pub id: Ipv4Addr,
}

/// An attribute that we do not know. It is kept only when it is optional and transitive, and then sent on with the partial
/// bit set. RFC 4271, section 9.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawAttribute {
    /// The four high bits of the flags, without the extended length bit, which belongs to the wire.
    pub flags: u8,
    /// Its type code.
    pub code: u8,
    /// Its value.
    pub value: Bytes,
}

/// The attributes of a route, next hop included. Immutable once shared: a policy makes new ones.
///
/// Communities are sorted and without repetition, `unknown` is sorted by code: equal meaning is equal value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// ORIGIN (1).
    pub origin: Origin,
    /// AS_PATH (2), merged with AS4_PATH (17).
    pub as_path: AsPath,
    /// NEXT_HOP (3), or that of MP_REACH_NLRI (14).
    pub next_hop: NextHop,
    /// MULTI_EXIT_DISC (4).
    pub med: Option<u32>,
    /// LOCAL_PREF (5): only inside a system.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE (6).
    pub atomic_aggregate: bool,
    /// AGGREGATOR (7), merged with AS4_AGGREGATOR (18).
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES (8).
    pub communities: Vec<Community>,
    /// ORIGINATOR_ID (9): only inside a system.
    pub originator: Option<RouterId>,
    /// CLUSTER_LIST (10): only inside a system, the last reflector first.
    pub cluster_list: Vec<RouterId>,
    /// EXTENDED COMMUNITIES (16).
    pub extended: Vec<ExtendedCommunity>,
    /// LARGE_COMMUNITY (32).
    pub large: Vec<LargeCommunity>,
    /// Only to Customer (35). RFC 9234.
    pub only_to_customer: Option<Asn>,
    /// Attributes that we do not know and pass on.
    pub unknown: Vec<RawAttribute>,
}

impl Attributes {
    /// Of a route of our own, with the least that a route needs.
    #[must_use]
    pub fn own(next_hop: NextHop) -> Self {
        Self {
            origin: Origin::Igp,
            as_path: AsPath::default(),
            next_hop,
            med: None,
            local_pref: None,
            atomic_aggregate: false,
            aggregator: None,
            communities: Vec::new(),
            originator: None,
            cluster_list: Vec::new(),
            extended: Vec::new(),
            large: Vec::new(),
            only_to_customer: None,
            unknown: Vec::new(),
        }
    }

    /// Whether it carries a community.
    #[must_use]
    pub fn has(&self, community: Community) -> bool {
        self.communities.binary_search(&community).is_ok()
    }
}
