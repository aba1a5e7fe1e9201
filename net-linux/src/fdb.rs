//! Forwarding entries of a VXLAN device: behind which tunnel endpoint an Ethernet address is. Never an IP neighbour.
//!
//! The kernel keeps no owner for these: an entry is ours when its device is.

use crate::neigh::{NDA_DST, NDA_LLADDR, NDMSG_BYTES, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, ndmsg};
use crate::netlink::{Attrs, Batch, Header, Message, Result, Socket, wire};
use cni_core::model::MacAddr;
use std::fmt;
use std::net::IpAddr;

const AF_BRIDGE: u8 = 7;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 0x02;

/// A permanent forwarding entry of the device itself (`bridge fdb .. dev vxlan0 self permanent`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbEntry {
    /// The VXLAN device's index.
    pub index: u32,
    /// The Ethernet address; all zero is where unknown addresses go.
    pub mac: MacAddr,
    /// The tunnel endpoint.
    pub destination: IpAddr,
    /// Another UDP port than the device's.
    pub port: Option<u16>,
    /// Another network than the device's.
    pub vni: Option<u32>,
    /// Whether it stays until deleted; learned entries do not. Only read.
    pub permanent: bool,
}

impl fmt::Display for FdbEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forwarding entry {} to {} on link {}", self.mac, self.destination, self.index)
    }
}

impl FdbEntry {
    /// An entry with the device's port and network.
    #[must_use]
    pub fn new(index: u32, mac: MacAddr, destination: IpAddr) -> Self {
        Self { index, mac, destination, port: None, vni: None, permanent: true }
    }

    /// Adds a request that creates it; `EEXIST` when the address has one.
    pub fn create(&self, batch: &mut Batch) {
        self.write(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL);
    }

    /// Adds a request that makes it the only entry of its address.
    pub fn replace(&self, batch: &mut Batch) {
        self.write(batch, "replace", wire::NLM_F_CREATE | wire::NLM_F_REPLACE);
    }

    /// Adds a request for one more destination of the all-zero or a multicast address: it gets a copy each.
    pub fn append(&self, batch: &mut Batch) {
        self.write(batch, "append", wire::NLM_F_CREATE | wire::NLM_F_APPEND);
    }

    fn write(&self, batch: &mut Batch, operation: &'static str, flags: u16) {
        batch.add(operation, self, RTM_NEWNEIGH, flags, |message| self.write_body(message, NUD_NOARP | NUD_PERMANENT));
    }

    /// Adds a request that deletes it; `ENOENT` when it is gone.
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELNEIGH, 0, |message| self.write_body(message, 0));
    }

    fn write_body(&self, message: &mut Message<'_>, state: u16) {
        ndmsg(message, AF_BRIDGE, self.index, state, NTF_SELF);
        message.attr(NDA_LLADDR, &self.mac.0).ip(NDA_DST, self.destination);
        if let Some(port) = self.port {
            message.be16(NDA_PORT, port);
        }
        if let Some(vni) = self.vni {
            message.u32(NDA_VNI, vni);
        }
    }

    /// All entries of one device, filtered in the kernel.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, index: u32) -> Result<Vec<Self>> {
        let found = socket.dump(
            format_args!("forwarding entries of link {index}"),
            RTM_GETNEIGH,
            |message| ndmsg(message, AF_BRIDGE, index, 0, 0),
            parse,
        )?;
        // Kernels before 4.20 don't filter.
        Ok(found.into_iter().filter(|entry| entry.index == index).collect())
    }
}

/// Reads `RTM_NEWNEIGH`, and `RTM_DELNEIGH` of an event; `None` for IP neighbours and entries without a tunnel endpoint.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<FdbEntry> {
    let head = payload.get(..NDMSG_BYTES)?;
    if !matches!(header.kind, RTM_NEWNEIGH | RTM_DELNEIGH) || head[0] != AF_BRIDGE {
        return None;
    }
    let attributes = Attrs::after(payload, NDMSG_BYTES);
    Some(FdbEntry {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        mac: MacAddr(attributes.get(NDA_LLADDR)?.value.try_into().ok()?),
        destination: attributes.get(NDA_DST)?.ip()?,
        port: attributes.get(NDA_PORT).and_then(|port| port.be16()),
        vni: attributes.get(NDA_VNI).and_then(|vni| vni.u32()),
        permanent: u16::from_ne_bytes([head[8], head[9]]) & NUD_PERMANENT != 0,
    })
}
