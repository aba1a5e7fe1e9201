//! The kernel objects of this engine: keys, contents, order of writes. Never touches the kernel.

use crate::rules::Set;
use cni_core::backend::{Gate, Rank};
use ipnet::IpNet;
use net_linux::ipvs::{Destination, Service, ServiceId};
use net_linux::nft;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The name of the device that has the addresses of services.
pub const DEVICE: &str = "svc-cnidarian";

/// The name of the device that takes in what other nodes tunnel to pods of this one.
pub const TUNNEL: &str = "svc-tunnel";

/// Where that device listens: the dummy address of RFC 7600, section 4.8, which no packet between nodes has.
pub const TUNNEL_END: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The device that has the addresses of services.
    Device,
    /// The device [`TUNNEL`].
    Tunnel,
    /// Our chains, with their rules, and our sets without what is in them.
    Rules,
    /// A kernel setting of the node by its path below `/proc/sys`.
    Sysctl(Arc<str>),
    /// An element of one of our sets.
    Element(Set, nft::Key),
    /// A virtual service.
    Service(ServiceId),
    /// A destination of one of our virtual services.
    Destination(ServiceId, SocketAddr),
    /// An address of the device.
    Address(IpNet),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => write!(f, "link {DEVICE}"),
            Self::Tunnel => write!(f, "link {TUNNEL}"),
            Self::Rules => f.write_str("rules of services"),
            Self::Sysctl(path) => write!(f, "sysctl {path}"),
            Self::Element(set, key) => write!(f, "element {} of {}", key.show(&set.fields()), set.name()),
            Self::Service(id) => id.fmt(f),
            Self::Destination(id, address) => write!(f, "destination {address} of {id}"),
            Self::Address(address) => write!(f, "address {address} dev {DEVICE}"),
        }
    }
}

/// Everything else about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// See [`Key::Device`].
    Device {
        /// It is of a kind that we make, and up. Always so in what is wanted.
        intact: bool,
    },
    /// See [`Key::Tunnel`].
    Tunnel {
        /// It is of our making, up, hears at its address and takes what comes from everywhere. Always so in what is wanted.
        intact: bool,
    },
    /// See [`Key::Rules`].
    Rules {
        /// All are as we make them. Always so in what is wanted.
        intact: bool,
    },
    /// See [`Key::Sysctl`]: the value, trimmed.
    Sysctl(Arc<str>),
    /// See [`Key::Element`].
    Element,
    /// See [`Key::Service`].
    Service(Box<Service>),
    /// See [`Key::Destination`].
    Destination(Destination),
    /// See [`Key::Address`].
    Address {
        /// The kernel does not choose it as a source. Always so in what is wanted.
        never_source: bool,
    },
}

impl Key {
    /// The order of writes. A service answers at its address when all of it is there, and stops to answer before any of it goes:
    /// until then packets to that address would reach programs of the node.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        match self {
            // They are there before anything of ours is.
            Self::Sysctl(_) => Rank::level(0),
            Self::Device | Self::Rules => Rank::level(1).gate(Gate::All),
            Self::Tunnel => Rank::level(1).gate(Gate::Item),
            // Those that several frontends share cannot be a gate of each.
            Self::Element(Set { kind, .. }, _) if kind.is_shared() => Rank::level(2),
            Self::Element(..) => Rank::level(2).gate(Gate::Item),
            Self::Service(_) => Rank::level(3).gate(Gate::Item),
            Self::Destination(..) => Rank::level(4),
            Self::Address(_) => Rank::level(5),
        }
    }
}
