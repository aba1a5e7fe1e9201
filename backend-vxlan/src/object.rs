//! The kernel objects of this backend: keys, contents, order of writes. Never touches the kernel.

use crate::config::{Family, Vni};
use cni_core::backend::{Gate, Rank};
use cni_core::model::{InterfaceName, MacAddr};
use ipnet::IpNet;
use net_linux::endpoint::{EndpointKey, EndpointObject};
use net_linux::host;
use net_linux::route::Route;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// What the host has for pods: settings, masquerading, untracked outer packets, whom tunnels hear.
    Host(host::Key),
    /// The tunnel device.
    Link(InterfaceName),
    /// An address of the tunnel device.
    Address(InterfaceName, IpNet),
    /// Where frames for a MAC address go: an entry of the device's forwarding database.
    Fdb(InterfaceName, MacAddr),
    /// A permanent neighbour on the device.
    Neighbour(InterfaceName, IpAddr),
    /// A permanent neighbour of a local pod's address, on the host's end of its veth.
    PodNeighbour(InterfaceName, IpAddr),
    /// A next-hop object; the id is the driver's affair.
    NextHop(Arc<Hop>),
    /// A next-hop object with our mark that is none of the above, or one of a routing protocol that the backend before us
    /// spoke. Only read, and deleted.
    StrayNextHop(u32),
    /// A socket of the `udp` mode.
    Socket(Family),
    /// Where user space sends packets for a prefix.
    Forward(IpNet),
    /// A route of the main table with the family's default metric.
    Route(IpNet),
    /// A route of the main table with our mark and another metric. Only read, and deleted.
    StrayRoute(IpNet, u32),
    /// A route of the main table that the backend before us learned by a routing protocol. Only read, and deleted.
    LearnedRoute(IpNet, u32),
}

impl From<EndpointKey> for Key {
    /// A pod's route shares the place of a peer's, so that two that want one prefix are a conflict.
    fn from(key: EndpointKey) -> Self {
        match key {
            EndpointKey::Neighbour { interface, address } => Self::PodNeighbour(interface, address),
            EndpointKey::Route { destination, metric, .. } if metric == Route::new(destination).metric => {
                Self::Route(destination)
            }
            EndpointKey::Route { destination, metric, .. } => Self::StrayRoute(destination, metric),
        }
    }
}

/// A way out of the node. Its next-hop object and all routes through it share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The device.
    pub device: InterfaceName,
    /// The next node.
    pub gateway: IpAddr,
}

/// Objects of the host under this backend's keys.
pub(crate) fn of_host(
    objects: impl IntoIterator<Item = (host::Key, host::Object)>,
) -> impl Iterator<Item = (Key, Object)> {
    objects.into_iter().map(|(key, object)| (Key::Host(key), Object::Host(object)))
}

/// Everything but the key. What few keys have is boxed: an engine holds tens of thousands of routes and hops.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// See [`Key::Host`].
    Host(host::Object),
    /// See [`Key::Link`].
    Link(Arc<Device>),
    /// See [`Key::Address`].
    Address,
    /// See [`Key::Fdb`]: the peer's underlay address.
    Fdb(IpAddr),
    /// See [`Key::Neighbour`]: the peer's VTEP.
    Neighbour(MacAddr),
    /// See [`Key::PodNeighbour`], and [`Key::Route`] to a local pod.
    Pod(Box<EndpointObject>),
    /// See [`Key::NextHop`].
    NextHop,
    /// See [`Key::Socket`]: our underlay address and port.
    Socket(Box<SocketAddr>),
    /// See [`Key::Forward`]: the peer's underlay address and port.
    Forward(Box<SocketAddr>),
    /// See [`Key::Route`].
    Route(Target),
    /// Something that we never write: one of ours that somebody changed, or one that we don't know.
    Strange,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub kind: DeviceKind,
    /// Its MTU in bytes, which is the pods'.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
    /// The kernel's settings of it: paths below `/proc/sys/net` with `*` for its name, and values.
    pub settings: Vec<(&'static str, String)>,
}

