//! The headers of an IP packet, as far as a router looks at them. Never reads past them and never copies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of an IPv6 header. RFC 8200, section 3.
const V6_HEADER_BYTES: usize = 40;

/// What a router needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// The sender.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// Hops left.
    pub ttl: u8,
    /// Routers must not cut it: IPv4 with DF, and all IPv6.
    pub whole: bool,
    /// The upper protocol; for IPv6 the first next header.
    pub protocol: u8,
    /// Where the upper protocol begins.
    pub header_bytes: usize,
    /// A fragment other than the first.
    pub later_fragment: bool,
}

/// Why something is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version 4 nor 6, or empty.
    #[error("neither IPv4 nor IPv6")]
    Version,
    /// Shorter than its header, or than its header says.
    #[error("shorter or longer than its header says")]
    Length,
}

/// Reads the headers. The packet has to be exactly as long as it says.
///
/// # Errors
/// [`Malformed`].
pub fn parse(packet: &[u8]) -> Result<Inner, Malformed> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        _ => Err(Malformed::Version),
    }
}

/// RFC 791, section 3.1.
fn parse_v4(packet: &[u8]) -> Result<Inner, Malformed> {
    let header_bytes = usize::from(packet[0] & 0x0f) * 4;
    if header_bytes < 20 || packet.len() < header_bytes || usize::from(word(packet, 2)) != packet.len() {
        return Err(Malformed::Length);
    }
    let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]).into();
    let fragment = word(packet, 6);
    Ok(Inner {
        source: address(12),
        destination: address(16),
        ttl: packet[8],
        whole: fragment & 0x4000 != 0,
        protocol: packet[9],
        header_bytes,
        later_fragment: fragment & 0x1fff != 0,
    })
}

/// RFC 8200, section 3.
fn parse_v6(packet: &[u8]) -> Result<Inner, Malformed> {
    if packet.len() < V6_HEADER_BYTES || usize::from(word(packet, 4)) + V6_HEADER_BYTES != packet.len() {
        return Err(Malformed::Length);
    }
    let address = |at: usize| -> IpAddr {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&packet[at..at + 16]);
        Ipv6Addr::from(bytes).into()
    };
    let (protocol, header_bytes, later_fragment) = upper_of_v6(packet);
    Ok(Inner {
        source: address(8),
        destination: address(24),
        ttl: packet[7],
        whole: true,
        protocol,
        header_bytes,
        later_fragment,
    })
}

/// Walks the extension headers (RFC 8200, section 4) to the upper protocol, where it begins, and whether this is a
/// fragment other than the first. A packet that ends among them has the header it ends in as its protocol.
fn upper_of_v6(packet: &[u8]) -> (u8, usize, bool) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let (mut protocol, mut at) = (packet[6], V6_HEADER_BYTES);
    while at + 8 <= packet.len() {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => {
                (protocol, at) = (packet[at], at + (usize::from(packet[at + 1]) + 1) * 8);
            }
            FRAGMENT if word(packet, at + 2) & 0xfff8 != 0 => return (packet[at], at + 8, true),
            FRAGMENT => (protocol, at) = (packet[at], at + 8),
            _ => break,
        }
    }
    (protocol, at, false)
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// Takes one from the hops left of a packet that was parsed. The caller has seen that there is one.
pub fn count_down(packet: &mut [u8]) {
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return;
    }
    packet[8] -= 1;
    // RFC 1624, equation 3, for the word of TTL and protocol that went down by 0x0100.
    let sum = u32::from(word(packet, 10)) + 0x0100;
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    packet[10..12].copy_from_slice(&folded.to_be_bytes());
}

/// The Internet checksum of some bytes. RFC 1071.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An IPv4 packet with a right checksum.
    pub(crate) fn v4(ttl: u8, df: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, total[0], total[1], 0, 7, if df { 0x40 } else { 0 }, 0, ttl, protocol, 0, 0];
        packet.extend([10, 1, 0, 1, 10, 2, 0, 1]);
        let sum = checksum(&packet).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet.extend(payload);
        packet
    }

    /// An IPv6 packet.
    pub(crate) fn v6(hops: u8, next: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, hops];
        packet.extend("fd00:1::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00:2::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }

    #[test]
    fn the_headers_of_both_versions_are_read() {
        let four = parse(&v4(64, true, 17, b"12345678")).unwrap();
        assert_eq!((four.source, four.ttl, four.whole), ("10.1.0.1".parse().unwrap(), 64, true));
        let six = parse(&v6(9, 58, b"12345678")).unwrap();
        assert_eq!((six.destination, six.ttl, six.protocol), ("fd00:2::1".parse().unwrap(), 9, 58));
        assert!(six.whole);
    }

    #[test]
    fn a_fragment_of_ipv6_is_told_from_the_first() {
        let fragment = |offset: u8| v6(9, 44, &[58, 0, 0, offset, 0, 0, 0, 1, 1, 2, 3, 4]);
        assert!(!parse(&fragment(1)).unwrap().later_fragment);
        let later = parse(&fragment(8)).unwrap();
        assert!(later.later_fragment);
        assert_eq!((later.protocol, later.header_bytes), (58, 48));
    }

    #[test]
    fn what_is_not_as_long_as_it_says_is_refused() {
        let mut packet = v4(64, true, 17, b"12345678");
        packet.push(0);
        assert_eq!(parse(&packet), Err(Malformed::Length));
        assert_eq!(parse(&packet[..20]), Err(Malformed::Length));
        assert_eq!(parse(&[]), Err(Malformed::Version));
        assert_eq!(parse(&[0x15; 40]), Err(Malformed::Version));
    }

    proptest! {
        #[test]
        fn counting_down_keeps_the_checksum_right(ttl in 1_u8..=255, protocol: u8, payload in any::<[u8; 8]>()) {
            let mut packet = v4(ttl, false, protocol, &payload);
            count_down(&mut packet);
            prop_assert_eq!(packet[8], ttl - 1);
            prop_assert_eq!(checksum(&packet[..20]), 0);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, version in prop::sample::select(vec![0x45_u8, 0x4f, 0x60])) {
            let _ = parse(&bytes);
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            let length = u16::try_from(bytes.len()).unwrap_or(0);
            if bytes.len() >= 40 {
                let said = if version == 0x60 { (4, length - 40) } else { (2, length) };
                bytes[said.0..said.0 + 2].copy_from_slice(&said.1.to_be_bytes());
            }
            let _ = parse(&bytes);
        }
    }
}
