//! What a program tells of a packet, and whether it is asked to. Never a map's key.

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
}

impl FlowEvent {
    /// It comes from the pod, or from the node itself; else it goes to it.
    pub const FROM_POD: u8 = 1;
    /// Every decision was wanted.
    pub const ALL: u8 = 2;
    /// It is the node's own, not a pod's.
    pub const OF_NODE: u8 = 4;
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
        })
    }
}

fn part<const N: usize>(bytes: &[u8; FlowEvent::BYTES], from: usize) -> [u8; N] {
    core::array::from_fn(|index| bytes[from + index])
}

/// Which decisions are told.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowsWanted {
    /// None.
    None = 0,
    /// What is dropped, or would be by staged policies.
    Denied = 1,
    /// What opens a connection, too.
    All = 2,
}
