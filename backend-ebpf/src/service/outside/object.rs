//! What is translated for clients outside of the node, as elements of nftables. Pure: never a kernel.

use crate::service::compile::clients;
use cni_core::backend::{Error, Gate, Rank, Result};
use cni_core::model::{Scheduler, ServiceItem, TrafficScope};
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

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
    /// Who may use a frontend that is not for all.
    Sources(Frontend),
    /// A frontend with backends, or one that is not for all.
    Frontend(Frontend),
    /// A frontend without.
    Refused(Frontend),
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Rules or a chain.
    Rules {
        /// As we make them.
        intact: bool,
    },
    /// Where connections end.
    Backend(SocketAddr),
    /// Who may, and what comes of their packets.
    Sources {
        /// Prefixes of the frontend's family, in order, none within or beside another that could be one with it.
        clients: Arc<[IpNet]>,
        /// How their backend is chosen; `None`: there is none.
        then: Option<Choice>,
    },
    /// How a frontend's backend is chosen.
    Frontend(Choice),
    /// By [`Key::Sources`] of the same frontend.
    Limited,
    /// It is there.
    There,
}

impl Key {
    /// Rules before all, backends and clients before their frontend.
    pub(super) const fn rank(&self) -> Rank {
        match self {
            Self::Rules => Rank::level(0).gate(Gate::All),
            Self::Choice(_) | Self::Backend(..) | Self::Masqueraded(_) => Rank::level(1).gate(Gate::Item),
            Self::Sources(_) => Rank::level(2).gate(Gate::Item),
            Self::Frontend(_) | Self::Refused(_) => Rank::level(3),
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
            Self::Sources(frontend) => write!(f, "outside {frontend} clients"),
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
            Self::Sources { clients, .. } => write!(f, "{} prefixes", clients.len()),
            Self::Frontend(choice) => write!(f, "{} backends", choice.count),
            Self::Limited => f.write_str("not for all clients"),
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
    let by_client =
        item.affinity_seconds.is_some() || matches!(item.scheduler, Scheduler::SourceHash | Scheduler::Maglev);
    let choice = (count > 0).then_some(Choice { count, by_client, ipv6 });
    let mut entries = match choice {
        Some(choice) => vec![(Key::Choice(choice), Object::Rules { intact: true })],
        None => vec![(Key::Refused(frontend), Object::There)],
    };
    match (&item.sources, choice) {
        (Some(_), then) => {
            // Not even told that there is no backend, who may not know of the service.
            entries.push((Key::Sources(frontend), Object::Sources { clients: clients(item).into(), then }));
            entries.push((Key::Frontend(frontend), Object::Limited));
        }
        (None, Some(choice)) => entries.push((Key::Frontend(frontend), Object::Frontend(choice))),
        (None, None) => {}
    }
    if choice.is_some() && item.scope == TrafficScope::Cluster {
        entries.push((Key::Masqueraded(frontend), Object::There));
    }
    let placed = (0..).zip(backends);
    entries.extend(placed.map(|(place, address)| (Key::Backend(frontend, place), Object::Backend(address))));
    Ok(entries)
}
