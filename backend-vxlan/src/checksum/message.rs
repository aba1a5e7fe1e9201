//! Probes and answers on the wire, and the checksum that nobody is left to compute. Pure.
//!
//! ```text
//!  16 bytes  "cnidarian-csum-1"
//!   1 byte   0 probe with the checksum left to the card, 1 probe with it computed, 2 and 3 their answers
//!   8 bytes  the trial's number, big-endian
//! ```

use crate::udp::packet::checksum;
use std::net::Ipv6Addr;

const MAGIC: &[u8; 16] = b"cnidarian-csum-1";
const MESSAGE_BYTES: usize = 25;
/// The UDP port of every VTEP's responder.
pub(super) const PORT: u16 = 8473;

/// How a probe's checksum was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Left to the card.
    Offloaded,
    /// Computed by us.
    Computed,
}

/// A probe or its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) answer: bool,
    pub(super) trial: u64,
}

impl Message {
    pub(super) fn encode(self) -> [u8; MESSAGE_BYTES] {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16] = u8::from(self.kind == Kind::Computed) | u8::from(self.answer) << 1;
        bytes[17..].copy_from_slice(&self.trial.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; MESSAGE_BYTES] = bytes.try_into().ok()?;
        let (magic, rest) = bytes.split_at(16);
        if magic != MAGIC || rest[0] > 3 {
            return None;
        }
        let kind = if rest[0] & 1 == 0 { Kind::Offloaded } else { Kind::Computed };
        let trial = u64::from_be_bytes(rest[1..].try_into().ok()?);
        Some(Self { kind, answer: rest[0] & 2 != 0, trial })
    }

    /// A whole UDP datagram from and to [`PORT`], with its checksum.
    pub(super) fn datagram(self, source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
        const LENGTH: u16 = 8 + MESSAGE_BYTES as u16;
        let mut udp = Vec::with_capacity(LENGTH.into());
        for word in [PORT, PORT, LENGTH, 0] {
            udp.extend(word.to_be_bytes());
        }
        udp.extend(self.encode());
        // The pseudo-header: RFC 8200, section 8.1.
        let mut summed = Vec::with_capacity(40 + udp.len());
        summed.extend(source.octets());
        summed.extend(destination.octets());
        summed.extend(u32::from(LENGTH).to_be_bytes());
        summed.extend([0, 0, 0, 17]);
        summed.extend(&udp);
        // A sum of zero is sent as all ones: zero means "no checksum" (RFC 768).
        let sum = match checksum(&summed) {
            0 => 0xffff,
            sum => sum,
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        udp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_message_reads_back_as_it_was_written(computed: bool, answer: bool, trial: u64) {
            let kind = if computed { Kind::Computed } else { Kind::Offloaded };
            let message = Message { kind, answer, trial };
            prop_assert_eq!(Message::decode(&message.encode()), Some(message));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_datagram_and_its_pseudo_header_sum_to_zero(trial: u64, source: [u8; 16], destination: [u8; 16]) {
            let message = Message { kind: Kind::Computed, answer: false, trial };
            let udp = message.datagram(source.into(), destination.into());
            let mut summed = [source, destination].concat();
            summed.extend((udp.len() as u32).to_be_bytes());
            summed.extend([0, 0, 0, 17]);
            summed.extend(&udp);
            prop_assert_eq!(checksum(&summed), 0);
        }
    }
}
