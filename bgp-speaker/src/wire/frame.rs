//! Cuts a stream of bytes into messages. Never reads what is in them.
//!
//! At most one message is kept: the part of it that has come, of up to 65535 bytes.

use super::codes::{HEADER_BYTES, MARKER_BYTES, MOST_BYTES, message};
use crate::types::{HeaderSubcode, Notification};
use bytes::Bytes;

/// A message of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Its type, a known one.
    pub(super) kind: u8,
    /// All of it, header included.
    pub(super) whole: &'a [u8],
}

impl<'a> Frame<'a> {
    /// What follows the header.
    pub(super) fn body(self) -> &'a [u8] {
        &self.whole[HEADER_BYTES..]
    }
}

/// The part of a message that has come.
#[derive(Debug, Default)]
pub(super) struct Framer {
    partial: Vec<u8>,
    /// What stands in `partial` has been handed out.
    done: bool,
}

impl Framer {
    /// The next whole message of what was kept and `input`, which is cut by what was read. `None`: all of `input` was read
    /// and there is no whole message.
    ///
    /// # Errors
    /// A header that cannot be: RFC 4271, section 6.1.
    pub(super) fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        most: u16,
    ) -> Result<Option<Frame<'a>>, Notification> {
        if std::mem::take(&mut self.done) {
            self.partial.clear();
            // One long message shall not hold its memory for the rest of the session.
            self.partial.shrink_to(usize::from(MOST_BYTES));
        }
        if self.partial.is_empty() {
            if let Some((header, _)) = input.split_first_chunk::<HEADER_BYTES>() {
                let (kind, length) = check(header, most)?;
                if let Some((whole, rest)) = input.split_at_checked(length) {
                    *input = rest;
                    return Ok(Some(Frame { kind, whole }));
                }
            }
            self.partial.extend_from_slice(std::mem::take(input));
            return Ok(None);
        }
        self.take(input, HEADER_BYTES);
        let Some(header) = self.partial.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (kind, length) = check(header, most)?;
        self.take(input, length);
        if self.partial.len() < length {
            return Ok(None);
        }
        self.done = true;
        Ok(Some(Frame { kind, whole: &self.partial }))
    }

    /// Bytes that are kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.partial.len()
    }

    fn take(&mut self, input: &mut &[u8], until: usize) {
        let more = until.saturating_sub(self.partial.len()).min(input.len());
        let (head, rest) = input.split_at(more);
        self.partial.extend_from_slice(head);
        *input = rest;
    }
}

/// Type and length of a message. RFC 4271, section 6.1; RFC 8654, section 4.
fn check(header: &[u8; HEADER_BYTES], most: u16) -> Result<(u8, usize), Notification> {
    let refuse = |subcode, data: &[u8]| Notification::Header(subcode, Bytes::copy_from_slice(data));
    if header[..MARKER_BYTES] != [0xff; MARKER_BYTES] {
        return Err(refuse(HeaderSubcode::NotSynchronized, &[]));
    }
    let [.., high, low, kind] = *header;
    let length = u16::from_be_bytes([high, low]);
    let (least, most) = match kind {
        message::OPEN => (29, MOST_BYTES),
        message::UPDATE => (23, most),
        message::NOTIFICATION => (21, most),
        message::KEEPALIVE => (19, 19),
        message::ROUTE_REFRESH => (23, most),
        _ => return Err(refuse(HeaderSubcode::BadType, &[kind])),
    };
    if !(least..=most).contains(&length) {
        return Err(refuse(HeaderSubcode::BadLength, &[high, low]));
    }
    Ok((kind, usize::from(length)))
}
