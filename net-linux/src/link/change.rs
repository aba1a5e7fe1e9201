//! Changing and deleting devices that are there. Never makes one.

use super::{
    AF_INET6, IFF_NOARP, IFF_UP, IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME,
    IFLA_INET6_ADDR_GEN_MODE, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD,
    IN6_ADDR_GEN_MODE_NONE, RTM_DELLINK, RTM_NEWLINK, ifinfomsg, vxlan,
};
use crate::netlink::{Batch, Message, Result, Socket};
use cni_core::model::MacAddr;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkId<'a> {
    /// By index.
    Index(u32),
    /// By name.
    Name(&'a str),
}

impl fmt::Display for LinkId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "link {index}"),
            Self::Name(name) => write!(f, "link {name}"),
        }
    }
}

impl LinkId<'_> {
    pub(super) fn write(&self, message: &mut Message<'_>, flags: u32, change: u32) {
        match self {
            Self::Index(index) => ifinfomsg(message, *index, flags, change),
            Self::Name(name) => {
                ifinfomsg(message, 0, flags, change);
                message.text(IFLA_IFNAME, name);
            }
        }
    }

    /// Adds a request that deletes the device (of a veth: both ends). The kernel waits for grace periods, about 30 ms:
    /// for many use [`super::delete_group`].
    pub fn delete(&self, batch: &mut Batch) {
        batch.add("delete", self, RTM_DELLINK, 0, |message| self.write(message, 0, 0));
    }

    /// Deletes the device, if it is there.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed.
    pub fn remove(&self, socket: &mut Socket) -> Result<()> {
        let mut batch = Batch::new();
        self.delete(&mut batch);
        socket.run_all(&mut batch).or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
    }
}

/// What shall be changed; `None` and `false` leave it as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// Up or down.
    pub up: Option<bool>,
    /// Whether neighbours are asked for, by ARP and neighbour discovery.
    pub resolves: Option<bool>,
    /// MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// Alias; the empty text removes it.
    pub alias: Option<&'a str>,
    /// Link group.
    pub group: Option<u32>,
    /// Bridge it belongs to, by index; 0 takes it out.
    pub master: Option<u32>,
    /// New name. The device is chosen by index then, and down.
    pub name: Option<&'a str>,
    /// Stop the kernel from making IPv6 link-local addresses (`addrgenmode none`), so there is nothing to detect
    /// duplicates of.
    pub no_ipv6_autoconf: bool,
    /// Namespace to move into.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Outer source address of a VXLAN device, of the family that it has.
    pub vxlan_local: Option<IpAddr>,
}

impl LinkChange<'_> {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { up, resolves, mtu_bytes, mac, alias, group, master, name, no_ipv6_autoconf, namespace, vxlan_local } =
            self;
        up.is_none()
            && resolves.is_none()
            && mtu_bytes.is_none()
            && mac.is_none()
            && alias.is_none()
            && group.is_none()
            && master.is_none()
            && name.is_none()
            && !no_ipv6_autoconf
            && namespace.is_none()
            && vxlan_local.is_none()
    }

    /// Adds the request.
    pub fn add(&self, batch: &mut Batch, link: &LinkId<'_>) {
        // RTM_NEWLINK without NLM_F_CREATE changes what is there, like RTM_SETLINK, and takes the same attributes.
        batch.add("change", link, RTM_NEWLINK, 0, |message| {
            let (mut flags, mut change) = (0, 0);
            for (flag, wanted) in [(IFF_UP, self.up), (IFF_NOARP, self.resolves.map(|resolves| !resolves))] {
                change |= if wanted.is_some() { flag } else { 0 };
                flags |= if wanted == Some(true) { flag } else { 0 };
            }
            link.write(message, flags, change);
            if let Some(mtu) = self.mtu_bytes {
                message.u32(IFLA_MTU, mtu);
            }
            if let Some(mac) = self.mac {
                message.attr(IFLA_ADDRESS, &mac.0);
            }
            if let Some(alias) = self.alias {
                // An empty value, without even a NUL, removes the alias.
                message.attr(IFLA_IFALIAS, alias.as_bytes());
            }
            if let Some(group) = self.group {
                message.u32(IFLA_GROUP, group);
            }
            if let Some(master) = self.master {
                message.u32(IFLA_MASTER, master);
            }
            if let Some(name) = self.name {
                message.text(IFLA_IFNAME, name);
            }
            if self.no_ipv6_autoconf {
                message.nest(IFLA_AF_SPEC, |families| {
                    families.nest(AF_INET6, |inet6| {
                        inet6.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
                    });
                });
            }
            if let Some(namespace) = self.namespace {
                message.u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
            }
            if let Some(local) = self.vxlan_local {
                message.nest(IFLA_LINKINFO, |info| {
                    info.text(IFLA_INFO_KIND, "vxlan");
                    info.nest(IFLA_INFO_DATA, |data| vxlan::write_local(data, local));
                });
            }
        });
    }
}
