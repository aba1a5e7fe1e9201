//! The objects of this backend: kernel objects, and what the speaker of this process is told. Never touches either.

use bgp_speaker::config::{self as speaker, ListenRange, PeerConfig, PeerName};
use bgp_speaker::speaker::Origination;
use cni_core::backend::{Gate, Rank};
use cni_core::model::{Encapsulation, InterfaceName, MacAddr};
use ipnet::IpNet;
use net_linux::endpoint::{EndpointKey, EndpointObject};
use net_linux::host;
use net_linux::route::Route;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
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
    /// A permanent neighbour on the tunnel device: the far end of another node.
    Neighbour(InterfaceName, IpAddr),
    /// A permanent neighbour of a local pod's address, on the host's end of its veth.
    PodNeighbour(InterfaceName, IpAddr),
    /// A route of the main table with the family's default metric: of a local block or pod.
    Route(IpNet),
    /// A route of the main table with our mark and another metric. Only read, and deleted.
    StrayRoute(IpNet, u32),
    /// A next-hop object of the backend before us. Only read, and deleted.
    StrayNextHop(u32),
    /// What the speaker itself is.
    Speaker,
    /// A node, by an address of it that routes have as their next hop, and how packets get there.
    Node(IpAddr),
    /// What the pool of another node's prefix says of encapsulation.
    Carriage(IpNet),
    /// A prefix of another node's pods, which only nodes may announce.
    Block(IpNet),
    /// A peer of the speaker.
    Session(PeerName),
    /// Where peers of the speaker may come from.
    Range(PeerName),
    /// A prefix that the speaker announces.
    Announcement(IpNet),
    /// The address of a local pod: announced where no announcement holds it (borrowed from another node's block).
    PodAddress(IpNet),
}

impl From<EndpointKey> for Key {
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

/// A session or range with the file of its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secured<T> {
    /// Everything but the password.
    pub config: T,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
}

/// Objects of the host under this backend's keys.
pub(crate) fn of_host(
    objects: impl IntoIterator<Item = (host::Key, host::Object)>,
) -> impl Iterator<Item = (Key, Object)> {
    objects.into_iter().map(|(key, object)| (Key::Host(key), Object::Host(object)))
}

/// Everything but the key. What few keys have is boxed.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// See [`Key::Host`].
    Host(host::Object),
    /// See [`Key::Link`].
    Link(Arc<Device>),
    /// See [`Key::Address`].
    Address,
    /// See [`Key::Neighbour`].
    Neighbour(MacAddr),
    /// See [`Key::PodNeighbour`], and [`Key::Route`] to a local pod.
    Pod(Box<EndpointObject>),
    /// See [`Key::Route`], of a local block: the sender learns that there is no such pod.
    Unreachable,
    /// See [`Key::Speaker`]: without peers and ranges.
    Speaker(Box<Ground>),
    /// See [`Key::Node`].
    Node(FarEnd),
    /// See [`Key::Block`].
    Block,
    /// See [`Key::Carriage`].
    Carriage(Encapsulation),
    /// See [`Key::Session`].
    Session(Box<Secured<PeerConfig>>),
    /// See [`Key::Range`].
    Range(Box<Secured<ListenRange>>),
    /// See [`Key::Announcement`].
    Announcement(Box<Origination>),
    /// See [`Key::PodAddress`].
    PodAddress,
    /// Something that we never write: one of ours that somebody changed, or one that we don't know.
    Strange,
}

/// What the speaker is, apart from its peers, and what it needs to know to write routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ground {
    /// The speaker, without peers and ranges.
    pub speaker: speaker::Config,
    /// What pools that say nothing want.
    pub encapsulation: Encapsulation,
    /// The tunnel; `None`: nothing is wrapped.
    pub tunnel: Option<Way>,
    /// The prefixes on link of the underlay: no learned route leads elsewhere with a part of them.
    pub segments: Vec<IpNet>,
    /// Nodes have sessions among themselves, so that they need nobody else to tell them of blocks.
    pub nodes_tell_blocks: bool,
}

/// The far end of the tunnel to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FarEnd {
    /// Where outer packets go.
    pub outer: IpAddr,
    /// The neighbour on the tunnel device.
    pub neighbour: Ipv6Addr,
}

/// The way into the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The device.
    pub device: InterfaceName,
    /// The VXLAN network identifier; `None`: IPIP, which has none, and carries IPv4 only.
    pub vni: Option<u32>,
    /// Our outer address.
    pub own: IpAddr,
}

