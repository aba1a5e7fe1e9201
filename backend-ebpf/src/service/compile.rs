//! One frontend with its backends to entries of maps. Pure: never a kernel, and never another frontend.

use super::maglev;
use super::object::Hook;
use super::pins::Generation;
use crate::kernel::bytes;
use backend_ebpf_abi::{Frontend, FrontendKey, MaglevTable, MemberKey, SlotKey, Target};
use cni_core::backend::{Error, ErrorKind, Gate, Rank, Result};
use cni_core::model::{Scheduler, ServiceBackend, ServiceItem};
use cni_core::policy::model::Protocol;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// One thing in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Maps of another layout or of other sizes, which are only ever removed.
    OldMaps(Generation),
    /// Programs and maps in another bpffs, by its place among those that are mounted: an earlier configuration's, only ever removed.
    Elsewhere(usize),
    /// Pins of our maps.
    Pins,
    /// A backend of a frontend.
    Slot(SlotKey),
    /// That a frontend has a backend, where affinity or connected UDP sockets ask.
    Member(MemberKey),
    /// A frontend's table.
    Table(FrontendKey),
    /// Clients that may use a frontend which is not for all.
    Range(FrontendKey, IpNet),
    /// A frontend.
    Frontend(FrontendKey),
    /// A program at a cgroup, by the number of its directory.
    Hook(Hook, u64),
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// What is only ever removed, whatever is in it.
    Old,
    /// Pins.
    Pins {
        /// Whether each map has one.
        intact: bool,
    },
    /// Where connections end.
    Slot(Target),
    /// It is there.
    Member,
    /// They may.
    Range,
    /// Slots by hash.
    Table(Arc<MaglevTable>),
    /// [`Frontend`] without what programs write.
    Frontend {
        /// [`Frontend::count`].
        count: u32,
        /// [`Frontend::affinity_seconds`].
        affinity_seconds: u32,
        /// [`Frontend::choice`].
        choice: u32,
        /// [`Frontend::limited`].
        limited: u32,
    },
    /// The program's tag: the kernel's hash of its instructions. 0: one that does not use our maps.
    Hook(u64),
}

impl Key {
    /// Backends before frontends, both before the programs that look for them.
    #[must_use]
    pub const fn rank(&self) -> Rank {
        match self {
            Self::OldMaps(_) | Self::Elsewhere(_) | Self::Pins => Rank::level(0),
            Self::Slot(_) | Self::Member(_) | Self::Table(_) => Rank::level(0).gate(Gate::Item),
            // Without one of them fewer are served. So a frontend that is not for all any more does not wait for it.
            Self::Range(..) => Rank::level(0),
            Self::Frontend(_) => Rank::level(1),
            Self::Hook(..) => Rank::level(2),
        }
    }
}

fn socket(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(address).to_canonical(), port)
}

/// A frontend for people.
struct Named<'a>(&'a FrontendKey);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = u8::try_from(self.0.protocol).map_or(Protocol(0), Protocol);
        write!(f, "service {}/{protocol}", socket(self.0.address, self.0.port))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldMaps(generation) => write!(f, "maps of generation {generation}"),
            Self::Elsewhere(place) => write!(f, "services in another bpffs ({place})"),
            Self::Pins => f.write_str("pins of services' maps"),
            Self::Slot(key) => write!(f, "{} backend {}", Named(&key.frontend), key.slot),
            Self::Member(key) => {
                write!(f, "{} member {}", Named(&key.frontend), socket(key.backend.address, key.backend.port))
            }
            Self::Table(key) => write!(f, "{} table", Named(key)),
            Self::Range(key, clients) => write!(f, "{} clients {clients}", Named(key)),
            Self::Frontend(key) => write!(f, "{}", Named(key)),
            Self::Hook(hook, cgroup) => write!(f, "program {} at cgroup {cgroup}", hook.name()),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old | Self::Member | Self::Range | Self::Pins { intact: true } => f.write_str("there"),
            Self::Pins { intact: false } => f.write_str("not of all maps"),
            Self::Slot(target) => write!(f, "{}", socket(target.address, target.port)),
            Self::Table(_) => f.write_str("a table"),
            Self::Frontend { count, affinity_seconds, limited, .. } => {
                write!(f, "{count} backends")?;
                if *affinity_seconds > 0 {
                    write!(f, ", affinity {affinity_seconds} s")?;
                }
                f.write_str(if *limited > 0 { ", not for all clients" } else { "" })
            }
            Self::Hook(0) => f.write_str("another program"),
            Self::Hook(tag) => write!(f, "program {tag:016x}"),
        }
    }
}

