//! Numbers of the wire. Never what is done with them.

use crate::types::Family;

/// Bytes of a header. RFC 4271, section 4.1.
pub(super) const HEADER_BYTES: usize = 19;
/// Bytes of the marker that a header begins with: all ones.
pub(super) const MARKER_BYTES: usize = 16;
/// The longest message without RFC 8654, and of an OPEN or a KEEPALIVE always.
pub(super) const MOST_BYTES: u16 = 4096;

/// Types of messages. RFC 4271, section 4.1; RFC 2918.
pub(super) mod message {
    pub(in crate::wire) const OPEN: u8 = 1;
    pub(in crate::wire) const UPDATE: u8 = 2;
    pub(in crate::wire) const NOTIFICATION: u8 = 3;
    pub(in crate::wire) const KEEPALIVE: u8 = 4;
    pub(in crate::wire) const ROUTE_REFRESH: u8 = 5;
}

/// Type codes of path attributes (IANA, BGP Path Attributes).
pub(super) mod attribute {
    pub(in crate::wire) const ORIGIN: u8 = 1;
    pub(in crate::wire) const AS_PATH: u8 = 2;
    pub(in crate::wire) const NEXT_HOP: u8 = 3;
    pub(in crate::wire) const MED: u8 = 4;
    pub(in crate::wire) const LOCAL_PREF: u8 = 5;
    pub(in crate::wire) const ATOMIC_AGGREGATE: u8 = 6;
    pub(in crate::wire) const AGGREGATOR: u8 = 7;
    pub(in crate::wire) const COMMUNITIES: u8 = 8;
    pub(in crate::wire) const ORIGINATOR_ID: u8 = 9;
    pub(in crate::wire) const CLUSTER_LIST: u8 = 10;
    pub(in crate::wire) const MP_REACH: u8 = 14;
    pub(in crate::wire) const MP_UNREACH: u8 = 15;
    pub(in crate::wire) const EXTENDED_COMMUNITIES: u8 = 16;
    pub(in crate::wire) const AS4_PATH: u8 = 17;
    pub(in crate::wire) const AS4_AGGREGATOR: u8 = 18;
    pub(in crate::wire) const LARGE_COMMUNITY: u8 = 32;
    pub(in crate::wire) const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Flags of path attributes. RFC 4271, section 4.3.
pub(super) mod flag {
    pub(in crate::wire) const OPTIONAL: u8 = 0x80;
    pub(in crate::wire) const TRANSITIVE: u8 = 0x40;
    pub(in crate::wire) const PARTIAL: u8 = 0x20;
    pub(in crate::wire) const EXTENDED_LENGTH: u8 = 0x10;
    /// Optional and transitive: what has to be right for an attribute that we know.
    pub(in crate::wire) const KIND: u8 = OPTIONAL | TRANSITIVE;
}

/// Codes of capabilities (IANA, Capability Codes).
pub(super) mod capability {
    pub(in crate::wire) const MULTIPROTOCOL: u8 = 1;
    pub(in crate::wire) const ROUTE_REFRESH: u8 = 2;
    pub(in crate::wire) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(in crate::wire) const EXTENDED_MESSAGE: u8 = 6;
    pub(in crate::wire) const ROLE: u8 = 9;
    pub(in crate::wire) const GRACEFUL_RESTART: u8 = 64;
    pub(in crate::wire) const FOUR_OCTET_ASN: u8 = 65;
    pub(in crate::wire) const ADD_PATH: u8 = 69;
    pub(in crate::wire) const ENHANCED_REFRESH: u8 = 70;
    pub(in crate::wire) const LONG_LIVED: u8 = 71;
}

/// SAFI of unicast routes. RFC 4760, section 6.
pub(super) const UNICAST: u8 = 1;

/// AFI of a family (IANA, Address Family Numbers).
pub(super) const fn afi(family: Family) -> u16 {
    match family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    }
}

/// The family of an AFI and a SAFI, where we know it.
pub(super) const fn family(afi: u16, safi: u8) -> Option<Family> {
    match (afi, safi) {
        (1, UNICAST) => Some(Family::Ipv4),
        (2, UNICAST) => Some(Family::Ipv6),
        _ => None,
    }
}
