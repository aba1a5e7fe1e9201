//! The frame of nftables' messages: attributes, messages and a socket of `NETLINK_NETFILTER`. Never what they mean.
//!
//! Apart from [`crate::netlink`] because nftables wants other things: a batch is one datagram however long, lists come close
//! to what a 16-bit length can say (so writing checks for it), and what can't be read is an error, not an end.

mod attr;
mod message;
mod socket;

pub(crate) use attr::{Attr, Writer, attributes};
pub(crate) use message::{Header, Message, messages};
pub(crate) use socket::NfSocket;

/// Bytes from the kernel that are not what its headers promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}")]
pub struct Malformed {
    /// What could not be read.
    pub what: &'static str,
}

impl Malformed {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}