impl Way {
    /// Whether packets to a prefix can be wrapped at all.
    #[must_use]
    pub fn carries(&self, prefix: &IpNet) -> bool {
        self.vni.is_some() || prefix.addr().is_ipv4()
    }
}

/// The tunnel device, which asks each packet's route for its outer packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its kind. Never changes in place, nor the port.
    pub kind: DeviceKind,
    /// Its MTU in bytes, which is the pods'.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
    /// The kernel's settings of it: paths below `/proc/sys/net` with `*` for its name, and values.
    pub settings: Vec<(&'static str, String)>,
}

/// The kind of the tunnel device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceKind {
    /// VXLAN.
    Vxlan {
        /// UDP port.
        port: u16,
        /// The Ethernet address.
        mac: MacAddr,
    },
    /// IPv4 in IPv4.
    Ipip,
}

impl Device {
    /// The settings that we care for on any such device, and what they have to be. Reverse path filtering is loose: packets
    /// come in by the tunnel from where we route plainly.
    const OF_ALL: [(&'static str, &'static str); 1] = [("ipv4/conf/*/rp_filter", "2")];
    /// Those of VXLAN beside. IPv6 is on, because the neighbours of IPv4 routes have IPv6 addresses too.
    const OF_VXLAN: [(&'static str, &'static str); 2] =
        [("ipv6/conf/*/disable_ipv6", "0"), ("ipv6/conf/*/accept_ra", "0")];

    /// The settings that we care for, and what they have to be.
    pub fn settings(kind: &DeviceKind) -> impl Iterator<Item = (&'static str, &'static str)> {
        let more: &[_] = match kind {
            DeviceKind::Vxlan { .. } => &Self::OF_VXLAN,
            DeviceKind::Ipip => &[],
        };
        Self::OF_ALL.into_iter().chain(more.iter().copied())
    }

    /// The path below `/proc/sys` of a setting of a device.
    #[must_use]
    pub fn setting_path(setting: &str, device: &InterfaceName) -> String {
        format!("net/{}", setting.replace('*', device.as_str()))
    }
}

impl Key {
    /// Whether the object lives in this process, not in the kernel.
    #[must_use]
    pub fn is_of_speaker(&self) -> bool {
        matches!(
            self,
            Self::Speaker
                | Self::Node(_)
                | Self::Carriage(_)
                | Self::Block(_)
                | Self::Session(_)
                | Self::Range(_)
                | Self::Announcement(_)
                | Self::PodAddress(_)
        )
    }

    /// The order of writes: who may be heard, settings and devices, what hangs on a device, routes; the speaker last, so
    /// that nobody sends packets here before they can be taken. A device holds back the items that want it too.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::Host(key) => key.rank(),
            Self::Link(_) => Rank::level(1).gate(Gate::Item),
            Self::Address(..) => Rank::level(2),
            Self::Neighbour(..) | Self::PodNeighbour(..) => Rank::level(3),
            Self::StrayNextHop(_) => Rank::level(3),
            Self::Route(_) | Self::StrayRoute(..) => Rank::level(4),
            Self::Node(_) | Self::Carriage(_) | Self::Block(_) => Rank::level(5),
            // An announcement waits for the route behind it: a pod's /32 that is not there would be a black hole.
            Self::Announcement(_) | Self::PodAddress(_) => Rank::level(5),
            Self::Speaker => Rank::level(6),
            Self::Session(_) | Self::Range(_) => Rank::level(7),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(key) => key.fmt(f),
            Self::Link(device) => write!(f, "link {device}"),
            Self::Address(device, address) => write!(f, "address {address} dev {device}"),
            Self::Neighbour(device, address) => write!(f, "neighbour {address} dev {device}"),
            Self::PodNeighbour(interface, address) => write!(f, "neighbour {address} on {interface}"),
            Self::Route(prefix) => write!(f, "route {prefix}"),
            Self::StrayNextHop(id) => write!(f, "nexthop {id:#x}"),
            Self::StrayRoute(prefix, metric) => write!(f, "route {prefix} metric {metric}"),
            Self::Speaker => f.write_str("bgp speaker"),
            Self::Node(address) => write!(f, "bgp next hop {address}"),
            Self::Carriage(prefix) => write!(f, "bgp carriage {prefix}"),
            Self::Block(prefix) => write!(f, "bgp block {prefix}"),
            Self::Session(name) => write!(f, "bgp peer {name}"),
            Self::Range(name) => write!(f, "bgp range {name}"),
            Self::Announcement(prefix) => write!(f, "bgp announcement {prefix}"),
            Self::PodAddress(prefix) => write!(f, "bgp pod {prefix}"),
        }
    }
}
