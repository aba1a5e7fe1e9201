//! Messages to bytes, as many prefixes in one UPDATE as fit. Never what is sent to whom.

use super::codes::{HEADER_BYTES, MARKER_BYTES, MOST_BYTES, UNICAST, afi, attribute as code, flag, message as kind};
use super::options::Options;
use super::{nlri, notification, open, write};
use crate::types::{Attributes, Family, NextHop, Nlri, Notification, Open, Refresh, RefreshKind};
use bytes::{BufMut, Bytes, BytesMut};

/// Routes cannot be written for a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// No message can hold the attributes: the route is not for this peer. RFC 4271, section 9.2; RFC 8654, section 5.
    #[error("attributes of {bytes} bytes do not fit in a message of {most}")]
    TooLong {
        /// What they take.
        bytes: usize,
        /// What a message may have.
        most: u16,
    },
    /// The peer takes no next hop of this kind with routes of this family. RFC 8950, section 4.
    #[error("{family} routes to this peer cannot have the next hop {next_hop:?}")]
    NextHop {
        /// Of the routes.
        family: Family,
        /// What they have.
        next_hop: NextHop,
    },
}

/// Writes messages for all connections on which the same options hold.
#[derive(Debug, Clone)]
pub struct Encoder {
    options: Options,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new(Options::before_open())
    }
}

/// An UPDATE around its routes.
struct Shape {
    /// Between header and routes, with lengths as if there were no routes.
    before: Vec<u8>,
    /// Behind the routes.
    behind: Vec<u8>,
    /// Where in `before` lengths of two bytes stand that grow with the routes.
    lengths: &'static [usize],
}

impl Shape {
    /// Without withdrawn routes, with an attribute of a family in front of all others, as RFC 7606, section 5.1 asks.
    /// `inner`: what stands in it before its routes.
    fn multiprotocol(code: u8, family: Family, inner: &[u8], others: Vec<u8>) -> Self {
        let mut before = vec![0, 0];
        let value = 3 + inner.len();
        before.extend(length(4 + value + others.len()).to_be_bytes());
        before.extend([flag::OPTIONAL | flag::EXTENDED_LENGTH, code]);
        before.extend(length(value).to_be_bytes());
        before.extend(afi(family).to_be_bytes());
        before.push(UNICAST);
        before.extend_from_slice(inner);
        // That of all attributes, and that of this one.
        Self { before, behind: others, lengths: &[2, 6] }
    }

    /// Without routes.
    fn bytes(&self) -> usize {
        HEADER_BYTES + self.before.len() + self.behind.len()
    }
}

