//! Services as programs at sockets find them: where clients find a service leads to one of its backends. Never a number that
//! somebody has to hand out: a frontend's own address is the key of all that belongs to it.
//!
//! ```text
//! connect, sendmsg ─> FrontendKey ─> Frontend ─── limited? ─> AddressKey (client) ─> its address ─> RangeKey ─> allowed
//!                                              ├─> affinity (client) ──> member? ─┐
//!                                              ├─> Maglev table (client) ─> slot ─┼─> SlotKey ─> Target
//!                                              └─> turn ──────────────────> slot ─┘
//! recvmsg, getpeername ─> ReverseKey (socket, Target) ─> Target, the service's
//! ```

/// The version of these layouts. Maps of another one are not read.
pub const SERVICE_VERSION: u32 = 2;

/// Entries of a Maglev table that are filled by turns: a prime, a hundred for each of ten backends.
pub const MAGLEV_ENTRIES: usize = 1021;

/// Bits of a hash that choose an entry.
pub const MAGLEV_BITS: u32 = 10;

/// Slots by hash. The last three are as the first three.
pub type MaglevTable = [u16; 1024];

/// Where clients find a service.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// The address, see [`crate::mapped`].
    pub address: [u8; 16],
    /// The port.
    pub port: u16,
    /// 6 (TCP) or 17 (UDP).
    pub protocol: u16,
}

/// How a frontend's connections are spread.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// Slots that are filled, from 0 on; 0: connections are refused.
    pub count: u32,
    /// A client goes to the same backend for so long after its last connection; 0: each connection for itself.
    pub affinity_seconds: u32,
    /// [`Frontend::IN_TURN`] and so on.
    pub choice: u32,
    /// Whose turn it is. Written by the programs.
    pub turn: u32,
    /// 0: every client is served; [`Frontend::V4`] or [`Frontend::V6`]: only one whose address of this version is in a range of the
    /// frontend's.
    pub limited: u32,
}

impl Frontend {
    /// One backend after the other.
    pub const IN_TURN: u32 = 0;
    /// By Maglev's table and the client.
    pub const BY_CLIENT: u32 = 1;
    /// By Maglev's table and the frontend.
    pub const BY_DESTINATION: u32 = 2;

    /// IPv4.
    pub const V4: u32 = 4;
    /// IPv6.
    pub const V6: u32 = 6;
}

/// Who may use a frontend: the key of a trie, with [`RANGE_BITS`] and as many bits of the client as count.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RangeKey {
    /// Whose.
    pub frontend: FrontendKey,
    /// The client's address, see [`crate::mapped`].
    pub client: [u8; 16],
}

/// Bits of a [`RangeKey`] before the client: all of them always count.
pub const RANGE_BITS: u32 = 160;

/// The address that a client has for others.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey {
    /// The cookie of the client's network namespace.
    pub client: u64,
    /// [`Frontend::V4`] or [`Frontend::V6`].
    pub version: u32,
    /// 0.
    pub unused: u32,
}

/// One of a frontend's backends.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotKey {
    /// Whose.
    pub frontend: FrontendKey,
    /// Less than [`Frontend::count`].
    pub slot: u32,
}

/// An address with a port.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The address, see [`crate::mapped`].
    pub address: [u8; 16],
    /// The port.
    pub port: u16,
    /// 0.
    pub unused: u16,
}

/// A backend that a frontend has, whatever its slot: the key of a set, for affinity.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberKey {
    /// Whose.
    pub frontend: FrontendKey,
    /// Which.
    pub backend: Target,
}

/// A client of a frontend.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AffinityKey {
    /// The cookie of the client's network namespace: all its sockets have one address.
    pub client: u64,
    /// The frontend.
    pub frontend: FrontendKey,
    /// 0.
    pub unused: u32,
}

/// Where a client went last.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Affinity {
    /// Where.
    pub backend: Target,
    /// When: seconds since the machine was started.
    pub seen_seconds: u32,
}

/// What a socket was led to.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReverseKey {
    /// The socket's cookie.
    pub socket: u64,
    /// The backend.
    pub backend: Target,
    /// 6 (TCP) or 17 (UDP).
    pub protocol: u32,
}
