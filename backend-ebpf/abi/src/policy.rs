//! What policy is made of in the maps. Never a rule: those were resolved to classes and verdicts.

/// The identity of an address that no set names.
pub const IDENTITY_NONE: u32 = 0;

/// Bits of a whole [`traffic_key`].
pub const TRAFFIC_BITS: u32 = 56;
/// Bits of a whole [`source_key`].
pub const SOURCE_BITS: u32 = 48;

/// An address as maps have it: IPv4 as IPv4-mapped IPv6. RFC 4291, section 2.5.5.2.
#[must_use]
#[inline(always)]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// Whose packet: the host's end of a veth, and an address behind it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The index of the host's interface, in the host's network namespace.
    pub interface: u32,
    /// The address, see [`mapped`].
    pub address: [u8; 16],
}

/// What is enforced at one address of an endpoint.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The endpoint's number: the same for all its addresses.
    pub id: u32,
    /// What decides of what comes to it.
    pub ingress: ProgramRef,
    /// What decides of what goes from it.
    pub egress: ProgramRef,
}

/// The numbers ([`Endpoint::id`], and [`crate::ConnectionKey::interface`]) of the node itself: this bit alone at interfaces to
/// others, so that an answer may come by another one, and with the interface's index at those of pods, which may send from any
/// address. No interface has an index with it.
pub const OF_NODE: u32 = 1 << 31;

/// The address under which stands what is enforced where the node is an end with none of its own addresses: of a broadcast, of a
/// group, before it has one.
#[must_use]
#[inline(always)]
pub const fn nobodys(v4: bool) -> [u8; 16] {
    if v4 { mapped([0; 4]) } else { [0; 16] }
}

/// A compiled program, and which of its tables have to be asked.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProgramRef {
    /// Its number: the first part of each key of its tables. Never used for another program.
    pub program: u32,
    /// [`ProgramRef::PEER`] and so on.
    pub flags: u32,
    /// The verdict of the class of peers 0 where the table of verdicts has nothing else.
    pub default: Verdict,
}

impl ProgramRef {
    /// The verdict depends on the peer.
    pub const PEER: u32 = 1;
    /// It depends on the protocol, the destination port or the ICMP message.
    pub const TRAFFIC: u32 = 2;
    /// It depends on the source port.
    pub const SOURCE: u32 = 4;
    /// Its table of verdicts has entries.
    pub const VERDICTS: u32 = 8;
}

/// Which class an identity is in for a program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerKey {
    /// The program.
    pub program: u32,
    /// The identity.
    pub identity: u32,
}

/// A class of peers that a program treats alike. An identity without one is in class 0.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerClass {
    /// The class.
    pub class: u32,
    /// Its verdict where the table of verdicts has nothing else.
    pub default: Verdict,
}

/// A place in the table of verdicts.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerdictKey {
    /// The program.
    pub program: u32,
    /// The class of the peer.
    pub peer: u32,
    /// The class of protocol, destination port and ICMP message.
    pub traffic: u16,
    /// The class of the source port.
    pub source: u16,
}

/// A verdict, and what it would be were staged policies enforced.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Verdict {
    /// [`Verdict::ALLOW`] and the number of the rule that decides; rule 0: no tier had a say.
    pub enforced: u32,
    /// The same with staged policies, and [`Verdict::STAGED`]; 0 where there are none.
    pub staged: u32,
}

impl Verdict {
    /// The bit that allows.
    pub const ALLOW: u32 = 1 << 31;
    /// The bit of `enforced` that says: rules ask for a record before the one that decides. The number stands for all of them.
    pub const LOGGED: u32 = 1 << 30;
    /// The bit of `staged` that says: there are staged policies.
    pub const STAGED: u32 = 1 << 30;
    /// The bit of `enforced` that says: the other end has an address of the pod's own node, and what the node itself sends is always
    /// let in. All else is for anybody else who sends from that address, see [`Verdict::of_sender`].
    pub const OWN_NODE: u32 = 1 << 29;
    /// The bits of the rule's number.
    pub const RULE: u32 = Self::OWN_NODE - 1;
    /// Denied by no rule: what is said where nothing was written.
    pub const CLOSED: Self = Self { enforced: 0, staged: 0 };
    /// Let in, and no tier had a say.
    pub const OPEN: Self = Self { enforced: Self::ALLOW, staged: 0 };

    /// What it is for who sends: the node itself, or somebody else, whatever address the packet has.
    #[must_use]
    #[inline(always)]
    pub const fn of_sender(self, is_node: bool) -> Self {
        if self.enforced & Self::OWN_NODE == 0 {
            self
        } else if is_node {
            Self::OPEN
        } else {
            Self { enforced: self.enforced & !Self::OWN_NODE, staged: self.staged }
        }
    }

    /// Whether the packet may pass.
    #[must_use]
    #[inline(always)]
    pub const fn allows(self) -> bool {
        self.enforced & Self::ALLOW != 0
    }
}

/// The data of a key of the trie of traffic: the program, the protocol, and what the protocol has in place of `detail`: the
/// destination port, or an ICMP message's type and code, or 0.
#[must_use]
#[inline(always)]
pub const fn traffic_key(program: u32, protocol: u8, detail: u16) -> [u8; 7] {
    let (program, detail) = (program.to_be_bytes(), detail.to_be_bytes());
    [program[0], program[1], program[2], program[3], protocol, detail[0], detail[1]]
}

/// The data of a key of the trie of source ports.
#[must_use]
#[inline(always)]
pub const fn source_key(program: u32, port: u16) -> [u8; 6] {
    let (program, port) = (program.to_be_bytes(), port.to_be_bytes());
    [program[0], program[1], program[2], program[3], port[0], port[1]]
}
