//! Source NAT of what leaves the cluster: connections as they are inside and as they are outside. Never a packet's bytes.
//!
//! ```text
//! pod:port > other:port      LEAVING  Tuple of the pod   -> Leaving: the node's port
//! other:port > node:port     COMING   Tuple of the node  -> Coming: the pod's address and port, and how alive it is
//! ```

use crate::Connection;

/// The version of the layouts and meanings here. Connections of another one are not read.
pub const MASQUERADE_VERSION: u32 = 2;

/// What the programs have to know of the node.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Masquerading {
    /// [`MASQUERADE_VERSION`], in every layout first.
    pub version: u32,
    /// Until then, in seconds since the machine was started, a successor of other programs makes no entry of its own: what it does
    /// not know yet may be a connection of theirs, whose entry is on its way. 0: it succeeds nobody.
    pub handed_over_seconds: u32,
    /// The node's IPv4 address outside, see [`crate::mapped`]; zeros: it has none.
    pub v4: [u8; 16],
    /// Its IPv6 address; zeros: it has none.
    pub v6: [u8; 16],
    /// A secret that spreads connections over the ports.
    pub salt: u64,
    /// The first of the ports that are for nobody else on this node.
    pub first_port: u16,
    /// How many there are, from 1 on; 0: nobody has written this yet.
    pub ports: u16,
    /// 0.
    pub unused: u32,
}

impl Masquerading {
    /// Whether entries of predecessors may still come. A time and no flag, so that it ends also when nobody ends it.
    #[must_use]
    #[inline(always)]
    pub const fn is_handed_over(&self, now_seconds: u32) -> bool {
        now_seconds < self.handed_over_seconds
    }

    /// Whether a port, or an echo's identifier, is one of ours.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, port: u16) -> bool {
        port.wrapping_sub(self.first_port) < self.ports
    }
}

/// A connection, seen from one end: the pod's (inside) or the node's (outside).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// The address of this end, see [`crate::mapped`].
    pub own: [u8; 16],
    /// The other one.
    pub other: [u8; 16],
    /// The port of this end; of an echo: its identifier.
    pub own_port: u16,
    /// The other port; of an echo: 0.
    pub other_port: u16,
    /// The protocol.
    pub protocol: u32,
}

/// When a connection's last packet passed and what is known of it, in one word, so that of several who find it ended one can
/// take its place: seconds since the machine was started in the lower half, [`Connection::state`] in the upper.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Life(pub u64);

impl Life {
    /// One that was seen at a time.
    #[must_use]
    #[inline(always)]
    pub const fn new(seen_seconds: u32, state: u32) -> Self {
        Self((state as u64) << 32 | seen_seconds as u64)
    }

    /// When its last packet passed.
    #[must_use]
    #[inline(always)]
    pub const fn seen_seconds(self) -> u32 {
        self.0 as u32
    }

    /// What is known of it.
    #[must_use]
    #[inline(always)]
    pub const fn state(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Whether it is still a connection, by the timeouts of [`Connection`].
    #[must_use]
    #[inline(always)]
    pub const fn is_alive(self, protocol: u8, now_seconds: u32) -> bool {
        Connection::seen(self.seen_seconds(), self.state()).is_alive(protocol, now_seconds)
    }
}

/// How a pod's connection leaves.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leaving {
    /// Of those that leave as they are.
    pub life: Life,
    /// The node's port.
    pub port: u16,
    /// [`Leaving::AS_IT_IS`], or 0.
    pub flags: u16,
    /// 0.
    pub unused: u32,
}

impl Leaving {
    /// The other end began it, and knows the pod's own address.
    pub const AS_IT_IS: u16 = 1;
}

/// Whose a connection is that comes back. The node's own connections are theirs themselves: address and port are those of the
/// key.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coming {
    /// The pod's address.
    pub own: [u8; 16],
    /// Whether it is still one.
    pub life: Life,
    /// The pod's port.
    pub own_port: u16,
    /// 0.
    pub unused: [u16; 3],
}

/// What became of a packet: the index of its counter. Numbers are part of the layout: new ones go to the end.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masqueraded {
    /// Nothing: it is not about a pod's connection to the outside. Not counted.
    NotOurs = 0,
    /// It left with the node's address.
    Out = 1,
    /// It came back to its pod.
    Back = 2,
    /// Dropped: the ports that were tried are taken.
    NoPort = 3,
    /// Dropped: a protocol, or a message, that cannot be told apart by a port.
    Protocol = 4,
    /// Dropped: a later fragment whose first one did not pass here.
    UnknownFragment = 5,
    /// Dropped: its headers are not all there.
    Malformed = 6,
    /// Dropped: the node has no address of its family.
    NoAddress = 7,
    /// Dropped: an ICMP error of a pod about none of its connections.
    ForgedError = 8,
    /// Dropped: the node's own, from a port of ours that a pod has for this other end.
    PortOfPod = 9,
    /// Dropped: the kernel refused to write it.
    Refused = 10,
    /// Dropped: it may belong to a connection of the programs before these, see [`Masquerading::handed_over_seconds`].
    HandedOver = 11,
}

impl Masqueraded {
    /// How many there are.
    pub const COUNT: u32 = 12;
    /// Those that are dropped.
    pub const DROPPED: [Self; 9] = [
        Self::NoPort,
        Self::Protocol,
        Self::UnknownFragment,
        Self::Malformed,
        Self::NoAddress,
        Self::ForgedError,
        Self::PortOfPod,
        Self::Refused,
        Self::HandedOver,
    ];

    /// Whether the packet is dropped.
    #[must_use]
    #[inline(always)]
    pub const fn is_dropped(self) -> bool {
        self as u32 >= Self::NoPort as u32
    }
}
