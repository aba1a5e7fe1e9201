//! Addresses of devices. Never a neighbour's.

use crate::marks;
use crate::netlink::{Attrs, Batch, Header, Message, Result, Socket, wire};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
const IFA_PROTO: u16 = 11;

const IFA_F_NODAD: u32 = 0x02;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
const IFA_F_NOPREFIXROUTE: u32 = 0x200;

/// Bytes of `struct ifaddrmsg` (`include/uapi/linux/if_addr.h`).
const IFADDRMSG_BYTES: usize = 8;

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The device's index.
    pub index: u32,
    /// Address and prefix length.
    pub address: IpNet,
    /// Without a route to its prefix.
    pub no_prefix_route: bool,
    /// The kernel takes it as a packet's source only towards the address itself: IPv4 with scope host, IPv6 deprecated.
    pub never_source: bool,
    /// IPv6 duplicate address detection has not ended, or has failed: the address can't be used. Only read; what we
    /// write skips the detection.
    pub tentative: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {} on link {}", self.address, self.index)
    }
}

impl Address {
    /// An address that is usable at once.
    #[must_use]
    pub fn new(index: u32, address: IpNet) -> Self {
        Self { index, address, no_prefix_route: false, never_source: false, tentative: false }
    }

    /// Adds a request that creates it; the kernel answers `EEXIST` when it is there.
    pub fn create(&self, batch: &mut Batch) {
        self.write(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL);
    }

    /// Adds a request that creates or changes it.
    pub fn replace(&self, batch: &mut Batch) {
        self.write(batch, "replace", wire::NLM_F_CREATE | wire::NLM_F_REPLACE);
    }

    fn write(&self, batch: &mut Batch, operation: &'static str, flags: u16) {
        batch.add(operation, self, RTM_NEWADDR, flags, |message| {
            self.write_key(message);
            let dad = if self.address.addr().is_ipv6() { IFA_F_NODAD } else { 0 };
            let prefix_route = if self.no_prefix_route { IFA_F_NOPREFIXROUTE } else { 0 };
            message.u32(IFA_FLAGS, dad | prefix_route);
            // Ignored by kernels before 5.18.
            message.u8(IFA_PROTO, marks::PROTOCOL);
            if self.never_source && self.address.addr().is_ipv6() {
                // struct ifa_cacheinfo: preferred for no time, valid for ever.
                let mut lifetimes = [0; IFA_CACHEINFO_BYTES];
                lifetimes[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
                message.attr(IFA_CACHEINFO, &lifetimes);
            }
        });
    }

    /// Adds a request that deletes it; the kernel answers `EADDRNOTAVAIL` when it is gone.
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELADDR, 0, |message| self.write_key(message));
    }

    fn write_key(&self, message: &mut Message<'_>) {
        let address = self.address.addr();
        let mut head = [0; IFADDRMSG_BYTES];
        head[0] = family(address);
        head[1] = self.address.prefix_len();
        if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            head[3] = RT_SCOPE_LINK;
        }
        if self.never_source && address.is_ipv4() {
            head[3] = RT_SCOPE_HOST;
        }
        head[4..8].copy_from_slice(&self.index.to_ne_bytes());
        message.raw(&head).ip(IFA_LOCAL, address).ip(IFA_ADDRESS, address);
    }

    /// All addresses, of one device (`index`) or of all, filtered in the kernel.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn dump(socket: &mut Socket, index: Option<u32>) -> Result<Vec<Self>> {
        let mut head = [0; IFADDRMSG_BYTES];
        head[4..8].copy_from_slice(&index.unwrap_or(0).to_ne_bytes());
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            head[0] = family;
            found.extend(socket.dump(
                "addresses",
                RTM_GETADDR,
                |message| {
                    message.raw(&head);
                },
                parse,
            )?);
        }
        Ok(found)
    }
}

const RT_SCOPE_LINK: u8 = 253;
const RT_SCOPE_HOST: u8 = 254;
/// Bytes of `struct ifa_cacheinfo`.
const IFA_CACHEINFO_BYTES: usize = 16;
pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

/// The address family's number.
pub(crate) const fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

/// Reads `RTM_NEWADDR`, and `RTM_DELADDR` of an event.
pub(crate) fn parse(header: Header, payload: &[u8]) -> Option<Address> {
    let head = payload.get(..IFADDRMSG_BYTES)?;
    if !matches!(header.kind, RTM_NEWADDR | RTM_DELADDR) {
        return None;
    }
    let attributes = Attrs::after(payload, IFADDRMSG_BYTES);
    // IFA_ADDRESS is the far end of a point-to-point device; where there is IFA_LOCAL, that is ours.
    let address = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?.ip()?;
    let flags = attributes.get(IFA_FLAGS).and_then(|flags| flags.u32()).unwrap_or_else(|| head[2].into());
    Some(Address {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        address: IpNet::new(address, head[1]).ok()?,
        no_prefix_route: flags & IFA_F_NOPREFIXROUTE != 0,
        never_source: if address.is_ipv4() { head[3] == RT_SCOPE_HOST } else { flags & IFA_F_DEPRECATED != 0 },
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    })
}
