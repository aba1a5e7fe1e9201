//! Frames with right checksums, and frames read back with their checksums looked at. Never sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const UDP_LITE: u8 = 136;

/// TCP's flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// What is above IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Above {
    /// Ports and flags.
    Tcp(u16, u16, u8),
    /// Ports, and whether there is a checksum.
    Udp(u16, u16, bool),
    UdpLite(u16, u16),
    /// Whether it asks, and the identifier.
    Echo(bool, u16),
    /// An ICMP error by type and code.
    Error(u8, u8),
    /// Another protocol.
    Other(u8),
}

/// A packet in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) above: Above,
    pub(crate) payload: Vec<u8>,
    /// Words of IPv4 options, or of a destination options header.
    pub(crate) options: usize,
    /// Offset in units of 8 bytes, whether more follow, identification.
    pub(crate) fragment: Option<(u16, bool, u16)>,
}

impl Frame {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, above: Above) -> Self {
        Self { source, destination, above, payload: b"payload".to_vec(), options: 0, fragment: None }
    }

    pub(crate) fn protocol(&self) -> u8 {
        match self.above {
            Above::Tcp(..) => TCP,
            Above::Udp(..) => UDP,
            Above::UdpLite(..) => UDP_LITE,
            Above::Echo(..) | Above::Error(..) if self.source.is_ipv4() => ICMP,
            Above::Echo(..) | Above::Error(..) => ICMPV6,
            Above::Other(number) => number,
        }
    }

    fn message(&self, asks: bool) -> u8 {
        match (self.source.is_ipv4(), asks) {
            (true, true) => 8,
            (true, false) => 0,
            (false, true) => 128,
            (false, false) => 129,
        }
    }

    /// The header above IP and the payload.
    fn upper(&self) -> Vec<u8> {
        let is_later = self.fragment.is_some_and(|(offset, ..)| offset > 0);
        if is_later {
            return self.payload.clone();
        }
        let ports = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes()].concat();
        let (mut bytes, sum_at) = match self.above {
            Above::Tcp(from, to, flags) => {
                ([ports(from, to), vec![0; 8], vec![0x50, flags, 1, 0, 0, 0, 0, 0]].concat(), Some(16))
            }
            Above::Udp(from, to, has_sum) => {
                let length = u16::try_from(8 + self.payload.len()).unwrap().to_be_bytes();
                ([ports(from, to), length.to_vec(), vec![0; 2]].concat(), has_sum.then_some(6))
            }
            Above::UdpLite(from, to) => ([ports(from, to), vec![0; 4]].concat(), Some(6)),
            Above::Echo(asks, id) => {
                ([vec![self.message(asks), 0, 0, 0], id.to_be_bytes().to_vec(), vec![0, 1]].concat(), Some(2))
            }
            Above::Error(kind, code) => (vec![kind, code, 0, 0, 0, 0, 5, 0xdc], Some(2)),
            Above::Other(_) => (vec![0; 8], None),
        };
        bytes.extend(&self.payload);
        if let Some(at) = sum_at {
            let sum = match !ones(&[self.pseudo(bytes.len()), bytes.clone()].concat()) {
                0 if matches!(self.above, Above::Udp(..) | Above::UdpLite(..)) => 0xffff,
                sum => sum,
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The pseudo header: RFC 9293, section 3.1; RFC 8200, section 8.1.
    fn pseudo(&self, length: usize) -> Vec<u8> {
        if self.protocol() == ICMP {
            return Vec::new();
        }
        let length = u32::try_from(length).unwrap().to_be_bytes();
        [octets(self.source), octets(self.destination), length.to_vec(), vec![0, 0, 0, self.protocol()]].concat()
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(self.packet());
        frame
    }

    /// Without the link's header.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let upper = self.upper();
        let (offset, more, id) = self.fragment.unwrap_or((0, false, 0x1234));
        if self.source.is_ipv4() {
            let length = 20 + 4 * self.options;
            let total = u16::try_from(length + upper.len()).unwrap().to_be_bytes();
            let place = (offset | if more { 0x2000 } else { 0 }).to_be_bytes();
            let words = u8::try_from(length / 4).unwrap();
            let mut header = vec![0x40 | words, 0, total[0], total[1]];
            header.extend(id.to_be_bytes());
            header.extend(place);
            header.extend([64, self.protocol(), 0, 0]);
            header.extend(octets(self.source));
            header.extend(octets(self.destination));
            header.extend(vec![1; 4 * self.options]);
            let sum = !ones(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            return [header, upper].concat();
        }
        let mut extensions = Vec::new();
        let mut next = self.protocol();
        if self.fragment.is_some() {
            let place = (offset << 3 | u16::from(more)).to_be_bytes();
            extensions = [vec![next, 0, place[0], place[1], 0, 0], id.to_be_bytes().to_vec()].concat();
            next = 44;
        }
        if self.options > 0 {
            // PadN over the whole header.
            extensions = [vec![next, 0, 1, 4, 0, 0, 0, 0], extensions].concat();
            next = 60;
        }
        let length = u16::try_from(extensions.len() + upper.len()).unwrap().to_be_bytes();
        let header = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
        [header, octets(self.source), octets(self.destination), extensions, upper].concat()
    }

    /// Where the protocol's checksum ends in the frame.
    pub(crate) fn sum_ends(&self) -> usize {
        let header = if self.source.is_ipv4() { 20 + 4 * self.options } else { 40 + 8 * self.options.min(1) };
        let fragment = if self.source.is_ipv6() && self.fragment.is_some() { 8 } else { 0 };
        let sum = match self.above {
            Above::Tcp(..) => 18,
            // Messages are read up to their identifier, and beyond.
            _ => 8,
        };
        14 + header + fragment + sum
    }

    /// The frame of the same packet with other ends. Addresses and ports that are not changed stay.
    pub(crate) fn with(&self, source: (IpAddr, u16), destination: (IpAddr, u16)) -> Self {
        let above = match self.above {
            Above::Tcp(_, _, flags) => Above::Tcp(source.1, destination.1, flags),
            Above::Udp(_, _, sum) => Above::Udp(source.1, destination.1, sum),
            Above::UdpLite(..) => Above::UdpLite(source.1, destination.1),
            Above::Echo(asks, _) => Above::Echo(asks, if asks { source.1 } else { destination.1 }),
            ref other => other.clone(),
        };
        Self { source: source.0, destination: destination.0, above, ..self.clone() }
    }

    /// Source and destination port; of an echo the identifier and 0, in the order of who asked.
    pub(crate) fn ports(&self) -> (u16, u16) {
        match self.above {
            Above::Tcp(from, to, _) | Above::Udp(from, to, _) | Above::UdpLite(from, to) => (from, to),
            Above::Echo(true, id) => (id, 0),
            Above::Echo(false, id) => (0, id),
            Above::Error(..) | Above::Other(_) => (0, 0),
        }
    }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The ones' complement sum. RFC 1071.
fn ones(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// The source port of a frame without options, and its addresses.
pub(crate) fn source_of(frame: &[u8], above: &Above) -> (IpAddr, u16) {
    let (address, upper): (IpAddr, usize) = if frame[12..14] == [8, 0] {
        let v4: [u8; 4] = frame[26..30].try_into().unwrap();
        (Ipv4Addr::from(v4).into(), 14 + usize::from(frame[14] & 15) * 4)
    } else {
        let v6: [u8; 16] = frame[22..38].try_into().unwrap();
        let extensions = match frame[20] {
            60 if frame[54] == 44 => 16,
            60 | 44 => 8,
            _ => 0,
        };
        (Ipv6Addr::from(v6).into(), 54 + extensions)
    };
    let at = upper + if matches!(above, Above::Echo(..)) { 4 } else { 0 };
    (address, u16::from_be_bytes([frame[at], frame[at + 1]]))
}