/// An address and port as maps have them.
pub(super) fn target(socket: SocketAddr) -> Target {
    Target { address: bytes(socket.ip()), port: socket.port(), unused: 0 }
}

fn of_backend(backend: &ServiceBackend) -> Target {
    target(SocketAddr::new(backend.address, backend.port))
}

/// Of which clients a frontend is, as few prefixes of its family as say it; none also where it is for all.
pub(super) fn clients(item: &ServiceItem) -> Vec<IpNet> {
    let ranges = item.sources.iter().flat_map(|sources| sources.iter());
    let of_family = ranges.filter(|range| range.addr().is_ipv6() == item.key.address.is_ipv6());
    IpNet::aggregate(&of_family.map(IpNet::trunc).collect())
}

/// The entries of a frontend.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what sockets cannot know: SCTP, how many connections a backend has. [`ErrorKind::Invalid`] for backends of another family, or more than 65,535.
pub fn compile(item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
    let unsupported = |field, detail| {
        let error = Error::new(ErrorKind::Unsupported, "compile", &item.key, detail);
        Err(Error { field: Some(field), ..error })
    };
    if !matches!(item.key.protocol.0, 6 | 17) {
        return unsupported("protocol", "programs at sockets translate TCP and UDP only");
    }
    if item.direct_return {
        let detail = "what a socket or nftables has translated is translated back where it was, so answers go that way; IPVS can do it";
        return unsupported("direct-server-return", detail);
    }
    let first_weight = item.backends.first().map(|backend| backend.weight);
    let (choice, has_table) = match item.scheduler {
        Scheduler::RoundRobin | Scheduler::WeightedRoundRobin => (Frontend::IN_TURN, false),
        Scheduler::SourceHash | Scheduler::Maglev => (Frontend::BY_CLIENT, true),
        Scheduler::DestinationHash => (Frontend::BY_DESTINATION, true),
        Scheduler::LeastConnections
        | Scheduler::WeightedLeastConnections
        | Scheduler::ShortestExpectedDelay
        | Scheduler::NeverQueue => {
            return unsupported("scheduler", "programs at sockets do not see when a connection ends; use rr or maglev");
        }
    };
    if item.scheduler.weighs() && item.backends.iter().any(|backend| Some(backend.weight) != first_weight) {
        let detail = "endpoints have different weights, and all get as much here; use rr or sh, or services: ipvs";
        return unsupported("weight", detail);
    }
    let targets: Vec<Target> = item.active().map(of_backend).collect();
    if item.backends.iter().any(|backend| backend.address.is_ipv4() != item.key.address.is_ipv4()) {
        return Err(Error::invalid(&item.key, "backends", "one has an address of the other family"));
    }
    if targets.len() > usize::from(u16::MAX) {
        return Err(Error::invalid(&item.key, "backends", format!("{}; at most 65535", targets.len())));
    }
    let frontend =
        FrontendKey { address: bytes(item.key.address), port: item.key.port, protocol: item.key.protocol.0.into() };
    let mut entries = Vec::with_capacity(targets.len() + 2);
    for (slot, target) in (0..).zip(&targets) {
        entries.push((Key::Slot(SlotKey { frontend, slot }), Object::Slot(*target)));
    }
    let affinity_seconds = item.affinity_seconds.map_or(0, std::num::NonZeroU32::get);
    // With affinity, those that may be gone on with. Over UDP also for who is to be cut off when one goes, and then one that is
    // going and still serves is none of those.
    let members: Vec<Target> = match (affinity_seconds, item.key.protocol.0) {
        (0, 17) => item.backends.iter().map(of_backend).collect(),
        (0, _) => Vec::new(),
        _ => targets.clone(),
    };
    let member = |backend: Target| (Key::Member(MemberKey { frontend, backend }), Object::Member);
    entries.extend(members.into_iter().map(member));
    if has_table && !targets.is_empty() {
        entries.push((Key::Table(frontend), Object::Table(maglev::table(&targets).into())));
    }
    let limited = match (&item.sources, item.key.address) {
        (None, _) => 0,
        (Some(_), IpAddr::V4(_)) => Frontend::V4,
        (Some(_), IpAddr::V6(_)) => Frontend::V6,
    };
    entries.extend(clients(item).into_iter().map(|clients| (Key::Range(frontend, clients), Object::Range)));
    let count = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    entries.push((Key::Frontend(frontend), Object::Frontend { count, affinity_seconds, choice, limited }));
    Ok(entries)
}
