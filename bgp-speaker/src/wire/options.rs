//! What both sides of a connection have agreed on about its bytes. Never how they came to agree.

use super::codes::MOST_BYTES;
use crate::types::{Family, Negotiated};

/// How the messages of a connection are written. By family: indexed by [`Family::index`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// AS numbers are four bytes. RFC 6793.
    pub four_octet_asn: bool,
    /// The peer is of our own system: LOCAL_PREF and the attributes of reflectors count.
    pub internal: bool,
    /// The longest message: 4096 or 65535. RFC 8654.
    pub max_message_bytes: u16,
    /// Families of the session. Routes of others are passed over.
    pub families: [bool; 2],
    /// The peer's NLRI have path ids. RFC 7911.
    pub add_path_in: [bool; 2],
    /// NLRI to the peer have path ids.
    pub add_path_out: [bool; 2],
    /// Routes may have an IPv6 next hop. RFC 8950.
    pub extended_next_hop: [bool; 2],
}

impl Options {
    /// Before the OPENs are through: nothing is agreed.
    #[must_use]
    pub const fn before_open() -> Self {
        Self {
            four_octet_asn: false,
            internal: false,
            max_message_bytes: MOST_BYTES,
            families: [true, false],
            add_path_in: [false; 2],
            add_path_out: [false; 2],
            extended_next_hop: [false; 2],
        }
    }

    /// Of a session; `internal`: the peer is of our own system.
    #[must_use]
    pub fn new(session: &Negotiated, internal: bool) -> Self {
        let by_family = |set: &std::collections::BTreeSet<Family>| Family::ALL.map(|family| set.contains(&family));
        Self {
            four_octet_asn: session.four_octet_asn,
            internal,
            max_message_bytes: session.max_message_bytes,
            families: by_family(&session.families),
            add_path_in: by_family(&session.add_path_in),
            add_path_out: by_family(&session.add_path_out),
            extended_next_hop: by_family(&session.extended_next_hop),
        }
    }
}