impl Encoder {
    /// For connections on which `options` hold.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        Self { options }
    }

    /// What holds.
    #[must_use]
    pub const fn options(&self) -> &Options {
        &self.options
    }

    /// Appends routes that share their attributes to `to`, as whole UPDATEs.
    ///
    /// # Errors
    /// Nothing has been written.
    pub fn updates(
        &self,
        family: Family,
        attributes: &Attributes,
        routes: impl IntoIterator<Item = Nlri>,
        to: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let in_body = match (family, attributes.next_hop) {
            (Family::Ipv4, NextHop::V4(_)) => true,
            (Family::Ipv6, NextHop::V6 { .. }) => false,
            (Family::Ipv4, NextHop::V6 { .. }) if self.options.extended_next_hop[family.index()] => false,
            (_, next_hop) => return Err(EncodeError::NextHop { family, next_hop }),
        };
        let mut block = Vec::with_capacity(128);
        write::attributes(attributes, in_body, &self.options, &mut block);
        let bytes = block.len();
        let shape = if in_body {
            let mut before = vec![0, 0];
            before.extend(length(bytes).to_be_bytes());
            before.extend(block);
            Shape { before, behind: Vec::new(), lengths: &[] }
        } else {
            let mut hop = vec![0];
            write::next_hop(attributes.next_hop, &mut hop);
            hop[0] = u8::try_from(hop.len() - 1).unwrap_or(0);
            hop.push(0);
            Shape::multiprotocol(code::MP_REACH, family, &hop, block)
        };
        let most = self.options.max_message_bytes;
        if shape.bytes() + nlri::MOST_BYTES > usize::from(most) {
            return Err(EncodeError::TooLong { bytes, most });
        }
        self.pack(family, &shape, routes, to);
        Ok(())
    }

    /// Appends routes that are gone to `to`, as whole UPDATEs.
    pub fn withdrawals(&self, family: Family, routes: impl IntoIterator<Item = Nlri>, to: &mut BytesMut) {
        let shape = match family {
            // The body of a message says so whatever the next hop was.
            Family::Ipv4 => Shape { before: vec![0, 0], behind: vec![0, 0], lengths: &[0] },
            Family::Ipv6 => Shape::multiprotocol(code::MP_UNREACH, family, &[], Vec::new()),
        };
        self.pack(family, &shape, routes, to);
    }

    fn pack(&self, family: Family, shape: &Shape, routes: impl IntoIterator<Item = Nlri>, to: &mut BytesMut) {
        let with_ids = self.options.add_path_out[family.index()];
        let room = usize::from(self.options.max_message_bytes) - shape.bytes();
        let mut bytes = [0; nlri::MOST_BYTES];
        let mut routes = routes.into_iter();
        let mut next = routes.next();
        while next.is_some() {
            let start = begin(kind::UPDATE, to);
            to.put_slice(&shape.before);
            let first = to.len();
            while let Some(route) = &next {
                let taken = nlri::write(route, with_ids, &mut bytes);
                if to.len() - first + taken > room {
                    break;
                }
                to.put_slice(&bytes[..taken]);
                next = routes.next();
            }
            let added = length(to.len() - first);
            to.put_slice(&shape.behind);
            for at in shape.lengths {
                let at = start + HEADER_BYTES + at;
                let without = u16::from_be_bytes([to[at], to[at + 1]]);
                to[at..at + 2].copy_from_slice(&(without + added).to_be_bytes());
            }
            end(start, to);
        }
    }

    /// Appends the mark that the first full table of a family has been sent. RFC 4724, section 2.
    pub fn end_of_rib(&self, family: Family, to: &mut BytesMut) {
        let start = begin(kind::UPDATE, to);
        match family {
            Family::Ipv4 => to.put_u32(0),
            Family::Ipv6 => {
                let [high, low] = afi(family).to_be_bytes();
                to.put_slice(&[0, 0, 0, 6, flag::OPTIONAL, code::MP_UNREACH, 3, high, low, UNICAST]);
            }
        }
        end(start, to);
    }

    /// An OPEN. RFC 4271, section 4.2.
    #[must_use]
    pub fn open(open: &Open) -> Bytes {
        whole(kind::OPEN, |body| open::write(open, body))
    }

    /// A KEEPALIVE. RFC 4271, section 4.4.
    #[must_use]
    pub fn keepalive() -> Bytes {
        whole(kind::KEEPALIVE, |_| {})
    }

    /// A NOTIFICATION, cut to what any peer takes. RFC 4271, section 4.5.
    #[must_use]
    pub fn notification(notification: &Notification) -> Bytes {
        whole(kind::NOTIFICATION, |body| {
            notification::write(notification, body);
            body.truncate(usize::from(MOST_BYTES) - HEADER_BYTES);
        })
    }

    /// A ROUTE-REFRESH. RFC 2918; RFC 7313.
    #[must_use]
    pub fn refresh(refresh: Refresh) -> Bytes {
        let subtype = match refresh.kind {
            RefreshKind::Request => 0,
            RefreshKind::Begin => 1,
            RefreshKind::End => 2,
        };
        let [high, low] = afi(refresh.family).to_be_bytes();
        whole(kind::ROUTE_REFRESH, |body| body.extend([high, low, subtype, UNICAST]))
    }
}

fn whole(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let (mut message, mut inner) = (BytesMut::with_capacity(64), Vec::new());
    body(&mut inner);
    let start = begin(kind, &mut message);
    message.put_slice(&inner);
    end(start, &mut message);
    message.freeze()
}

/// Begins a message; where it begins.
fn begin(kind: u8, to: &mut BytesMut) -> usize {
    let start = to.len();
    to.put_slice(&[0xff; MARKER_BYTES]);
    to.put_slice(&[0, 0, kind]);
    start
}

/// Puts its length into the message that began at `start`.
fn end(start: usize, to: &mut BytesMut) {
    let bytes = length(to.len() - start);
    to[start + MARKER_BYTES..start + MARKER_BYTES + 2].copy_from_slice(&bytes.to_be_bytes());
}

/// Lengths of messages and of their parts: those of messages are checked before any is written.
fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
