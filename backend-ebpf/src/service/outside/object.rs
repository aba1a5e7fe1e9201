//! What is translated for clients outside of the node, as elements of nftables. Pure: never a kernel.

use cni_core::backend::{Error, Gate, Rank, Result};
use cni_core::model::{Scheduler, ServiceItem, TrafficScope};
use std::fmt;
use std::net::SocketAddr;

/// Where clients find a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// Address and port.
    pub address: SocketAddr,
    /// 6 (TCP), 17 (UDP).
    pub protocol: u8,
}

/// How one of so many backends is chosen; a chain of its own, shared by all frontends that choose so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Choice {
    /// Backends, 1 or more.
    pub count: u32,
    /// By the client's address, not by chance.
    pub by_client: bool,
    /// Of which family.
    pub ipv6: bool,
}

/// One thing in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Table, base chains with their rules, sets.
    Rules,
    /// How one of so many is chosen.
    Choice(Choice),
    /// A backend of a frontend, by its place.
    Backend(Frontend, u32),
    /// That answers of backends elsewhere have to come back by this node.
    Masqueraded(Frontend),
    /// A frontend with backends.
    Frontend(Frontend),
    /// A frontend without.
    Refused(Frontend),
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// Rules or a chain.
    Rules {
        /// As we make them.
        intact: bool,
    },
    /// Where connections end.
    Backend(SocketAddr),
    /// How a frontend's backend is chosen.
    Frontend(Choice),
    /// It is there.
    There,
}

impl Key {
    /// Rules before all, backends before their frontend.
    pub(super) const fn rank(&self) -> Rank {
        match self {
            Self::Rules => Rank::level(0).gate(Gate::All),
            Self::Choice(_) | Self::Backend(..) | Self::Masqueraded(_) => Rank::level(1).gate(Gate::Item),
            Self::Frontend(_) | Self::Refused(_) => Rank::level(2),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, cni_core::policy::model::Protocol(self.protocol))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.by_client { "client" } else { "random" };
        write!(f, "choose{}-{how}-{}", if self.ipv6 { 6 } else { 4 }, self.count)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules => f.write_str("nftables rules for clients outside"),
            Self::Choice(choice) => write!(f, "nftables chain {choice}"),
            Self::Backend(frontend, place) => write!(f, "outside {frontend} backend {place}"),
            Self::Masqueraded(frontend) => write!(f, "outside {frontend} masquerade"),
            Self::Frontend(frontend) => write!(f, "outside {frontend}"),
            Self::Refused(frontend) => write!(f, "outside {frontend} refused"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules { intact: true } | Self::There => f.write_str("there"),
            Self::Rules { intact: false } => f.write_str("changed by somebody"),
            Self::Backend(address) => write!(f, "{address}"),
            Self::Frontend(choice) => write!(f, "{} backends", choice.count),
        }
    }
}

/// The elements of a frontend; what programs at sockets refuse is refused before.
///
/// # Errors
/// A backend is of another family.
pub fn compile(item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
    let frontend =
        Frontend { address: SocketAddr::new(item.key.address, item.key.port), protocol: item.key.protocol.0 };
    let ipv6 = item.key.address.is_ipv6();
    let backends: Vec<SocketAddr> =
        item.active().map(|backend| SocketAddr::new(backend.address, backend.port)).collect();
    if backends.iter().any(|backend| backend.is_ipv6() != ipv6) {
        return Err(Error::invalid(&item.key, "backends", "one has an address of the other family"));
    }
    let count = u32::try_from(backends.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Ok(vec![(Key::Refused(frontend), Object::There)]);
    }
    let by_client =
        item.affinity_seconds.is_some() || matches!(item.scheduler, Scheduler::SourceHash | Scheduler::Maglev);
    let choice = Choice { count, by_client, ipv6 };
    let mut entries = vec![
        (Key::Choice(choice), Object::Rules { intact: true }),
        (Key::Frontend(frontend), Object::Frontend(choice)),
    ];
    if item.scope == TrafficScope::Cluster {
        entries.push((Key::Masqueraded(frontend), Object::There));
    }
    let placed = (0..).zip(backends);
    entries.extend(placed.map(|(place, address)| (Key::Backend(frontend, place), Object::Backend(address))));
    Ok(entries)
}
