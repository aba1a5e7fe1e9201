//! Why a packet passes or not: the index of its counter, and what the program leaves in the packet's control block. Never a
//! text.

/// What became of a packet. Numbers are part of the layout: new ones go to the end.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// A rule, or that no tier had a say, allows it.
    Allowed = 0,
    /// A rule or a tier's end denies it.
    Denied = 1,
    /// It answers a connection that was allowed and still is.
    Established = 2,
    /// An endpoint always reaches itself.
    SameEndpoint = 3,
    /// Neighbour discovery on the link itself.
    NeighbourDiscovery = 4,
    /// ARP.
    Arp = 5,
    /// Neither IP nor ARP.
    NotIp = 6,
    /// It carries a VLAN tag.
    Vlan = 7,
    /// A header is not all there, or contradicts itself.
    Malformed = 8,
    /// More IPv6 extension headers than are looked at.
    TooManyHeaders = 9,
    /// A later fragment of a packet whose first fragment was not seen.
    UnknownFragment = 10,
    /// Nothing is enforced at this interface for this address: it sends from another's address, or is not ready.
    UnknownEndpoint = 11,
    /// A table has no answer that it must have: it is not written yet.
    Incomplete = 12,
    /// An ICMP error about a connection that was allowed and still is.
    Related = 13,
}

impl Reason {
    /// How many there are.
    pub const COUNT: u32 = 14;

    /// The reason of a number.
    #[must_use]
    pub const fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Allowed,
            1 => Self::Denied,
            2 => Self::Established,
            3 => Self::SameEndpoint,
            4 => Self::NeighbourDiscovery,
            5 => Self::Arp,
            6 => Self::NotIp,
            7 => Self::Vlan,
            8 => Self::Malformed,
            9 => Self::TooManyHeaders,
            10 => Self::UnknownFragment,
            11 => Self::UnknownEndpoint,
            12 => Self::Incomplete,
            13 => Self::Related,
            _ => return None,
        })
    }

    /// Whether the packet passes.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::Allowed
                | Self::Established
                | Self::SameEndpoint
                | Self::NeighbourDiscovery
                | Self::Arp
                | Self::Related
        )
    }
}
