//! Frames of every kind that programs tell apart, and frames read back, by a reader of the tests' own. Never a check.

use crate::frames::Frame;
use std::net::IpAddr;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const ESP: u8 = 50;

/// IPv6 extension headers: hop-by-hop options, a route, a fragment, authentication, options of the destination.
const HOPS: u8 = 0;
const ROUTE: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const OPTIONS: u8 = 60;

/// The port that clients send from, and the one that is open.
pub(super) const FROM: u16 = 55_555;
pub(super) const OPEN: u16 = 53;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp,
    Udp,
    UdpLite,
    Sctp,
    /// An echo that asks.
    Echo,
    /// An error about what the receiver sent.
    Error,
    /// Neighbours, or a protocol without ports.
    Other,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Tcp, Self::Udp, Self::UdpLite, Self::Sctp, Self::Echo, Self::Error, Self::Other];

    pub(super) fn number(self, v4: bool) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
            Self::UdpLite => UDP_LITE,
            Self::Sctp => SCTP,
            Self::Echo | Self::Error => icmp(v4),
            Self::Other => ESP,
        }
    }

    /// Bytes of its header that policy asks for: ports; TCP's flags; a message with its identifier.
    pub(super) fn asked(self) -> usize {
        match self {
            Self::Tcp => 14,
            Self::Udp | Self::UdpLite | Self::Sctp => 4,
            Self::Echo | Self::Error => 8,
            Self::Other => 0,
        }
    }

    fn payload(self, from: IpAddr, to: IpAddr) -> Vec<u8> {
        let v4 = from.is_ipv4();
        let mut payload = match self {
            // With 12 bytes of options, and SYN.
            Self::Tcp => {
                [ports(FROM, OPEN), vec![0, 0, 0, 1, 0, 0, 0, 0, 0x80, 2, 1, 0, 0, 0, 0, 0], vec![1; 12]].concat()
            }
            Self::Udp | Self::UdpLite => [ports(FROM, OPEN), vec![0, 16, 0, 0]].concat(),
            Self::Sctp => [ports(FROM, OPEN), vec![0; 8], vec![1, 0, 0, 20], vec![0; 16]].concat(),
            Self::Echo => vec![if v4 { 8 } else { 128 }, 0, 0, 0, 0xd9, 3, 0, 1],
            Self::Error => {
                let quoted = Frame::new(to, from, UDP, [ports(OPEN, FROM), vec![0, 8, 0, 0]].concat()).bytes();
                [&[if v4 { 3 } else { 1 }, 1, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat()
            }
            Self::Other => vec![0; 8],
        };
        payload.extend(b"payload.");
        payload
    }
}

const fn icmp(v4: bool) -> u8 {
    if v4 { 1 } else { 58 }
}

fn ports(from: u16, to: u16) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

/// One of this kind, without options.
pub(super) fn plain(kind: Kind, from: IpAddr, to: IpAddr) -> Frame {
    Frame::new(from, to, kind.number(from.is_ipv4()), kind.payload(from, to))
}

/// The same in each way that headers can stand before it.
pub(super) fn twisted(kind: Kind, from: IpAddr, to: IpAddr) -> Vec<Frame> {
    let frame = plain(kind, from, to);
    if from.is_ipv4() {
        return [0, 12, 40].map(|options| Frame { options: vec![1; options], ..frame.clone() }).to_vec();
    }
    let (short, long) = (vec![0; 7], [vec![2], vec![0; 22]].concat());
    let whole = [vec![0; 3], vec![0, 0, 0, 9]].concat();
    [
        vec![],
        vec![(HOPS, short.clone()), (OPTIONS, long.clone())],
        // It counts in words of four bytes, two less.
        vec![(ROUTE, short.clone()), (AUTHENTICATION, [vec![4], vec![0; 22]].concat())],
        // A packet that says it is a fragment and is whole. RFC 6946.
        vec![(FRAGMENT, whole), (OPTIONS, short)],
    ]
    .map(|extensions| Frame { extensions, ..frame.clone() })
    .to_vec()
}

/// Where the protocol's header begins in a frame.
pub(super) fn upper(frame: &Frame) -> usize {
    frame.bytes().len() - frame.payload.len()
}

/// The kernel itself refuses to try a frame without a whole IP header, and one with nothing behind its Ethernet header.
pub(super) fn shortest(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => 14 + 20,
        [0x86, 0xdd] => 14 + 40,
        _ => 15,
    }
}

/// A packet as a receiver would read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// What is behind all headers of IP; `None`: they are not all there.
    pub(super) upper: Option<Upper>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Upper {
    pub(super) protocol: u8,
    pub(super) at: usize,
    /// It has no header of the protocol.
    pub(super) is_later: bool,
}

/// `None`: no packet of IP.
pub(super) fn read(frame: &[u8]) -> Option<Read> {
    match frame[12..14] {
        [0x08, 0x00] => {
            let header = frame.get(14..34)?;
            let words = usize::from(header[0] & 15);
            if header[0] >> 4 != 4 || words < 5 {
                return None;
            }
            let is_later = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
            let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).unwrap());
            let upper = Upper { protocol: header[9], at: 14 + 4 * words, is_later };
            Some(Read { source: address(12), destination: address(16), upper: Some(upper) })
        }
        [0x86, 0xdd] => {
            let header = frame.get(14..54)?;
            let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap());
            (header[0] >> 4 == 6).then(|| Read {
                source: address(8),
                destination: address(24),
                upper: behind_extensions(frame, header[6]),
            })
        }
        _ => None,
    }
}

fn behind_extensions(frame: &[u8], first: u8) -> Option<Upper> {
    let (mut protocol, mut at) = (first, 54);
    loop {
        let units = |bytes: &[u8]| usize::from(bytes[1]);
        let length = match protocol {
            HOPS | ROUTE | OPTIONS => 8 * (units(frame.get(at..at + 2)?) + 1),
            AUTHENTICATION => 4 * (units(frame.get(at..at + 2)?) + 2),
            FRAGMENT => {
                let header = frame.get(at..at + 8)?;
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return Some(Upper { protocol: header[0], at: at + 8, is_later: true });
                }
                8
            }
            _ => return Some(Upper { protocol, at, is_later: false }),
        };
        protocol = frame[at];
        at += length;
    }
}
