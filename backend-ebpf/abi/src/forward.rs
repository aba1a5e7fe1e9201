//! Where packets of pods go. Never whether they may: that is policy's.

/// The version of the layouts and meanings here. Entries of another one are not read, also where programs happen to be the same.
pub const FORWARD_VERSION: u32 = 2;

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