impl Device {
    /// The settings that we care for, and what they have to be.
    ///
    /// Reverse path filtering is loose: a peer may still use the tunnel while we already route directly, and the kernel
    /// takes the greater of this and `conf/all`, so a strict default would win over 0. IPv6 is on, because the next
    /// hop of IPv4 routes is an IPv6 address too.
    pub const SETTINGS: [(&'static str, &'static str); 3] =
        [("ipv4/conf/*/rp_filter", "2"), ("ipv6/conf/*/disable_ipv6", "0"), ("ipv6/conf/*/accept_ra", "0")];

    /// The path below `/proc/sys` of a setting of a device.
    #[must_use]
    pub fn setting_path(setting: &str, device: &InterfaceName) -> String {
        format!("net/{}", setting.replace('*', device.as_str()))
    }
}

/// The kind of a tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// A VXLAN device with learning and GBP off.
    Vxlan {
        /// Network identifier. Never changes in place.
        vni: Vni,
        /// UDP port. Never changes in place.
        port: u16,
        /// Our underlay address, the source of outer packets.
        local: IpAddr,
        /// The VTEP.
        mac: MacAddr,
        /// Whether its checksum offload is as [`crate::checksum::Decision`] says. Always so in what is wanted.
        checksum_as_decided: bool,
    },
    /// A persistent TUN device.
    Tun {
        /// Whether this process moves its packets. Always so in what is wanted.
        served: bool,
    },
}

impl DeviceKind {
    /// Whether a device of this kind can become `wanted` without being made anew.
    #[must_use]
    pub fn can_become(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Tun { .. }, Self::Tun { .. }) => true,
            (Self::Vxlan { vni, port, local, .. }, Self::Vxlan { vni: v, port: p, local: l, .. }) => {
                vni == v && port == p && local.is_ipv4() == l.is_ipv4()
            }
            _ => false,
        }
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To the next node through a next-hop object.
    Object(Arc<Hop>),
    /// To the next node, where the kernel has no next-hop objects.
    Via(Arc<Hop>),
    /// Into a device.
    Device(InterfaceName),
    /// Nowhere: the sender learns that the destination is unreachable.
    Unreachable,
}

impl Key {
    /// The order of writes: who may be heard, settings of the node and devices, what hangs on a device, next hops, routes.
    /// A device holds back the items that want it too, such as peers behind a tunnel; local pods and peers that are routed
    /// plainly do not.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::Host(key) => key.rank(),
            Self::Link(_) => Rank::level(1).gate(Gate::Item),
            Self::Socket(_) => Rank::level(2),
            Self::Address(..) => Rank::level(3),
            Self::Fdb(..) | Self::Neighbour(..) | Self::PodNeighbour(..) | Self::Forward(_) => Rank::level(4),
            Self::NextHop(_) | Self::StrayNextHop(_) => Rank::level(5),
            Self::Route(_) | Self::StrayRoute(..) | Self::LearnedRoute(..) => Rank::level(6),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(key) => key.fmt(f),
            Self::Link(device) => write!(f, "link {device}"),
            Self::Address(device, address) => write!(f, "address {address} dev {device}"),
            Self::Fdb(device, mac) => write!(f, "fdb {mac} dev {device}"),
            Self::Neighbour(device, address) => write!(f, "neighbour {address} dev {device}"),
            Self::NextHop(hop) => write!(f, "nexthop {hop}"),
            Self::PodNeighbour(interface, address) => write!(f, "neighbour {address} on {interface}"),
            Self::StrayNextHop(id) => write!(f, "nexthop {id:#x}"),
            Self::Socket(family) => write!(f, "udp socket {family}"),
            Self::Forward(prefix) => write!(f, "udp forward {prefix}"),
            Self::Route(prefix) => write!(f, "route {prefix}"),
            Self::LearnedRoute(prefix, metric) => write!(f, "learned route {prefix} metric {metric}"),
            Self::StrayRoute(prefix, metric) => write!(f, "route {prefix} metric {metric}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(hop) => write!(f, "nexthop {hop}"),
            Self::Via(hop) => write!(f, "via {hop}"),
            Self::Device(device) => write!(f, "dev {device}"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.gateway, self.device)
    }
}

/// The family of an address.
#[must_use]
pub const fn family_of(address: &IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}
