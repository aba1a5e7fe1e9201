//! What a program tells of a packet or of a connection that is over, and whether it is asked to. Never a map's key.

use crate::{Connection, ConnectionKey, Count, Judged, Tracked};
use core::num::NonZeroU32;

/// One decision, as it is in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowEvent {
    /// When, in nanoseconds of the kernel's `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Who sends, see [`crate::mapped`]; zeros: the packet could not be read so far.
    pub source: [u8; 16],
    /// To whom.
    pub destination: [u8; 16],
    /// The index of the host's interface.
    pub interface: u32,
    /// A [`crate::Reason`].
    pub reason: u32,
    /// What was decided, and by which rule, as [`crate::Verdict::enforced`].
    pub enforced: u32,
    /// The same with staged policies, as [`crate::Verdict::staged`].
    pub staged: u32,
    /// The identity of the other end.
    pub identity: u32,
    /// The packet's bytes, without the link's header.
    pub bytes: u32,
    /// The source port, or an echo's identifier, or 0.
    pub source_port: u16,
    /// The destination port, or an ICMP message's type and code, or 0.
    pub detail: u16,
    /// The protocol above IP.
    pub protocol: u8,
    /// TCP's flags.
    pub flags: u8,
    /// 1: IPv4.
    pub v4: u8,
    /// [`FlowEvent::FROM_POD`] and so on.
    pub marks: u8,
    /// Chance chose it, one of so many packets; else 0.
    pub one_of: u32,
    /// The epoch of the policy that is in force, see [`crate::Judged`]: of a chosen packet it says whose numbers its verdict has.
    pub epoch: u32,
}

impl FlowEvent {
    /// It comes from the pod, or from the node itself; else it goes to it.
    pub const FROM_POD: u8 = 1;
    /// Every decision was wanted.
    pub const ALL: u8 = 2;
    /// It is the node's own, not a pod's.
    pub const OF_NODE: u8 = 4;
    /// It is a packet of an open connection that chance chose.
    pub const CHOSEN: u8 = 8;
    /// Its size in bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// From the bytes of the ring buffer; `None`: they are not so many.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::BYTES }>().filter(|_| bytes.len() == Self::BYTES)?;
        let word = |from: usize| u32::from_ne_bytes(part(bytes, from));
        Some(Self {
            time_ns: u64::from_ne_bytes(part(bytes, 0)),
            source: part(bytes, 8),
            destination: part(bytes, 24),
            interface: word(40),
            reason: word(44),
            enforced: word(48),
            staged: word(52),
            identity: word(56),
            bytes: word(60),
            source_port: u16::from_ne_bytes(part(bytes, 64)),
            detail: u16::from_ne_bytes(part(bytes, 66)),
            protocol: bytes[68],
            flags: bytes[69],
            v4: bytes[70],
            marks: bytes[71],
            one_of: word(72),
            epoch: word(76),
        })
    }
}

fn part<const N: usize>(bytes: &[u8], from: usize) -> [u8; N] {
    core::array::from_fn(|index| bytes[from + index])
}

/// A connection that is over because another one began with the same ends, as it is in the ring buffer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ended {
    /// Whose.
    pub key: ConnectionKey,
    /// 0.
    pub unused: u32,
    /// What was known of it.
    pub tracked: Tracked,
}

impl Ended {
    /// Its size in bytes.
    pub const BYTES: usize = size_of::<Self>();

    /// From the bytes of the ring buffer; `None`: they are not so many.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let word = |from: usize| u32::from_ne_bytes(part(bytes, from));
        let long = |from: usize| u64::from_ne_bytes(part(bytes, from));
        let port = |from: usize| u16::from_ne_bytes(part(bytes, from));
        let count = |from: usize| Count { packets: long(from), bytes: long(from + 8) };
        Some(Self {
            key: ConnectionKey {
                interface: word(0),
                own: part(bytes, 4),
                other: part(bytes, 20),
                own_port: port(36),
                other_port: port(38),
                protocol: word(40),
            },
            unused: 0,
            tracked: Tracked {
                connection: Connection {
                    seen_seconds: word(48),
                    state: word(52),
                    judged: Judged(long(56)),
                    staged: word(64),
                    opened_seconds: word(68),
                },
                sent: count(72),
                received: count(88),
                opening_bytes: word(104),
                unused: 0,
            },
        })
    }
}

/// What is told.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FlowsWanted {
    /// [`FlowsWanted::NONE`] and so on.
    pub decisions: u32,
    /// One of so many packets of open connections; 0: none.
    pub one_of: u32,
    /// The largest of all numbers of 32 bits that choose a packet.
    pub at_most: u32,
}

impl FlowsWanted {
    /// No decision.
    pub const NONE: u32 = 0;
    /// What is dropped, or would be by staged policies.
    pub const DENIED: u32 = 1;
    /// What opens a connection, too, and what passed in it when it is over.
    pub const ALL: u32 = 2;

    /// These decisions, and no samples.
    #[must_use]
    pub const fn of(decisions: u32) -> Self {
        Self { decisions, one_of: 0, at_most: 0 }
    }

    /// And one of so many packets of open connections.
    #[must_use]
    pub fn sampled(self, one_of: Option<NonZeroU32>) -> Self {
        let Some(one_of) = one_of else { return Self { one_of: 0, at_most: 0, ..self } };
        // Of 2^32 numbers, counted from 0, as many as fit.
        Self { one_of: one_of.get(), at_most: u32::MAX / one_of, ..self }
    }
}
