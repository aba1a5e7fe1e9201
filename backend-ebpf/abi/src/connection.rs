//! Connections that were allowed, as one endpoint sees them, with the verdict of the policy that was in force then. Never a
//! verdict of a later policy: that is another epoch.

use crate::Verdict;

/// A connection: who talks to whom, and who began.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// The host's end of the endpoint's veth.
    pub interface: u32,
    /// The endpoint's address, see [`crate::mapped`].
    pub own: [u8; 16],
    /// The other address.
    pub other: [u8; 16],
    /// The endpoint's port; of an echo: its identifier.
    pub own_port: u16,
    /// The other port; of an echo: its identifier.
    pub other_port: u16,
    /// The protocol, and [`ConnectionKey::BY_POD`] when the endpoint began.
    pub protocol: u32,
}

impl ConnectionKey {
    /// The bit in [`ConnectionKey::protocol`] of connections that the endpoint began.
    pub const BY_POD: u32 = 0x100;
}

/// What is known of a connection.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Connection {
    /// When its last packet passed: seconds since the machine was started.
    pub seen_seconds: u32,
    /// [`Connection::ANSWERED`] and so on.
    pub state: u32,
    /// See [`Judged`].
    pub judged: Judged,
    /// [`Verdict::staged`] of that verdict.
    pub staged: u32,
    /// When its first packet passed.
    pub opened_seconds: u32,
}

/// What passed one way.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Count {
    /// Packets as the kernel hands them on: one that segmentation is left to the device for is one.
    pub packets: u64,
    /// Their bytes, without the link's header.
    pub bytes: u64,
}

/// A connection's entry: what its packets are judged by, and what passed where somebody wants to know that.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tracked {
    /// What each packet looks at.
    pub connection: Connection,
    /// From who began.
    pub sent: Count,
    /// To who began.
    pub received: Count,
    /// The bytes of the first packet; 0: nobody wanted to know what passes then.
    pub opening_bytes: u32,
    /// 0.
    pub unused: u32,
}

impl Tracked {
    /// One that its first packet opens; 0 bytes: it is not counted.
    #[must_use]
    #[inline(always)]
    pub const fn opened(connection: Connection, bytes: u32) -> Self {
        let sent = Count { packets: (bytes != 0) as u64, bytes: bytes as u64 };
        Self { connection, sent, received: Count { packets: 0, bytes: 0 }, opening_bytes: bytes, unused: 0 }
    }
}

/// A verdict and its epoch in one word, so that who reads has both of one writer: the epoch in the upper half, and
/// [`Verdict::enforced`]. Epochs count the changes of policy from 1 on.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Judged(pub u64);

impl Judged {
    /// Of no epoch.
    pub const NEVER: Self = Self(0);

    /// A verdict of an epoch.
    #[must_use]
    #[inline(always)]
    pub const fn new(epoch: u32, enforced: u32) -> Self {
        Self((epoch as u64) << 32 | enforced as u64)
    }

    /// Whether it was given because the node itself sent ([`Verdict::OWN_NODE`]), in whatever epoch.
    #[must_use]
    #[inline(always)]
    pub const fn is_of_node(self) -> bool {
        self.0 as u32 & Verdict::OWN_NODE != 0
    }

    /// The verdict, if it is one of this epoch that allows; 0 is no epoch.
    #[must_use]
    #[inline(always)]
    pub const fn allowed_in(self, epoch: u32) -> Option<u32> {
        let enforced = self.0 as u32;
        if epoch != 0 && (self.0 >> 32) as u32 == epoch && enforced & Verdict::ALLOW != 0 {
            Some(enforced)
        } else {
            None
        }
    }
}

impl Connection {
    /// An answer passed.
    pub const ANSWERED: u32 = 1;
    /// Who began it has nothing more to send (TCP's FIN).
    pub const FIN: u32 = 2;
    /// Who answers has nothing more to send.
    pub const ANSWER_FIN: u32 = 4;
    /// One of them broke it (TCP's RST).
    pub const RESET: u32 = 8;

    /// One that was opened at a time, and nothing more.
    #[must_use]
    #[inline(always)]
    pub const fn seen(seen_seconds: u32, state: u32) -> Self {
        Self { seen_seconds, state, judged: Judged::NEVER, staged: 0, opened_seconds: seen_seconds }
    }

    /// Whether an end has said that it has nothing more to send, or broke it: what begins then is another connection.
    #[must_use]
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        self.state & (Self::FIN | Self::ANSWER_FIN | Self::RESET) != 0
    }

    /// How long without a packet it is still one.
    #[must_use]
    #[inline(always)]
    pub const fn timeout_seconds(self, protocol: u8) -> u32 {
        let answered = self.state & Self::ANSWERED != 0;
        let both = Self::FIN | Self::ANSWER_FIN;
        match protocol {
            6 if self.state & Self::RESET != 0 || self.state & both == both => 10,
            // More than the two hours after which TCP looks whether the other end is there: RFC 1122, section 4.2.3.6.
            6 | 132 if answered => 8000,
            6 | 132 => 60,
            // What Linux's own tracking has: `udp_timeouts` and `icmp_timeout` of net/netfilter.
            17 | 136 if answered => 180,
            1 | 17 | 58 | 136 => 30,
            _ => 600,
        }
    }

    /// Whether it is still one.
    #[must_use]
    #[inline(always)]
    pub const fn is_alive(self, protocol: u8, now_seconds: u32) -> bool {
        // Another processor may have seen it a second after we looked at the clock.
        now_seconds.wrapping_sub(self.seen_seconds).cast_signed() <= self.timeout_seconds(protocol).cast_signed()
    }
}
