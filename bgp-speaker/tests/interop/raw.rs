//! A peer that says what a test wants, byte by byte. Never with code of the speaker that it talks to.

use net_linux::netns::NetNs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;
const HEADER_BYTES: usize = 19;

/// A message: marker, length, type, body. RFC 4271, section 4.1.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADER_BYTES + body.len()).unwrap();
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

/// An OPEN with a hold time of 90 s and nothing but IPv4 unicast.
pub(crate) fn open(asn: u16, id: Ipv4Addr) -> Vec<u8> {
    let capability = [2, 6, 1, 4, 0, 1, 0, 1];
    let length = [u8::try_from(capability.len()).unwrap()];
    message(OPEN, &[&[4][..], &asn.to_be_bytes(), &[0, 90], &id.octets(), &length, &capability].concat())
}

/// An UPDATE of prefixes with one path, and a mark to tell one announcement of them from another.
pub(crate) fn update(asn: u16, next_hop: Ipv4Addr, mark: u16, prefixes: &[(Ipv4Addr, u8)]) -> Vec<u8> {
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 4, 2, 1];
    attributes.extend(asn.to_be_bytes());
    attributes.extend([0x40, 3, 4]);
    attributes.extend(next_hop.octets());
    // A community: what everybody passes on.
    attributes.extend([0xc0, 8, 4]);
    attributes.extend(asn.to_be_bytes());
    attributes.extend(mark.to_be_bytes());
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    for (address, bits) in prefixes {
        body.push(*bits);
        body.extend(&address.octets()[..usize::from(bits.div_ceil(8))]);
    }
    message(UPDATE, &body)
}

/// UPDATEs of `count` /24 prefixes from 64.0.0.0 on.
pub(crate) fn many(asn: u16, next_hop: Ipv4Addr, mark: u16, count: u32) -> Vec<u8> {
    let prefixes: Vec<(Ipv4Addr, u8)> = (0..count).map(|at| (Ipv4Addr::from(0x4000_0000 + (at << 8)), 24)).collect();
    prefixes.chunks(900).flat_map(|prefixes| update(asn, next_hop, mark, prefixes)).collect()
}

/// A connection to our speaker.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(namespace: &NetNs, ours: IpAddr) -> io::Result<Self> {
        let to = SocketAddr::new(ours, 179);
        let stream = namespace.open_inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))).unwrap()?;
        Self::of(stream)
    }

    /// Of a connection that stands.
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Connects and greets until a session stands: the speaker may just have a connection of its own, or be waiting.
    pub(crate) fn establish(namespace: &NetNs, ours: IpAddr, asn: u16, id: Ipv4Addr) -> Self {
        let start = Instant::now();
        loop {
            if let Ok(mut raw) = Self::connect(namespace, ours)
                && raw.send(&[open(asn, id), message(KEEPALIVE, &[])].concat()).is_ok()
                && raw.read_until(KEEPALIVE).is_ok()
            {
                return raw;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "no session");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next message: its type and its body.
    pub(crate) fn read(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            if let Some(length) = self.buffer.get(16..18) {
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if self.buffer.len() >= length {
                    let rest = self.buffer.split_off(length);
                    let whole = std::mem::replace(&mut self.buffer, rest);
                    return Ok((whole[18], whole[HEADER_BYTES..].to_vec()));
                }
            }
            let mut piece = [0; 65_536];
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Reads on to a message of a type, and gives its body.
    pub(crate) fn read_until(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            match self.read()? {
                (kind, body) if kind == wanted => return Ok(body),
                (NOTIFICATION, _) => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
    }

    /// Code and subcode of the NOTIFICATION before the end, if there is one.
    pub(crate) fn read_notification(&mut self) -> Option<[u8; 2]> {
        loop {
            match self.read() {
                Ok((NOTIFICATION, body)) => return Some([*body.first()?, *body.get(1)?]),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}
