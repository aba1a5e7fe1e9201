//! Many requests in one buffer. Never sends: that is the socket's.

use super::wire::{HEADER_BYTES, Message, NLM_F_REQUEST};
use std::fmt;

/// Requests that are written together; results come in the same order.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) entries: Vec<Entry>,
}

/// What one request is about, for its error.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) start: usize,
    pub(super) operation: &'static str,
    pub(super) object: String,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Appends one request of message type `kind`; `NLM_F_REQUEST` is set already. `body` writes fixed header and attributes.
    ///
    /// `operation` and `object` name it in an error.
    pub fn add(
        &mut self,
        operation: &'static str,
        object: impl fmt::Display,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Message<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        write_message(&mut self.bytes, kind, flags | NLM_F_REQUEST, body);
        self.entries.push(Entry { start, operation, object: object.to_string() });
        self
    }

    /// Where the message at `index` ends.
    pub(super) fn end(&self, index: usize) -> usize {
        self.entries.get(index + 1).map_or(self.bytes.len(), |entry| entry.start)
    }
}

/// Appends a message; its sequence number and port are zero.
pub(super) fn write_message(bytes: &mut Vec<u8>, kind: u16, flags: u16, body: impl FnOnce(&mut Message<'_>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; HEADER_BYTES - 8]);
    body(&mut Message::new(bytes));
    let length = (bytes.len() - start) as u32;
    bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// Sets the sequence number of the message at `start`.
pub(super) fn set_sequence(bytes: &mut [u8], start: usize, sequence: u32) {
    bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
}

/// Adds flags to the message at `start`.
pub(super) fn add_flags(bytes: &mut [u8], start: usize, flags: u16) {
    let present = u16::from_ne_bytes([bytes[start + 6], bytes[start + 7]]);
    bytes[start + 6..start + 8].copy_from_slice(&(present | flags).to_ne_bytes());
}
