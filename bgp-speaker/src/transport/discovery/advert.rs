//! Router advertisements and solicitations as bytes. Never knows who sent them.

/// ICMPv6 type of a router solicitation. RFC 4861, section 4.1.
pub(super) const SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement. RFC 4861, section 4.2.
pub(super) const ADVERTISEMENT: u8 = 134;
/// Hop limit of both; less has crossed a router. RFC 4861, section 6.1.
pub(super) const HOP_LIMIT: u8 = 255;

const SOLICITATION_BYTES: usize = 8;
const ADVERTISEMENT_BYTES: usize = 16;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Somebody wants an advertisement.
    Solicitation,
    /// A router is there, for so many seconds; 0: it is one, but not for the default route.
    Advertisement { lifetime_seconds: u16 },
}

/// Reads an ICMPv6 message. `None` when it is none of the two or breaks a rule of RFC 4861, section 6.1.1 or 6.1.2; the
/// kernel has checked the checksum.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    let (&[kind, code], least) = (bytes.first_chunk()?, ADVERTISEMENT_BYTES);
    let (least, message) = match kind {
        SOLICITATION => (SOLICITATION_BYTES, Message::Solicitation),
        ADVERTISEMENT => {
            let lifetime_seconds = u16::from_be_bytes([*bytes.get(6)?, *bytes.get(7)?]);
            (least, Message::Advertisement { lifetime_seconds })
        }
        _ => return None,
    };
    let mut options = bytes.get(least..)?;
    // Type, length in units of 8 bytes: "all included options have a length that is greater than zero".
    while let [_, units, ..] = options {
        let length = usize::from(*units) * 8;
        options = options.get(length..).filter(|_| length > 0)?;
    }
    (code == 0 && options.is_empty()).then_some(message)
}

/// An advertisement with lifetime 0 and nothing in it: here is a router, but no default one, so that hosts on the link do
/// not send us what they have no other way for. The kernel fills in the checksum.
pub(super) const fn advertisement() -> [u8; ADVERTISEMENT_BYTES] {
    let mut bytes = [0; ADVERTISEMENT_BYTES];
    bytes[0] = ADVERTISEMENT;
    bytes
}

/// A solicitation without options.
pub(super) const fn solicitation() -> [u8; SOLICITATION_BYTES] {
    let mut bytes = [0; SOLICITATION_BYTES];
    bytes[0] = SOLICITATION;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_messages_are_read_back() {
        assert_eq!(decode(&advertisement()), Some(Message::Advertisement { lifetime_seconds: 0 }));
        assert_eq!(decode(&solicitation()), Some(Message::Solicitation));
    }

    /// Worked by hand from RFC 4861, section 4.2: hop limit 64, lifetime 30 s, source link-layer address (type 1).
    #[test]
    fn an_advertisement_with_options_is_read() {
        let mut bytes = vec![134, 0, 0, 0, 64, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1];
        assert_eq!(decode(&bytes), Some(Message::Advertisement { lifetime_seconds: 30 }));
        bytes[17] = 0;
        assert_eq!(decode(&bytes), None, "an option of length 0");
        bytes[17] = 2;
        assert_eq!(decode(&bytes), None, "an option longer than the message");
        (bytes[17], bytes[1]) = (1, 1);
        assert_eq!(decode(&bytes), None, "a code other than 0");
        assert_eq!(decode(&advertisement()[..15]), None, "cut short");
        assert_eq!(decode(&[135, 0, 0, 0, 0, 0, 0, 0]), None, "a neighbour solicitation");
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), kind in 133_u8..135) {
            decode(&bytes);
            decode(&[&[kind, 0][..], &bytes].concat());
        }
    }
}
