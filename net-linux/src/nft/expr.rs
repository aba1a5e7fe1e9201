//! Expressions: the instructions of a rule, as types. Numbers in values are in the byte order that the kernel compares.

use super::{CtDirection, CtKey, MetaKey, Name, Reg};

/// Where a rule or a verdict map sends a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Ends this base chain; other base chains still see the packet.
    Accept,
    /// Ends the packet.
    Drop,
    /// The next rule.
    Continue,
    /// The next rule, skipping the rest of this one.
    Break,
    /// A chain, and back here.
    Jump(Name),
    /// A chain, and back to where this one was called from.
    Goto(Name),
    /// Back to the caller; in a base chain its policy.
    Return,
    /// Another code of the kernel (`NF_QUEUE` with its number, ...).
    Other(i32),
}

/// Which header a payload begins in: `enum nft_payload_bases`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    /// Ethernet.
    Link,
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, ...
    Transport,
    /// Another number.
    Other(u32),
}

/// Some bytes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Payload {
    /// The header.
    pub base: Base,
    /// Where in the header, in bytes.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

impl Payload {
    /// IPv4 source address. RFC 791, section 3.1.
    pub const IP_SADDR: Self = Self::network(12, 4);
    /// IPv4 destination address.
    pub const IP_DADDR: Self = Self::network(16, 4);
    /// IPv6 source address. RFC 8200, section 3.
    pub const IP6_SADDR: Self = Self::network(8, 16);
    /// IPv6 destination address.
    pub const IP6_DADDR: Self = Self::network(24, 16);
    /// Source port of TCP, UDP, SCTP.
    pub const SPORT: Self = Self::transport(0, 2);
    /// Destination port of TCP, UDP, SCTP.
    pub const DPORT: Self = Self::transport(2, 2);
    /// ICMP and ICMPv6 type.
    pub const ICMP_TYPE: Self = Self::transport(0, 1);
    /// ICMP and ICMPv6 code.
    pub const ICMP_CODE: Self = Self::transport(1, 1);
    /// ICMP and ICMPv6 type and code.
    pub const ICMP_TYPE_AND_CODE: Self = Self::transport(0, 2);

    /// Bytes of the network header.
    #[must_use]
    pub const fn network(offset: u32, length: u32) -> Self {
        Self { base: Base::Network, offset, length }
    }

    /// Bytes of the transport header.
    #[must_use]
    pub const fn transport(offset: u32, length: u32) -> Self {
        Self { base: Base::Transport, offset, length }
    }
}

/// How a register is compared: `enum nft_cmp_ops`. Order is that of the bytes, so of numbers in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cmp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
}

/// The set that a lookup uses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetUse {
    /// A set by name; what a dump always gives.
    Named(Name),
    /// A set without a name that [`super::Batch::add_anonymous_set`] made in the same batch.
    Anonymous(u32),
}

/// Who gets a logged packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// The kernel's log.
    Kernel {
        /// Syslog level, 0 to 7; 4 (warning) is usual.
        level: u32,
    },
    /// Readers of an NFLOG group.
    Group {
        /// The group.
        group: u16,
        /// Bytes of the packet to copy, 0 for all.
        snap_bytes: u32,
        /// Packets to gather before one wake-up, 0 for the kernel's default.
        queue_threshold: u16,
    },
}

/// Logs a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    /// Text before the message, up to 127 bytes; carries a rule's id to a reader of NFLOG.
    pub prefix: Option<String>,
    /// To whom.
    pub target: LogTarget,
}

/// Which reply a refused packet gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// ICMP (family `ip`) or ICMPv6 (family `ip6`) unreachable with this code.
    Icmp(u8),
    /// TCP reset.
    TcpReset,
    /// The right ICMP for the packet's family: a code of `enum nft_reject_inet_code`, see [`Self::PORT`], [`Self::ADMIN`].
    Icmpx(u8),
}

impl Reject {
    /// Port unreachable.
    pub const PORT: Self = Self::Icmpx(1);
    /// Administratively prohibited.
    pub const ADMIN: Self = Self::Icmpx(3);
}

/// How NAT picks addresses and ports: `NF_NAT_RANGE_*` of `include/uapi/linux/netfilter/nf_nat.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NatFlags(pub u32);

impl NatFlags {
    /// To an address and a port: the kernel says so of what has both, whether or not it was written.
    pub const TO_ADDRESS_AND_PORT: Self = Self(3);
    /// Ports by hash.
    pub const RANDOM: Self = Self(1 << 2);
    /// One client, one address.
    pub const PERSISTENT: Self = Self(1 << 3);
    /// Ports by chance: two connections rarely meet on one port.
    pub const FULLY_RANDOM: Self = Self(1 << 4);
}

