//! The kernel objects of this backend: keys, contents, order of writes. Never touches the kernel.

use crate::lengths::PrefixLength;
use cni_core::backend::{Gate, Rank};
use cni_core::model::{InterfaceName, MacAddr};
use ipnet::IpNet;
use net_linux::endpoint::{EndpointKey, EndpointObject};
use net_linux::host;
use net_linux::route::Route;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    /// The programs of the tunnel device and the underlay, with their settings.
    Programs,
    /// Masquerading by programs at the underlay.
    Masquerade,
    /// The program at the host's end of a pod's veth.
    PodProgram(InterfaceName),
    /// That prefixes of this length are looked up.
    Length(PrefixLength),
    /// The entry of another node's prefix in the programs' map.
    Way(IpNet),
    /// The entry of a local pod's address in the programs' map.
    PodEntry(IpAddr),
    /// A permanent neighbour of a local pod's address, on the host's end of its veth.
    PodNeighbour(InterfaceName, IpAddr),
    /// A route of the main table with the family's default metric.
    Route(IpNet),
    /// A route of the main table with our mark and another metric. Only read, and deleted.
    StrayRoute(IpNet, u32),
    /// A route of the main table that the backend before us learned by a routing protocol. Only read, and deleted.
    LearnedRoute(IpNet, u32),
    /// A next-hop object of the backend before us. Only read, and deleted.
    StrayNextHop(u32),
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
    /// See [`Key::Programs`].
    Programs(Arc<Programs>),
    /// See [`Key::Masquerade`].
    Masquerade(Arc<Masquerading>),
    /// See [`Key::PodProgram`].
    PodProgram,
    /// See [`Key::Length`].
    Length,
    /// See [`Key::Way`]: the other node on the underlay, and how.
    Way(IpAddr, Carriage),
    /// See [`Key::PodEntry`].
    PodEntry(Box<PodEntry>),
    /// See [`Key::PodNeighbour`], and [`Key::Route`] to a local pod.
    Pod(Box<EndpointObject>),
    /// See [`Key::Route`].
    Route(Target),
    /// Something that we never write: one of ours that somebody changed, or one that we don't know.
    Strange,
}

/// How packets go to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// Through the tunnel.
    Wrapped,
    /// As they are.
    Plain,
}

/// The programs of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The tunnel device, if there is one: a program at each of its hooks.
    pub tunnel: Option<InterfaceName>,
    /// The underlay.
    pub underlay: InterfaceName,
    /// Our underlay address.
    pub local: IpAddr,
    /// The VXLAN network identifier.
    pub vni: u32,
    /// Whether packets between pods skip the host's stack. Then the underlay has a program too.
    pub fast_path: bool,
    /// Entries that the maps have room for: pods and prefixes.
    pub sizes: (u32, u32),
}

/// What is masqueraded by programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masquerading {
    /// The underlay.
    pub interface: InterfaceName,
    /// The node's IPv4 address outside.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// The first of the ports that are for nobody else, and how many there are.
    pub ports: (u16, u16),
    /// Connections that there is room for.
    pub room: u32,
    /// Source prefixes: sorted, none within another, none that could be one with its neighbour.
    pub sources: Vec<IpNet>,
    /// Destination prefixes that see the pod's own address; as `sources`.
    pub keep: Vec<IpNet>,
}

/// A local pod as the programs know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEntry {
    /// The host's end of its veth.
    pub interface: InterfaceName,
    /// Its Ethernet address.
    pub pod_mac: MacAddr,
    /// That of the host's end.
    pub host_mac: MacAddr,
}

/// The tunnel device. It asks nobody for neighbours: frames have its own address, and the receiver takes them so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// UDP port. Never changes in place.
    pub port: u16,
    /// The Ethernet address.
    pub mac: MacAddr,
    /// Its MTU in bytes, which is the pods'.
    pub mtu_bytes: u32,
    /// Administratively up.
    pub up: bool,
    /// The kernel's settings of it: paths below `/proc/sys/net` with `*` for its name, and values.
    pub settings: Vec<(&'static str, String)>,
}

impl Device {
    /// The settings that we care for, and what they have to be. Reverse path filtering is loose: packets may come in by the
    /// tunnel from where routes lead past it.
    pub const SETTINGS: [(&'static str, &'static str); 3] =
        [("ipv4/conf/*/rp_filter", "2"), ("ipv6/conf/*/disable_ipv6", "0"), ("ipv6/conf/*/accept_ra", "0")];

    /// The path below `/proc/sys` of a setting of a device.
    #[must_use]
    pub fn setting_path(setting: &str, device: &InterfaceName) -> String {
        format!("net/{}", setting.replace('*', device.as_str()))
    }
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// To another node on our segment: device and address.
    Via(InterfaceName, IpAddr),
    /// Into the tunnel device.
    Device(InterfaceName),
    /// Nowhere: the sender learns that the destination is unreachable.
    Unreachable,
}

impl Key {
    /// Whether the programs or their maps are concerned.
    #[must_use]
    pub fn is_of_programs(&self) -> bool {
        matches!(self, Self::Programs | Self::PodProgram(_) | Self::Length(_) | Self::Way(_) | Self::PodEntry(_))
    }

    /// The order of writes: who may be heard, settings and the device, its programs, how they look up, what they look up, neighbours,
    /// routes; a pod's program last. Device and programs hold back the items that want them too.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::Host(key) => key.rank(),
            Self::Link(_) => Rank::level(1).gate(Gate::Item),
            Self::Programs => Rank::level(2).gate(Gate::Item),
            // As that of the host's stack: it needs nothing and holds nothing back.
            Self::Masquerade => Rank::level(1),
            Self::Address(..) | Self::Length(_) => Rank::level(3),
            Self::PodNeighbour(..) | Self::Way(_) | Self::StrayNextHop(_) => Rank::level(4),
            Self::Route(_) | Self::StrayRoute(..) | Self::LearnedRoute(..) => Rank::level(5),
            Self::PodEntry(_) => Rank::level(6),
            Self::PodProgram(_) => Rank::level(7),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(key) => key.fmt(f),
            Self::Link(device) => write!(f, "link {device}"),
            Self::Address(device, address) => write!(f, "address {address} dev {device}"),
            Self::Programs => f.write_str("ebpf programs"),
            Self::Masquerade => f.write_str("ebpf masquerading"),
            Self::PodProgram(interface) => write!(f, "ebpf program of {interface}"),
            Self::Length(length) => write!(f, "ebpf prefixes of {length}"),
            Self::Way(prefix) => write!(f, "ebpf way {prefix}"),
            Self::PodEntry(address) => write!(f, "ebpf pod {address}"),
            Self::PodNeighbour(interface, address) => write!(f, "neighbour {address} on {interface}"),
            Self::Route(prefix) => write!(f, "route {prefix}"),
            Self::StrayRoute(prefix, metric) => write!(f, "route {prefix} metric {metric}"),
            Self::LearnedRoute(prefix, metric) => write!(f, "learned route {prefix} metric {metric}"),
            Self::StrayNextHop(id) => write!(f, "nexthop {id:#x}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Via(device, gateway) => write!(f, "via {gateway} dev {device}"),
            Self::Device(device) => write!(f, "dev {device}"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}
