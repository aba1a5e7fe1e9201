//! The control packet, between bytes and type. Never knows of a session: rules that need one stand there.

use std::num::{NonZeroU8, NonZeroU32};

/// Length of a control packet without authentication. RFC 5880, section 4.1.
pub const PACKET_BYTES: usize = 24;

/// The least length of one with authentication. RFC 5880, section 6.8.6.
const AUTHENTICATED_BYTES: usize = 26;
const VERSION: u8 = 1;

const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const CONTROL_PLANE_INDEPENDENT: u8 = 0x08;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// The state of a session, as the sender of a packet sees it. RFC 5880, section 4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// Switched off by an administrator.
    AdminDown = 0,
    /// Down, or just made.
    Down = 1,
    /// The neighbour is heard and does not hear us yet, as far as we know.
    Init = 2,
    /// Both hear each other.
    Up = 3,
}

/// Why a session changed its state last. RFC 5880, section 4.1; numbers without a meaning yet are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// Nothing has happened.
    pub const NONE: Self = Self(0);
    /// Nothing was heard for a detection time.
    pub const EXPIRED: Self = Self(1);
    /// The neighbour said that the session is down.
    pub const NEIGHBOR_DOWN: Self = Self(3);
    /// An administrator switched it off.
    pub const ADMIN_DOWN: Self = Self(7);

    /// The number, 0 to 31.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A control packet that is right by itself. Intervals are in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Why the sender changed its state last.
    pub diagnostic: Diagnostic,
    /// The sender's state.
    pub state: State,
    /// P: an answer with F is asked for.
    pub poll: bool,
    /// F: the answer to P.
    pub is_final: bool,
    /// C: the sender's BFD lives on when its control plane dies.
    pub control_plane_independent: bool,
    /// D: the sender asks us to fall silent once both are up.
    pub demand: bool,
    /// So many packets missed, and the sender is taken for gone.
    pub multiplier: NonZeroU8,
    /// The sender's number for the session.
    pub my_discriminator: NonZeroU32,
    /// Our number for the session; 0 while the sender does not know it.
    pub your_discriminator: u32,
    /// How fast the sender wants to send.
    pub desired_min_tx_micros: u32,
    /// How fast it can take packets; 0: it wants none.
    pub required_min_rx_micros: u32,
    /// How fast it can take echo packets; 0: not at all.
    pub required_min_echo_rx_micros: u32,
}

/// Why bytes are no control packet for us. Each is a rule of RFC 5880, section 6.8.6, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Less than the shortest packet.
    #[error("{bytes} bytes, a control packet has at least 24")]
    Truncated {
        /// So many came.
        bytes: usize,
    },
    /// Another version.
    #[error("version {0}, only 1 is known")]
    Version(u8),
    /// The length field is less than the header, or more than what came.
    #[error("length field {field} in a packet of {bytes} bytes")]
    Length {
        /// What the packet says.
        field: u8,
        /// What came.
        bytes: usize,
    },
    /// A detection time of nothing.
    #[error("detection multiplier 0")]
    Multiplier,
    /// A bit for point-to-multipoint, which must be clear.
    #[error("multipoint bit set")]
    Multipoint,
    /// The sender gives no number.
    #[error("my discriminator 0")]
    MyDiscriminator,
    /// The sender does not know our number and yet is past Down.
    #[error("your discriminator 0 in state {0:?}")]
    YourDiscriminator(State),
    /// Authentication, which we do not offer.
    #[error("authentication is not offered")]
    Authentication,
}

fn word(bytes: &[u8; PACKET_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Packet {
    /// Reads the payload of a UDP datagram. What follows the packet is ignored.
    ///
    /// # Errors
    /// [`PacketError`]: the packet is to be discarded.
    pub fn decode(payload: &[u8]) -> Result<Self, PacketError> {
        let Some(bytes) = payload.first_chunk::<PACKET_BYTES>() else {
            return Err(PacketError::Truncated { bytes: payload.len() });
        };
        let (version, flags, field) = (bytes[0] >> 5, bytes[1], bytes[3]);
        if version != VERSION {
            return Err(PacketError::Version(version));
        }
        let least = if flags & AUTHENTICATION == 0 { PACKET_BYTES } else { AUTHENTICATED_BYTES };
        if usize::from(field) < least || usize::from(field) > payload.len() {
            return Err(PacketError::Length { field, bytes: payload.len() });
        }
        let multiplier = NonZeroU8::new(bytes[2]).ok_or(PacketError::Multiplier)?;
        if flags & MULTIPOINT != 0 {
            return Err(PacketError::Multipoint);
        }
        let my_discriminator = NonZeroU32::new(word(bytes, 4)).ok_or(PacketError::MyDiscriminator)?;
        let state = match flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        let your_discriminator = word(bytes, 8);
        if your_discriminator == 0 && !matches!(state, State::Down | State::AdminDown) {
            return Err(PacketError::YourDiscriminator(state));
        }
        if flags & AUTHENTICATION != 0 {
            return Err(PacketError::Authentication);
        }
        Ok(Self {
            diagnostic: Diagnostic(bytes[0] & 0x1f),
            state,
            poll: flags & POLL != 0,
            is_final: flags & FINAL != 0,
            control_plane_independent: flags & CONTROL_PLANE_INDEPENDENT != 0,
            demand: flags & DEMAND != 0,
            multiplier,
            my_discriminator,
            your_discriminator,
            desired_min_tx_micros: word(bytes, 12),
            required_min_rx_micros: word(bytes, 16),
            required_min_echo_rx_micros: word(bytes, 20),
        })
    }

    /// As bytes for a UDP datagram.
    #[must_use]
    pub fn encode(&self) -> [u8; PACKET_BYTES] {
        let mut bytes = [0; PACKET_BYTES];
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        bytes[0] = VERSION << 5 | self.diagnostic.0;
        bytes[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.is_final, FINAL)
            | flag(self.control_plane_independent, CONTROL_PLANE_INDEPENDENT)
            | flag(self.demand, DEMAND);
        bytes[2] = self.multiplier.get();
        // 24 fits into a byte.
        bytes[3] = PACKET_BYTES as u8;
        let words = [
            self.my_discriminator.get(),
            self.your_discriminator,
            self.desired_min_tx_micros,
            self.required_min_rx_micros,
            self.required_min_echo_rx_micros,
        ];
        for (place, word) in bytes[4..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}
