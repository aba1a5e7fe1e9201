//! The headers of a packet from its first bytes. Never a packet's meaning: what was decided about it stands elsewhere.

use super::record::{Icmp, TcpFlags};
use crate::policy::model::Protocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many extension headers of IPv6 are passed over.
const MOST_HEADERS: usize = 8;
/// Extension headers of IPv6: hop by hop, routing, fragment, authentication, destination options, mobility. RFC 8200,
/// section 4; RFC 7045, section 4.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// What the headers say. Ports, message and flags are missing where the bytes end before them, and in later fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Who sends.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol above IP.
    pub protocol: Protocol,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
    /// The message.
    pub icmp: Option<Icmp>,
    /// The flags of TCP.
    pub tcp_flags: Option<TcpFlags>,
    /// The packet's length in bytes as its header says, with that header.
    pub bytes: u64,
}

impl Packet {
    /// Reads a packet that begins with the network's header. The end may be missing. `None`: the network's header is not all
    /// there, or of no version of IP.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => read_v4(bytes),
            6 => read_v6(bytes),
            _ => None,
        }
    }

    fn with_transport(mut self, header: &[u8]) -> Self {
        if self.protocol.has_ports()
            && let Some([a, b, c, d]) = header.first_chunk()
        {
            self.ports = Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
        }
        match self.protocol {
            Protocol::TCP => self.tcp_flags = header.get(13).map(|flags| TcpFlags(*flags)),
            Protocol::ICMP | Protocol::ICMPV6 => {
                self.icmp = header.first_chunk().map(|[kind, code]| Icmp { kind: *kind, code: *code });
            }
            _ => {}
        }
        self
    }
}

/// RFC 791, section 3.1.
fn read_v4(bytes: &[u8]) -> Option<Packet> {
    let header = bytes.first_chunk::<20>()?;
    let address = |from: usize| IpAddr::V4(Ipv4Addr::from(part::<4>(header, from)));
    let packet = Packet {
        source: address(12),
        destination: address(16),
        protocol: Protocol(header[9]),
        ports: None,
        icmp: None,
        tcp_flags: None,
        bytes: u64::from(u16::from_be_bytes([header[2], header[3]])),
    };
    let begin = usize::from(header[0] & 0xf) * 4;
    let later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let transport = if later_fragment { None } else { bytes.get(begin.max(20)..) };
    Some(packet.with_transport(transport.unwrap_or_default()))
}

/// RFC 8200, section 3.
fn read_v6(bytes: &[u8]) -> Option<Packet> {
    let header = bytes.first_chunk::<40>()?;
    let address = |from: usize| IpAddr::V6(Ipv6Addr::from(part::<16>(header, from)));
    let (mut next, mut rest, mut later_fragment) = (header[6], &bytes[40..], false);
    for _ in 0..MOST_HEADERS {
        let length = match (next, rest) {
            (HOP_BY_HOP | ROUTING | OPTIONS | MOBILITY, [_, length, ..]) => usize::from(*length) * 8 + 8,
            (AUTHENTICATION, [_, length, ..]) => usize::from(*length) * 4 + 8,
            (FRAGMENT, [_, _, high, low, ..]) => {
                later_fragment |= u16::from_be_bytes([*high, *low]) & 0xfff8 != 0;
                8
            }
            _ => break,
        };
        next = rest[0];
        rest = rest.get(length..).unwrap_or_default();
        if later_fragment {
            break;
        }
    }
    let packet = Packet {
        source: address(8),
        destination: address(24),
        protocol: Protocol(next),
        ports: None,
        icmp: None,
        tcp_flags: None,
        bytes: u64::from(u16::from_be_bytes([header[4], header[5]])) + 40,
    };
    Some(packet.with_transport(if later_fragment { &[] } else { rest }))
}

fn part<const N: usize>(header: &[u8], from: usize) -> [u8; N] {
    std::array::from_fn(|index| header[from + index])
}
