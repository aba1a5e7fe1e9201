//! Synchronous netlink: batches of writes, filtered dumps, errors in the kernel's own words. Never retries a write and
//! never waits for anything but the kernel's answer.
//!
//! The kernel works on a request inside `sendmsg` and has queued its answer when the call returns, so an async runtime
//! would only add wake-ups. What does not answer a request (events) is [`crate::monitor`]'s.
//!
//! ```text
//!  Batch: [msg 1][msg 2] .. [msg 256 + ACK]  --one sendmsg-->  kernel, in order
//!         errors of any message, then the last one's ACK       <--recv--
//! ```

mod batch;
mod error;
mod generic;
mod socket;
pub mod wire;

pub use batch::Batch;
pub(crate) use error::kind_of;
pub use error::{Error, Result};
pub use generic::Family;
pub use socket::{Protocol, Socket};
pub(crate) use wire::messages;
pub use wire::{Attr, Attrs, Header, Message};
