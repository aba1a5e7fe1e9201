//! ICMP errors as a router sends them. Pure: it makes the message, the caller sends it.

use super::packet::{Inner, checksum};
use std::net::IpAddr;

/// Why a packet went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Its hops are used up.
    HopsUsedUp,
    /// No peer has its destination.
    NoRoute,
    /// It is too big for the way and may not be cut; what fits, in bytes.
    TooBig(u32),
}

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
/// Bytes of an ICMP header with its second word.
const HEADER_BYTES: usize = 8;
/// At most this many bytes of the IPv4 error in all, with its own IP header. RFC 1812, section 4.3.2.3.
const MOST_V4_BYTES: usize = 576 - 20;
/// The least IPv6 MTU, less the error's own IP header. RFC 4443, section 2.4 (c).
const MOST_V6_BYTES: usize = 1280 - 40;

/// The ICMP message for the sender of a packet; `None` where none may be sent (RFC 1812, section 4.3.2.7; RFC 4443,
/// section 2.4 (e)): about another error, a later fragment, or to and from many.
///
/// The checksum of an ICMPv6 message is left zero: it needs the source address, which the kernel chooses, and the kernel
/// computes it (RFC 3542, section 3.1).
#[must_use]
pub fn error(packet: &[u8], inner: &Inner, cause: Cause) -> Option<Vec<u8>> {
    let to_many = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
    };
    // RFC 4443, section 2.4 (e.3): Packet Too Big is sent about a multicast too, as path discovery needs it.
    let too_big_v6 = inner.source.is_ipv6() && matches!(cause, Cause::TooBig(_));
    if to_many(inner.source)
        || (to_many(inner.destination) && !too_big_v6)
        || inner.later_fragment
        || is_error(packet, inner)
    {
        return None;
    }
    let v4 = inner.source.is_ipv4();
    let (kind, code, word) = match (v4, cause) {
        // RFC 792: time exceeded in transit; net unreachable; RFC 1191: fragmentation needed, with the MTU.
        (true, Cause::HopsUsedUp) => (11, 0, 0),
        (true, Cause::NoRoute) => (3, 0, 0),
        (true, Cause::TooBig(mtu)) => (3, 4, mtu.min(0xffff)),
        // RFC 4443, sections 3.3, 3.1, 3.2.
        (false, Cause::HopsUsedUp) => (3, 0, 0),
        (false, Cause::NoRoute) => (1, 0, 0),
        (false, Cause::TooBig(mtu)) => (2, 0, mtu),
    };
    let most = if v4 { MOST_V4_BYTES } else { MOST_V6_BYTES };
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(&packet[..packet.len().min(most - HEADER_BYTES)]);
    if v4 {
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    Some(message)
}

/// Whether a packet is itself an ICMP error. One too short to tell counts as one.
fn is_error(packet: &[u8], inner: &Inner) -> bool {
    let kind = packet.get(inner.header_bytes).copied();
    match inner.protocol {
        // Errors and redirects: RFC 1122, section 3.2.2.
        ICMP if inner.source.is_ipv4() => matches!(kind, None | Some(3 | 4 | 5 | 11 | 12)),
        // Types below 128 are errors (RFC 4443, section 2.1); 137 is a redirect.
        ICMP_V6 if inner.source.is_ipv6() => kind.is_none_or(|kind| kind < 128 || kind == 137),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::tests::{v4, v6};
    use super::super::packet::{checksum, parse};
    use super::*;
    use proptest::prelude::*;

    fn answer(packet: &[u8], cause: Cause) -> Option<Vec<u8>> {
        error(packet, &parse(packet).unwrap(), cause)
    }

    #[test]
    fn each_cause_has_its_type_and_code() {
        let (four, six) = (v4(1, true, 17, &[0; 8]), v6(1, 17, &[0; 8]));
        for (packet, cause, kind, code, word) in [
            (&four, Cause::HopsUsedUp, 11, 0, 0),
            (&four, Cause::NoRoute, 3, 0, 0),
            (&four, Cause::TooBig(1400), 3, 4, 1400),
            (&six, Cause::HopsUsedUp, 3, 0, 0),
            (&six, Cause::NoRoute, 1, 0, 0),
            (&six, Cause::TooBig(1400), 2, 0, 1400_u32),
        ] {
            let message = answer(packet, cause).unwrap();
            assert_eq!((message[0], message[1]), (kind, code));
            assert_eq!(message[4..8], word.to_be_bytes());
            assert_eq!(message[8..], packet[..]);
        }
        assert_eq!(checksum(&answer(&four, Cause::NoRoute).unwrap()), 0);
    }

    #[test]
    fn an_error_is_never_about_an_error() {
        assert_eq!(answer(&v4(1, true, 1, &[3, 0, 0, 0, 0, 0, 0, 0]), Cause::HopsUsedUp), None);
        assert_eq!(answer(&v6(1, 58, &[1, 0, 0, 0, 0, 0, 0, 0]), Cause::HopsUsedUp), None);
        assert!(answer(&v4(1, true, 1, &[8, 0, 0, 0, 0, 0, 0, 0]), Cause::HopsUsedUp).is_some());
        assert!(answer(&v6(1, 58, &[128, 0, 0, 0, 0, 0, 0, 0]), Cause::HopsUsedUp).is_some());
    }

    #[test]
    fn a_later_fragment_and_a_multicast_get_no_error() {
        let mut fragment = v4(1, false, 17, &[0; 8]);
        fragment[7] = 1;
        assert_eq!(answer(&fragment, Cause::HopsUsedUp), None);
        let mut multicast = v4(1, false, 17, &[0; 8]);
        multicast[16] = 224;
        assert_eq!(answer(&multicast, Cause::HopsUsedUp), None);
    }

    proptest! {
        #[test]
        fn an_error_fits_every_link_of_its_family(length in 0_usize..3000) {
            let four = answer(&v4(1, true, 17, &vec![0; length]), Cause::HopsUsedUp).unwrap();
            prop_assert!(four.len() + 20 <= 576);
            let six = answer(&v6(1, 17, &vec![0; length]), Cause::HopsUsedUp).unwrap();
            prop_assert!(six.len() + 40 <= 1280);
        }
    }
}
