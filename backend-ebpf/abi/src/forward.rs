//! Where packets of pods go. Never whether they may: that is policy's.

/// The version of the layouts and meanings here. Entries of another one are not read, also where programs happen to be the same.
pub const FORWARD_VERSION: u32 = 3;

/// What all programs of one node have to know.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Settings {
    /// [`FORWARD_VERSION`], in every layout first.
    pub version: u32,
    /// Our underlay address, the source of outer packets, see [`crate::mapped`].
    pub local: [u8; 16],
    /// The VXLAN network identifier.
    pub vni: u32,
    /// The index of the tunnel device; 0: there is none.
    pub tunnel: u32,
    /// The index of the underlay's interface.
    pub underlay: u32,
    /// [`Settings::DIRECT`].
    pub flags: u32,
}

impl Settings {
    /// Packets between pods skip the host's stack.
    pub const DIRECT: u32 = 1;
}

/// A prefix of another node's pods.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WayKey {
    /// How many bits of the address count.
    pub bits: u32,
    /// See [`crate::mapped`]; zeros behind those bits.
    pub address: [u8; 16],
}

/// Which lengths the prefixes of a family have: a list from the longest to the shortest, in which a program looks up one after the
/// other. Zeros are an empty list.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lengths {
    /// By the [place](Lengths::place) of a length: that of the next shorter one. By 0: that of the longest. 0: there is none.
    /// As many as a byte has values, so that no place is beyond.
    pub shorter: [u8; 256],
}

impl Lengths {
    /// The list of IPv4, and that of IPv6.
    pub const V4: u32 = 0;
    /// See [`Self::V4`].
    pub const V6: u32 = 1;
    /// How many lists there are.
    pub const COUNT: u32 = 2;
    /// Lengths of one list at most: each step of the walk leads to a shorter one.
    pub const MOST: u32 = Way::BITS + 1;
    /// No length.
    pub const NONE: Self = Self { shorter: [0; 256] };

    /// The place of a length of so many bits, at most [`Way::BITS`].
    #[must_use]
    pub const fn place(bits: u32) -> u8 {
        bits as u8 + 1
    }
}

/// The way to a prefix of another node's pods.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way {
    /// The other node on the underlay, see [`crate::mapped`].
    pub node: [u8; 16],
    /// [`Way::TUNNEL`] or [`Way::PLAIN`].
    pub kind: u32,
}

impl Way {
    /// Wrapped, to the node.
    pub const TUNNEL: u32 = 0;
    /// As it is, with the node as the next hop.
    pub const PLAIN: u32 = 1;
    /// Bits of a whole address.
    pub const BITS: u32 = 128;
    /// Bits before an IPv4 address, see [`crate::mapped`].
    pub const V4_BITS: u32 = 96;

    /// What is left of an address when so many bits of it count, in words as they lie in memory.
    #[must_use]
    pub const fn mask(bits: u32) -> [u32; 4] {
        let mut words = [0; 4];
        let mut at = 0;
        while at < 4 {
            let counts = bits.saturating_sub(32 * at as u32);
            let ones = if counts >= 32 { u32::MAX } else { !(u32::MAX >> counts) };
            words[at] = ones.to_be();
            at += 1;
        }
        words
    }
}

/// A pod of this node, by one of its addresses.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The index of the host's end of its veth.
    pub interface: u32,
    /// Its Ethernet address, then that of the host's end: how a frame for it begins.
    pub addresses: [u8; 12],
}

/// What became of a packet: the index of its counter. Numbers are part of the layout: new ones go to the end.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forwarded {
    /// Wrapped for another node.
    Wrapped = 0,
    /// Taken from the tunnel.
    Unwrapped = 1,
    /// Straight to a pod of this node.
    ToPod = 2,
    /// Straight to another node.
    ToNode = 3,
    /// Left to the host's stack.
    ToStack = 4,
    /// Dropped: sent into the tunnel, but no node is known for its destination.
    UnknownPrefix = 5,
    /// Dropped: it came by the tunnel with another network identifier.
    OtherNetwork = 6,
    /// Dropped: sent into the tunnel, and not IP.
    NotIp = 7,
    /// Dropped: the kernel refuses to wrap it, or nobody has written the settings yet.
    Refused = 8,
}

impl Forwarded {
    /// How many there are.
    pub const COUNT: u32 = 9;
}