/// A translation to addresses and ports in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nat {
    /// Destination instead of source.
    pub destination: bool,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`: of the address.
    pub family: u32,
    /// First and last address.
    pub address: Option<(Reg, Reg)>,
    /// First and last port.
    pub port: Option<(Reg, Reg)>,
    /// How to pick.
    pub flags: NatFlags,
}

/// What a route lookup gives: `enum nft_fib_result`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FibResult {
    /// Interface index.
    Oif,
    /// Interface name.
    OifName,
    /// `RTN_*`.
    AddressType,
    /// Another number.
    Other(u32),
}

/// A limit on how often the rest of a rule is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Packets (or bytes) per unit.
    pub rate: u64,
    /// The unit in seconds.
    pub unit_seconds: u64,
    /// Packets (or bytes) beyond the rate.
    pub burst: u32,
    /// Bytes are counted, not packets.
    pub bytes: bool,
    /// Matches above the rate.
    pub over: bool,
}

/// One instruction. A register must be loaded before it is used.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Expr {
    /// Loads a constant.
    Immediate {
        /// To.
        dreg: Reg,
        /// The constant.
        value: Vec<u8>,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Loads what the kernel knows of the packet.
    Meta {
        /// What.
        key: MetaKey,
        /// To.
        dreg: Reg,
    },
    /// Sets what the kernel knows of the packet (its mark).
    MetaSet {
        /// What.
        key: MetaKey,
        /// From.
        sreg: Reg,
    },
    /// Loads bytes of the packet.
    Payload {
        /// Which.
        field: Payload,
        /// To.
        dreg: Reg,
    },
    /// Writes bytes of the packet.
    PayloadSet {
        /// Which.
        field: Payload,
        /// From.
        sreg: Reg,
        /// Where in the same header a checksum of 16 bits (RFC 1071) is mended, in bytes; `None`: none is.
        checksum: Option<u32>,
    },
    /// Goes on when the comparison holds.
    Cmp {
        /// What is compared.
        sreg: Reg,
        /// How.
        op: Cmp,
        /// With what.
        value: Vec<u8>,
    },
    /// Goes on when the register is in the range, both ends included.
    Range {
        /// What is compared.
        sreg: Reg,
        /// Not in the range.
        inverted: bool,
        /// First.
        from: Vec<u8>,
        /// Last.
        to: Vec<u8>,
    },
    /// `dreg = (sreg & mask) ^ xor`; both constants have one length.
    Bitwise {
        /// From.
        sreg: Reg,
        /// To.
        dreg: Reg,
        /// Bits to keep.
        mask: Vec<u8>,
        /// Bits to flip.
        xor: Vec<u8>,
    },
    /// Goes on when the register is an element of the set.
    Lookup {
        /// The set.
        set: SetUse,
        /// The key.
        sreg: Reg,
        /// Goes on when it is not.
        inverted: bool,
    },
    /// Loads the value that a map has for the key; goes on when it has one.
    Map {
        /// The map.
        set: SetUse,
        /// The key.
        sreg: Reg,
        /// To.
        dreg: Reg,
    },
    /// Takes the verdict that a map has for the key; goes on when it has none.
    VerdictMap {
        /// The map.
        set: SetUse,
        /// The key.
        sreg: Reg,
    },
    /// Loads something of the packet's connection.
    Ct {
        /// What.
        key: CtKey,
        /// To.
        dreg: Reg,
        /// Of which direction, for keys that have two.
        direction: Option<CtDirection>,
    },
    /// Sets something of the packet's connection.
    CtSet {
        /// What.
        key: CtKey,
        /// From.
        sreg: Reg,
        /// Of which direction, for keys that have two.
        direction: Option<CtDirection>,
    },
    /// Counts what comes by. Zero in what is written.
    Counter {
        /// Packets so far.
        packets: u64,
        /// Bytes so far.
        bytes: u64,
    },
    /// Logs the packet.
    Log(Log),
    /// Goes on at most so often.
    Limit(Limit),
    /// Source NAT to the address of the outgoing interface; ends the rule.
    Masquerade {
        /// How to pick ports.
        flags: NatFlags,
        /// First and last port in registers.
        ports: Option<(Reg, Reg)>,
    },
    /// NAT; ends the rule.
    Nat(Nat),
    /// Loads what a route lookup gives.
    Fib {
        /// To.
        dreg: Reg,
        /// What.
        result: FibResult,
        /// `NFTA_FIB_F_*`.
        flags: u32,
    },
    /// Loads a number less than `modulus` by chance (`numgen random`).
    Random {
        /// To.
        dreg: Reg,
        /// 1 or more.
        modulus: u32,
    },
    /// Loads a number less than `modulus` by a hash (`jhash`): the same for the same bytes and seed.
    Hash {
        /// Of what.
        sreg: Reg,
        /// So many bytes of it, 1 or more.
        bytes: u32,
        /// To.
        dreg: Reg,
        /// 1 or more.
        modulus: u32,
        /// Hashes of another seed differ.
        seed: u32,
    },
    /// No connection tracking for this packet.
    NoTrack,
    /// Answers and drops.
    Reject(Reject),
    /// An expression that this module does not know, as the kernel gave it; it can be written back.
    Other {
        /// Its name.
        name: String,
        /// Its attributes.
        data: Vec<u8>,
    },
}

impl Expr {
    /// The same without what changes by itself: a counter's numbers. For comparing wanted with present.
    #[must_use]
    pub fn at_rest(self) -> Self {
        if matches!(self, Self::Counter { .. }) { Self::Counter { packets: 0, bytes: 0 } } else { self }
    }
}
