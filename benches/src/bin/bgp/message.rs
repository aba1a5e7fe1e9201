//! The few messages that a peer of the daemon needs. Never the codec of the speaker: a measurement must not trust what it
//! measures.

use std::net::Ipv4Addr;

const HEADER_BYTES: usize = 19;
const MOST_BYTES: usize = 4096;
/// IPv4 prefixes of 17 to 24 and of 25 to 32 bits on the wire.
const NLRI_BYTES: usize = 5;
/// Long enough that no keepalive is due while anything is measured.
pub(crate) const HOLD_SECONDS: u16 = 3600;

/// What is announced: the prefix of a number. All are of one length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Its first prefix.
    pub(crate) first: Ipv4Addr,
    /// 17 to 32.
    pub(crate) bits: u8,
}

impl Plan {
    /// /24 from 16.0.0.0 on, as in the Internet's table.
    pub(crate) const TABLE: Self = Self { first: Ipv4Addr::new(16, 0, 0, 0), bits: 24 };
    /// /26 from 32.0.0.0 on: blocks of the nodes of a cluster.
    pub(crate) const BLOCKS: Self = Self { first: Ipv4Addr::new(32, 0, 0, 0), bits: 26 };

    fn write(self, number: usize, to: &mut Vec<u8>) {
        let address = u32::from(self.first) + ((number as u32) << (32 - self.bits));
        to.push(self.bits);
        to.extend_from_slice(&address.to_be_bytes()[..usize::from(self.bits.div_ceil(8))]);
    }

    /// The number of a prefix as it is on the wire; none that we did not announce.
    fn number(self, bits: u8, bytes: &[u8]) -> Option<usize> {
        let mut octets = [0; 4];
        octets[..bytes.len()].copy_from_slice(bytes);
        let offset = u32::from_be_bytes(octets).checked_sub(u32::from(self.first))?;
        (bits == self.bits).then_some((offset >> (32 - bits)) as usize)
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend_from_slice(&((HEADER_BYTES + body.len()) as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// IPv4 unicast, four-byte numbers, route refresh.
pub(crate) fn open(asn: u16, id: Ipv4Addr) -> Vec<u8> {
    let asn4 = u32::from(asn).to_be_bytes();
    let capabilities = [&[1, 4, 0, 1, 0, 1][..], &[2, 0], &[65, 4], &asn4].concat();
    let mut body = vec![4];
    body.extend_from_slice(&asn.to_be_bytes());
    body.extend_from_slice(&HOLD_SECONDS.to_be_bytes());
    body.extend_from_slice(&id.octets());
    body.extend_from_slice(&[capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend_from_slice(&capabilities);
    message(1, &body)
}

pub(crate) fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// Who announces, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// Its system, put on the path when it is an external peer's.
    pub(crate) external_asn: Option<u16>,
    pub(crate) next_hop: Ipv4Addr,
}

/// One UPDATE for as many prefixes as fit, `most` at most, each UPDATE with a path of its own. Ends with End-of-RIB.
pub(crate) fn announcements(origin: Origin, plan: Plan, numbers: std::ops::Range<usize>, most: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = numbers.start;
    let mut path = 0_u32;
    while at < numbers.end {
        let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2];
        match origin.external_asn {
            // Four systems, the last ones made up, as on the Internet's mean path.
            Some(asn) => {
                attributes.extend_from_slice(&[18, 2, 4]);
                let beyond = [1_000_000 + path / 65_536, 100_000 + path % 65_536, 200_000 + path % 61];
                for asn in [u32::from(asn)].into_iter().chain(beyond) {
                    attributes.extend_from_slice(&asn.to_be_bytes());
                }
            }
            None => attributes.extend_from_slice(&[0, 0x40, 5, 4, 0, 0, 0, 100]),
        }
        attributes.extend_from_slice(&[0x40, 3, 4]);
        attributes.extend_from_slice(&origin.next_hop.octets());
        let mut body = vec![0, 0];
        body.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
        body.extend_from_slice(&attributes);
        let end = numbers.end.min(at + most);
        while at < end && HEADER_BYTES + body.len() + NLRI_BYTES <= MOST_BYTES {
            plan.write(at, &mut body);
            at += 1;
        }
        path += 1;
        bytes.extend_from_slice(&message(2, &body));
    }
    bytes.extend_from_slice(&message(2, &[0; 4]));
    bytes
}

/// As few UPDATEs as possible.
pub(crate) fn withdrawals(plan: Plan, numbers: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut numbers = numbers.peekable();
    while numbers.peek().is_some() {
        let mut body = vec![0, 0];
        while HEADER_BYTES + body.len() + NLRI_BYTES + 2 <= MOST_BYTES {
            let Some(number) = numbers.next() else { break };
            plan.write(number, &mut body);
        }
        let length = (body.len() - 2) as u16;
        body[..2].copy_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&message(2, &body));
    }
    bytes
}

/// What a message said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    Open,
    Keepalive,
    Update(&'a [u8]),
    /// Code and subcode.
    Notification(u8, u8),
    Other(u8),
}

/// Cuts the next whole message off the front of `bytes`.
pub(crate) fn next<'a>(bytes: &mut &'a [u8]) -> Option<Said<'a>> {
    let header = bytes.get(..HEADER_BYTES)?;
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let body = bytes.get(HEADER_BYTES..length)?;
    let kind = header[18];
    *bytes = &bytes[length..];
    Some(match kind {
        1 => Said::Open,
        2 => Said::Update(body),
        3 => Said::Notification(body.first().copied().unwrap_or_default(), body.get(1).copied().unwrap_or_default()),
        4 => Said::Keepalive,
        other => Said::Other(other),
    })
}

/// Every prefix of an UPDATE that is of the plan: its number, and whether it is announced.
pub(crate) fn prefixes(update: &[u8], plan: Plan, mut tell: impl FnMut(usize, bool)) {
    let length = |at: usize| usize::from(u16::from_be_bytes([update[at], update[at + 1]]));
    let withdrawn = length(0);
    let attributes = length(2 + withdrawn);
    let lists = [(&update[2..2 + withdrawn], false), (&update[4 + withdrawn + attributes..], true)];
    for (mut list, announced) in lists {
        while let [bits, rest @ ..] = list {
            let (bytes, beyond) = rest.split_at(usize::from(bits.div_ceil(8)));
            list = beyond;
            if let Some(number) = plan.number(*bits, bytes) {
                tell(number, announced);
            }
        }
    }
}
