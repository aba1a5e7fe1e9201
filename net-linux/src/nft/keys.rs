//! Numbers of the kernel that name registers, packet metadata and connection fields. Never their values.

use std::fmt;

/// A register: 16 slots of four bytes. Long values take several; [`Self::A`] to [`Self::D`] begin 16 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reg(u8);

impl Reg {
    /// Slots 0 to 3 (`NFT_REG_1`).
    pub const A: Self = Self(0);
    /// Slots 4 to 7 (`NFT_REG_2`).
    pub const B: Self = Self(4);
    /// Slots 8 to 11 (`NFT_REG_3`).
    pub const C: Self = Self(8);
    /// Slots 12 to 15 (`NFT_REG_4`).
    pub const D: Self = Self(12);

    /// A slot of four bytes, 0 to 15.
    #[must_use]
    pub const fn slot(slot: u8) -> Option<Self> {
        if slot < 16 { Some(Self(slot)) } else { None }
    }

    /// Where it begins, in bytes from the first register.
    #[must_use]
    pub fn offset_bytes(self) -> usize {
        4 * usize::from(self.0)
    }

    /// The register after a value of `bytes` that begins here: where the next field of a concatenation goes.
    #[must_use]
    pub fn after(self, bytes: usize) -> Option<Self> {
        u8::try_from(bytes.div_ceil(4)).ok().and_then(|slots| self.0.checked_add(slots)).and_then(Self::slot)
    }

    /// `enum nft_registers`, as the kernel dumps it: 1 to 4 where 16 bytes begin, else `NFT_REG32_00` and up.
    pub(super) fn number(self) -> u32 {
        if self.0.is_multiple_of(4) { u32::from(1 + self.0 / 4) } else { u32::from(8 + self.0) }
    }

    pub(super) fn from_number(number: u32) -> Option<Self> {
        let slot = match number {
            1..=4 => (number - 1) * 4,
            8..=23 => number - 8,
            _ => return None,
        };
        u8::try_from(slot).ok().map(Self)
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reg {}", self.number())
    }
}

macro_rules! numbers {
    ($(#[$doc:meta])* $type:ident { $($(#[$item_doc:meta])* $item:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[$item_doc])* $item,)*
            /// Another number.
            Other(u32),
        }

        impl $type {
            /// The kernel's number.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$item => $number,)*
                    Self::Other(number) => number,
                }
            }

            /// From the kernel's number.
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$item,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

numbers! {
    /// What the kernel knows of a packet: `enum nft_meta_keys`. Four bytes in host order unless said.
    MetaKey {
        /// Length in bytes.
        Len = 0,
        /// Ethertype, two bytes in network order.
        Protocol = 1,
        /// Priority.
        Priority = 2,
        /// Mark.
        Mark = 3,
        /// Index of the interface it came in.
        Iif = 4,
        /// Index of the interface it goes out.
        Oif = 5,
        /// Name of the interface it came in, 16 bytes.
        IifName = 6,
        /// Name of the interface it goes out, 16 bytes.
        OifName = 7,
        /// Type of the interface it came in, two bytes.
        IifType = 8,
        /// Type of the interface it goes out, two bytes.
        OifType = 9,
        /// User of the sending socket.
        SkUid = 10,
        /// Group of the sending socket.
        SkGid = 11,
        /// Whether it is traced, one byte.
        NfTrace = 12,
        /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, one byte.
        NfProto = 15,
        /// Protocol above IP, one byte.
        L4Proto = 16,
        /// Unicast, broadcast, multicast, one byte.
        PktType = 19,
        /// CPU.
        Cpu = 20,
        /// Group of the interface it came in.
        IifGroup = 21,
        /// Group of the interface it goes out.
        OifGroup = 22,
        /// Kind of the interface it came in (`veth`), 16 bytes.
        IifKind = 26,
        /// Kind of the interface it goes out, 16 bytes.
        OifKind = 27,
    }
}

numbers! {
    /// What the kernel knows of a connection: `enum nft_ct_keys`. Four bytes in host order unless said.
    CtKey {
        /// A bit of [`CtState`].
        State = 0,
        /// Original or reply, one byte.
        Direction = 1,
        /// `IPS_*` bits.
        Status = 2,
        /// Mark.
        Mark = 3,
        /// Protocol above IP, one byte.
        Protocol = 10,
        /// Source port, two bytes in network order.
        ProtoSrc = 11,
        /// Destination port, two bytes in network order.
        ProtoDst = 12,
        /// Labels, 16 bytes.
        Labels = 13,
        /// Zone, two bytes.
        Zone = 17,
        /// Source address, four bytes in network order.
        SrcIp = 19,
        /// Destination address, four bytes in network order.
        DstIp = 20,
        /// Source address, 16 bytes.
        SrcIp6 = 21,
        /// Destination address, 16 bytes.
        DstIp6 = 22,
        /// Identity of the connection.
        Id = 23,
    }
}

/// State of a packet's connection, as bits: `NF_CT_STATE_BIT` of `nf_conntrack_common.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CtState(pub u32);

impl CtState {
    /// No connection can be told.
    pub const INVALID: Self = Self(1);
    /// Both sides were seen.
    pub const ESTABLISHED: Self = Self(2);
    /// Belongs to another connection (an ICMP error).
    pub const RELATED: Self = Self(4);
    /// The first packet.
    pub const NEW: Self = Self(8);
    /// [`Expr::NoTrack`](super::Expr::NoTrack) applied.
    pub const UNTRACKED: Self = Self(64);

    /// Either of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One of the two directions of a connection: `enum ip_conntrack_dir`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CtDirection {
    /// From who opened it.
    Original,
    /// To who opened it.
    Reply,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_register_number_is_read_back_as_the_kernel_dumps_it() {
        for slot in 0..16 {
            let reg = Reg::slot(slot).unwrap();
            assert_eq!(Reg::from_number(reg.number()), Some(reg));
        }
        // NFT_REG32_00 and NFT_REG_1 are one register.
        assert_eq!(Reg::from_number(8), Some(Reg::A));
        assert_eq!(Reg::from_number(1), Some(Reg::A));
        for none in [0, 5, 6, 7, 24, u32::MAX] {
            assert_eq!(Reg::from_number(none), None);
        }
        assert_eq!(Reg::A.after(4), Reg::slot(1));
        assert_eq!(Reg::A.after(16), Some(Reg::B));
        assert_eq!(Reg::D.after(16), None);
    }
}
