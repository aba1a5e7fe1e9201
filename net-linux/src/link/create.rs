//! Making devices. Never changes one that is there: its name must be free.

use super::{
    CREATE, IFF_UP, IFINFOMSG_BYTES, IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_LINKINFO, IFLA_MTU, IFLA_NET_NS_FD, Ipip, Link, LinkChange, LinkId, RTM_NEWLINK, Vxlan, ifinfomsg,
};
use crate::netlink::{Batch, Error, Message, Result, Socket, wire};
use cni_core::model::MacAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

const VETH_INFO_PEER: u16 = 1;

/// What kind of device is made.
#[derive(Debug, Clone)]
pub enum NewLinkKind<'a> {
    /// A pair of virtual Ethernet devices.
    Veth(VethPeer<'a>),
    /// A VXLAN device.
    Vxlan(Vxlan),
    /// A device for IPv4 in IPv4.
    Ipip(Ipip),
    /// A bridge.
    Bridge,
    /// A device that swallows what it is sent.
    Dummy,
}

impl NewLinkKind<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth",
            Self::Vxlan(_) => "vxlan",
            Self::Ipip(_) => "ipip",
            Self::Bridge => "bridge",
            Self::Dummy => "dummy",
        }
    }
}

/// The other end of a veth pair, made in its final namespace with its final name.
#[derive(Debug, Clone)]
pub struct VethPeer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; `None` leaves the choice to the kernel.
    pub mac: Option<MacAddr>,
    /// Where it is made; `None` is the namespace of the socket.
    pub namespace: Option<BorrowedFd<'a>>,
}

/// A device to be made.
#[derive(Debug, Clone)]
pub struct NewLink<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: NewLinkKind<'a>,
    /// MTU in bytes of the device (both ends of a veth); 0 leaves the kind's default.
    pub mtu_bytes: u32,
    /// Its Ethernet address; `None` leaves the choice to the kernel.
    pub mac: Option<MacAddr>,
    /// Its link group; 0 is the kernel's default.
    pub group: u32,
    /// Whether it is brought up at once. Not for a veth whose peer is in another namespace.
    pub up: bool,
    /// What is set by a second request, because the kernel does not take it at creation: alias, IPv6 address
    /// generation, master.
    pub then: LinkChange<'a>,
}

impl<'a> NewLink<'a> {
    /// A device of a kind, down, with the kernel's choice for the rest.
    #[must_use]
    pub fn new(name: &'a str, kind: NewLinkKind<'a>) -> Self {
        Self { name, kind, mtu_bytes: 0, mac: None, group: 0, up: false, then: LinkChange::default() }
    }

    /// Makes it and gives its index. After an error nothing is left, and a device that has the name already is untouched.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken (for a veth: one of the names); the kernel refused; the socket failed.
    pub fn create(&self, socket: &mut Socket) -> Result<u32> {
        let object = format!("{} {}", self.kind.name(), self.name);
        // The echo has the index (Linux 6.2).
        let flags = CREATE | wire::NLM_F_ECHO;
        let body = |message: &mut Message<'_>| self.write(message);
        let echo = socket.query("create", &object, RTM_NEWLINK, flags, body, super::read::parse)?;
        let echoed = echo.into_iter().find(|link| link.name == self.name).map(|link| link.index);
        let index = match echoed {
            Some(index) => index,
            None => {
                let missing = || Error::Missing { operation: "create", object, missing: "the new device".to_owned() };
                Link::get(socket, &LinkId::Name(self.name))?.ok_or_else(missing)?.index
            }
        };
        // By index: a change by name, in one batch with the creation, would hit a stranger's device if the creation failed.
        if !self.then.is_empty() {
            let mut batch = Batch::new();
            self.then.add(&mut batch, &LinkId::Index(index));
            let changed = socket.run_all(&mut batch);
            changed.inspect_err(|_| remove(socket, index))?;
        }
        Ok(index)
    }

    fn write(&self, message: &mut Message<'_>) {
        let flags = if self.up { IFF_UP } else { 0 };
        ifinfomsg(message, 0, flags, flags);
        message.text(IFLA_IFNAME, self.name);
        self.write_common(message, self.mac);
        if self.group != 0 {
            message.u32(IFLA_GROUP, self.group);
        }
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, self.kind.name());
            match &self.kind {
                NewLinkKind::Vxlan(vxlan) => {
                    info.nest(IFLA_INFO_DATA, |data| vxlan.write(data));
                }
                NewLinkKind::Ipip(ipip) => {
                    info.nest(IFLA_INFO_DATA, |data| ipip.write(data));
                }
                NewLinkKind::Veth(peer) => {
                    info.nest(IFLA_INFO_DATA, |data| {
                        data.nest(VETH_INFO_PEER, |message| self.write_peer(message, peer));
                    });
                }
                NewLinkKind::Bridge | NewLinkKind::Dummy => {}
            }
        });
    }

    fn write_common(&self, message: &mut Message<'_>, mac: Option<MacAddr>) {
        if self.mtu_bytes != 0 {
            message.u32(IFLA_MTU, self.mtu_bytes);
        }
        if let Some(mac) = mac {
            message.attr(IFLA_ADDRESS, &mac.0);
        }
    }

    /// `VETH_INFO_PEER` holds a second `ifinfomsg`; setting the peer up there gives `ENOTCONN`.
    fn write_peer(&self, message: &mut Message<'_>, peer: &VethPeer<'_>) {
        message.raw(&[0; IFINFOMSG_BYTES]).text(IFLA_IFNAME, peer.name);
        self.write_common(message, peer.mac);
        if let Some(namespace) = peer.namespace {
            message.u32(IFLA_NET_NS_FD, namespace.as_raw_fd().cast_unsigned());
        }
    }
}

/// Takes back what was made. The first error is what matters to the caller; this one's could not help.
fn remove(socket: &mut Socket, index: u32) {
    let mut batch = Batch::new();
    LinkId::Index(index).delete(&mut batch);
    socket.run(&mut batch);
}
