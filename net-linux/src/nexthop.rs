//! Next-hop objects: device and gateway once, for many routes (Linux 5.3). Never the routes.

use crate::addr::{AF_INET, AF_INET6, family};
use crate::marks;
use crate::netlink::{Attr, Attrs, Batch, Header, Result, Socket, wire};
use crate::route::{RTNH_F_ONLINK, TunnelKey};
use std::fmt;
use std::net::IpAddr;

pub(crate) const RTM_NEWNEXTHOP: u16 = 104;
pub(crate) const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_ENCAP: u16 = 8;

/// Bytes of `struct nhmsg` (`include/uapi/linux/nexthop.h`).
const NHMSG_BYTES: usize = 8;
/// Bytes of `struct nexthop_grp`.
const GROUP_ENTRY_BYTES: usize = 8;

/// Where a next-hop object leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hop {
    /// Through a device, to a gateway or to what is on its link.
    Device {
        /// The device's index.
        index: u32,
        /// The gateway; `None` needs the family of the routes.
        via: Option<IpAddr>,
        /// The gateway is on the device's link, whatever other routes say.
        onlink: bool,
        /// Whether routes of IPv6 use it (it decides the family where there is no gateway).
        ipv6: bool,
        /// The tunnel of a packet, for a device that collects metadata.
        tunnel: Option<TunnelKey>,
    },
    /// To several others, by weight (1 to 255; more bits from Linux 6.12 are not used).
    Group(Vec<(u32, u8)>),
    /// Nowhere.
    Blackhole {
        /// Whether routes of IPv6 use it.
        ipv6: bool,
    },
}

/// A next-hop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Its id, not 0.
    pub id: u32,
    /// Who made it.
    pub protocol: u8,
    /// Where it leads.
    pub hop: Hop,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nexthop {:#x}", self.id)
    }
}

impl NextHop {
    /// An object of ours.
    #[must_use]
    pub fn new(id: u32, hop: Hop) -> Self {
        Self { id, protocol: marks::PROTOCOL, hop }
    }

    /// To a gateway on the link of a device.
    #[must_use]
    pub fn via(id: u32, via: IpAddr, index: u32) -> Self {
        Self::new(id, Hop::Device { index, via: Some(via), onlink: true, ipv6: via.is_ipv6(), tunnel: None })
    }

    /// Whether it carries our mark.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.protocol == marks::PROTOCOL
    }

    /// Adds a request that creates it; `EEXIST` when the id is taken.
    pub fn create(&self, batch: &mut Batch) {
        self.write(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL);
    }

    /// Adds a request that creates it or changes it under all routes that use it.
    pub fn replace(&self, batch: &mut Batch) {
        self.write(batch, "replace", wire::NLM_F_CREATE | wire::NLM_F_REPLACE);
    }

    fn write(&self, batch: &mut Batch, operation: &'static str, flags: u16) {
        batch.add(operation, self, RTM_NEWNEXTHOP, flags, |message| {
            let mut head = [0; NHMSG_BYTES];
            head[2] = self.protocol;
            match &self.hop {
                Hop::Group(members) => {
                    message.raw(&head).u32(NHA_ID, self.id);
                    let mut value = Vec::with_capacity(members.len() * GROUP_ENTRY_BYTES);
                    for (id, weight) in members {
                        value.extend_from_slice(&id.to_ne_bytes());
                        // The kernel counts from one: 0 is weight 1.
                        value.extend_from_slice(&[weight.saturating_sub(1), 0, 0, 0]);
                    }
                    message.attr(NHA_GROUP, &value);
                }
                Hop::Blackhole { ipv6 } => {
                    head[0] = if *ipv6 { AF_INET6 } else { AF_INET };
                    message.raw(&head).u32(NHA_ID, self.id).attr(NHA_BLACKHOLE, &[]);
                }
                Hop::Device { index, via, onlink, ipv6, tunnel } => {
                    head[0] = via.map_or(if *ipv6 { AF_INET6 } else { AF_INET }, family);
                    let flags = if *onlink { RTNH_F_ONLINK } else { 0 };
                    head[4..8].copy_from_slice(&flags.to_ne_bytes());
                    message.raw(&head).u32(NHA_ID, self.id).u32(NHA_OIF, *index);
                    if let Some(via) = via {
                        message.ip(NHA_GATEWAY, *via);
                    }
                    if let Some(tunnel) = tunnel {
                        tunnel.write(message, NHA_ENCAP_TYPE, NHA_ENCAP);
                    }
                }
            }
        });
    }

    /// Adds a request that deletes it, with all routes through it; `ENOENT` when it is gone. The kernel does not look at
    /// the mark.
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELNEXTHOP, 0, |message| {
            message.raw(&[0; NHMSG_BYTES]).u32(NHA_ID, self.id);
        });
    }

    /// All objects, of one device (`index`, filtered in the kernel) or of all, whoever's they are.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, index: Option<u32>) -> Result<Vec<Self>> {
        socket.dump(
            "nexthops",
            RTM_GETNEXTHOP,
            |message| {
                message.raw(&[0; NHMSG_BYTES]);
                if let Some(index) = index {
                    message.u32(NHA_OIF, index);
                }
            },
            parse,
        )
    }
}

/// Reads `RTM_NEWNEXTHOP`, and `RTM_DELNEXTHOP` of an event; `None` for objects without device, group or black hole
/// (those of a bridge's forwarding table).
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<NextHop> {
    let head = payload.get(..NHMSG_BYTES)?;
    if !matches!(header.kind, RTM_NEWNEXTHOP | RTM_DELNEXTHOP) {
        return None;
    }
    let attributes = Attrs::after(payload, NHMSG_BYTES);
    let flags = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    let ipv6 = head[0] == AF_INET6;
    let hop = if let Some(group) = attributes.get(NHA_GROUP) {
        Hop::Group(group.value.as_chunks().0.iter().map(group_member).collect())
    } else if attributes.get(NHA_BLACKHOLE).is_some() {
        Hop::Blackhole { ipv6 }
    } else {
        let kind = attributes.get(NHA_ENCAP_TYPE).and_then(|kind| kind.u16());
        Hop::Device {
            index: attributes.get(NHA_OIF)?.u32()?,
            via: attributes.get(NHA_GATEWAY).and_then(|via: Attr<'_>| via.ip()),
            onlink: flags & RTNH_F_ONLINK != 0,
            ipv6,
            tunnel: attributes.get(NHA_ENCAP).and_then(|nest| TunnelKey::read(kind, nest)),
        }
    };
    Some(NextHop { id: attributes.get(NHA_ID)?.u32()?, protocol: head[2], hop })
}

fn group_member(entry: &[u8; GROUP_ENTRY_BYTES]) -> (u32, u8) {
    (u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]), entry[4].saturating_add(1))
}
