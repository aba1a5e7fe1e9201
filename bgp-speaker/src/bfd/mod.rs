//! Bidirectional Forwarding Detection: whether a neighbour still answers, told within milliseconds. Never a clock or a socket.
//!
//! Asynchronous mode of RFC 5880 for single hops (RFC 5881, port 3784) and several hops (RFC 5883, port 4784). No echo
//! function and no demand mode of our own (a neighbour may ask for demand mode: we then fall silent, as section 6.6
//! says); no authentication: packets that carry it are discarded.
//!
//! # What a client makes of it
//! [`Action::Down`] means that the path is gone. A neighbour that *says* it will not do BFD (AdminDown) is
//! [`Action::Unwatched`] and not that: the path is as it was, nobody watches it, and a BGP session goes on with its hold
//! timer alone (RFC 5882, section 3.2).
//!
//! ```text
//!                  received Down             received Init, Up
//!     +-- Down ------------------> Init ---------------------------> Up
//!     |    ^  \                      |                               ^ |
//!     |    |   \____ received Init __|_______________________________| |
//!     |    +-------- detection time over ----------------------------- +
//!     |              (in Up also: received Down)
//!     +-- set_admin_down <--> AdminDown
//! ```

mod packet;
mod session;
#[cfg(test)]
mod tests;

pub use packet::{Diagnostic, PACKET_BYTES, Packet, PacketError, State};
pub use session::{Action, Config, Discard, Session};

/// UDP port of single hop sessions. RFC 5881, section 4.
pub const PORT_SINGLE_HOP: u16 = 3784;
/// UDP port of sessions over several hops. RFC 5883, section 5.
pub const PORT_MULTIHOP: u16 = 4784;
/// Source ports that a session may use. RFC 5881, section 4.
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// TTL or hop limit of every packet of a single hop; less comes from farther away. RFC 5881, section 5.
pub const TTL: u8 = 255;
