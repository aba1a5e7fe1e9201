//! Bytes of the wire to messages and back. Never a state, a clock, or a decision about a route.
//!
//! ```text
//!  bytes --> Decoder: frame --> update | open | notification | refresh --> types::Message, or the Notification to send
//!  Encoder: types --> bytes, as many prefixes in one UPDATE as fit
//! ```
//!
//! Errors of an UPDATE are handled as RFC 7606 says: what it treats as withdrawn already stands under the withdrawals.

mod attributes;
mod capability;
mod codes;
mod decoder;
mod encoder;
mod frame;
mod known;
mod malformed;
mod merge;
mod nlri;
mod notification;
mod open;
mod options;
mod path;
mod refresh;
#[cfg(test)]
mod tests;
mod update;
mod write;

pub use decoder::Decoder;
pub use encoder::{EncodeError, Encoder};
pub use options::Options;
