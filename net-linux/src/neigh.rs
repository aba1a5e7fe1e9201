//! Neighbours: which Ethernet address an IP address has. Never a bridge's or a VXLAN device's forwarding entries.

use crate::addr::{AF_INET, AF_INET6, family};
use crate::marks;
use crate::netlink::{Attrs, Batch, Header, Message, Result, Socket, wire};
use cni_core::model::MacAddr;
use std::fmt;
use std::net::IpAddr;

pub(crate) const RTM_NEWNEIGH: u16 = 28;
pub(crate) const RTM_DELNEIGH: u16 = 29;
pub(crate) const RTM_GETNEIGH: u16 = 30;

pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
const NDA_PROTOCOL: u16 = 12;

const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_PROXY: u8 = 0x08;

/// Bytes of `struct ndmsg` (`include/uapi/linux/neighbour.h`).
pub(crate) const NDMSG_BYTES: usize = 12;

/// How the kernel treats a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Never expires, never asked for.
    Permanent,
    /// Needs no resolution (`NUD_NOARP`).
    NoArp,
    /// Found by ARP or neighbour discovery: nobody's property.
    Dynamic,
}

/// A neighbour on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The device's index.
    pub index: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address; `None` while unresolved.
    pub mac: Option<MacAddr>,
    /// How the kernel treats it.
    pub state: NeighbourState,
    /// Who made it (`NDA_PROTOCOL`, Linux 5.0); 0 for unknown.
    pub protocol: u8,
}

impl fmt::Display for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neighbour {} on link {}", self.address, self.index)
    }
}

impl Neighbour {
    /// A permanent neighbour with our mark.
    #[must_use]
    pub fn permanent(index: u32, address: IpAddr, mac: MacAddr) -> Self {
        Self { index, address, mac: Some(mac), state: NeighbourState::Permanent, protocol: marks::PROTOCOL }
    }

    /// The permanent ones of a device of ours: the address, and the Ethernet address where it is as we write it.
    pub fn permanent_on(all: &[Self], index: u32) -> impl Iterator<Item = (IpAddr, Option<MacAddr>)> {
        let permanent = move |found: &&Self| found.index == index && found.state == NeighbourState::Permanent;
        all.iter().filter(permanent).map(|found| (found.address, found.mac.filter(|_| found.is_ours())))
    }

    /// Whether it carries our mark.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == marks::PROTOCOL
    }

    /// Adds a request that creates it; the kernel answers `EEXIST` when there is one, even a dynamic one.
    pub fn create(&self, batch: &mut Batch) {
        self.write(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL);
    }

    /// Adds a request that creates or changes it.
    pub fn replace(&self, batch: &mut Batch) {
        self.write(batch, "replace", wire::NLM_F_CREATE | wire::NLM_F_REPLACE);
    }

    fn write(&self, batch: &mut Batch, operation: &'static str, flags: u16) {
        batch.add(operation, self, RTM_NEWNEIGH, flags, |message| {
            let state = if self.state == NeighbourState::NoArp { NUD_NOARP } else { NUD_PERMANENT };
            ndmsg(message, family(self.address), self.index, state, 0);
            message.ip(NDA_DST, self.address).u8(NDA_PROTOCOL, self.protocol);
            if let Some(mac) = self.mac {
                message.attr(NDA_LLADDR, &mac.0);
            }
        });
    }

    /// Adds a request that deletes it; the kernel answers `ENOENT` when it is gone. It does not look at the mark.
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELNEIGH, 0, |message| {
            ndmsg(message, family(self.address), self.index, 0, 0);
            message.ip(NDA_DST, self.address);
        });
    }

    /// All neighbours, of one device (`index`, filtered in the kernel) or of all. Dynamic ones too.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, index: Option<u32>) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            found.extend(socket.dump(
                "neighbours",
                RTM_GETNEIGH,
                |message| {
                    ndmsg(message, family, 0, 0, 0);
                    if let Some(index) = index {
                        message.u32(NDA_IFINDEX, index);
                    }
                },
                parse,
            )?);
        }
        Ok(found)
    }
}

/// Writes `struct ndmsg`.
pub(crate) fn ndmsg(message: &mut Message<'_>, family: u8, index: u32, state: u16, flags: u8) {
    let mut bytes = [0; NDMSG_BYTES];
    bytes[0] = family;
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..10].copy_from_slice(&state.to_ne_bytes());
    bytes[10] = flags;
    message.raw(&bytes);
}

/// Reads `RTM_NEWNEIGH`, and `RTM_DELNEIGH` of an event; `None` for forwarding entries, proxies and multicast entries
/// that the kernel keeps for itself.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<Neighbour> {
    let head = payload.get(..NDMSG_BYTES)?;
    let known = matches!(header.kind, RTM_NEWNEIGH | RTM_DELNEIGH) && matches!(head[0], AF_INET | AF_INET6);
    if !known || head[10] & NTF_PROXY != 0 {
        return None;
    }
    let attributes = Attrs::after(payload, NDMSG_BYTES);
    let state = u16::from_ne_bytes([head[8], head[9]]);
    Some(Neighbour {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        address: attributes.get(NDA_DST)?.ip()?,
        mac: attributes.get(NDA_LLADDR).and_then(|mac| mac.value.try_into().ok().map(MacAddr)),
        state: match state {
            _ if state & NUD_PERMANENT != 0 => NeighbourState::Permanent,
            _ if state & NUD_NOARP != 0 => NeighbourState::NoArp,
            _ => NeighbourState::Dynamic,
        },
        protocol: attributes.get(NDA_PROTOCOL).and_then(|protocol| protocol.u8()).unwrap_or(0),
    })
}
