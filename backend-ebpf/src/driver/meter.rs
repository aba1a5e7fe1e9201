//! How full the maps of forwarding and masquerading are, and what both drop, for monitors. Never writes.

use super::kernel_error;
use crate::kernel::{ForwardMaps, MasqueradeMaps, Used};
use crate::object::Key;
use backend_ebpf_abi::{Forwarded, Masqueraded};
use cni_core::backend::{Dropped, Meter, Result, TableUse, WhenFull};
use cni_core::flow::Reason;
use cni_core::policy::model::Direction;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The maps that the driver last saw, which it puts here. `None`: there are none.
#[derive(Clone, Default)]
pub(crate) struct Metered(Arc<Mutex<Seen>>);

#[derive(Clone, Default)]
struct Seen {
    forward: Option<Arc<ForwardMaps>>,
    masquerade: Option<Arc<MasqueradeMaps>>,
}

impl Metered {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, maps: Option<ForwardMaps>) {
        self.seen().forward = maps.map(Arc::new);
    }

    pub(super) fn set_masquerading(&self, maps: Option<MasqueradeMaps>) {
        self.seen().masquerade = maps.map(Arc::new);
    }

    /// The lock is not held while the maps are read: the driver does not wait for who counts.
    fn get(&self) -> Seen {
        self.seen().clone()
    }
}

/// The programs' clock: seconds since the machine was started.
pub(super) fn now_seconds() -> u32 {
    u32::try_from(clock_gettime(ClockId::Monotonic).tv_sec).unwrap_or(u32::MAX)
}

/// What masquerading drops in the words of flows.
const fn reason(dropped: Masqueraded) -> Reason {
    match dropped {
        Masqueraded::NoPort | Masqueraded::PortOfPod => Reason::Full,
        Masqueraded::UnknownFragment => Reason::UnknownFragment,
        Masqueraded::Malformed => Reason::Malformed,
        Masqueraded::ForgedError => Reason::ForgedError,
        _ => Reason::Other,
    }
}

/// What forwarding drops, which way it goes, and why.
const OF_FORWARDING: [(Forwarded, Option<Direction>, Reason); 4] = [
    (Forwarded::UnknownPrefix, Some(Direction::Egress), Reason::Incomplete),
    (Forwarded::NotIp, Some(Direction::Egress), Reason::NotIp),
    (Forwarded::OtherNetwork, Some(Direction::Ingress), Reason::Other),
    // Into the tunnel or out of it.
    (Forwarded::Refused, None, Reason::Other),
];

impl Meter for Metered {
    /// By masquerading, and by forwarding in the tunnel: what its fast path does not know it leaves to the host's stack.
    fn dropped(&self) -> Result<Vec<Dropped>> {
        let seen = self.get();
        let mut all = BTreeMap::<(Option<Direction>, Reason), u64>::new();
        if let Some(maps) = seen.forward {
            for (what, direction, reason) in OF_FORWARDING {
                let packets = maps.packets(what).map_err(|error| kernel_error("read", &Key::Programs, error))?;
                *all.entry((direction, reason)).or_default() += packets;
            }
        }
        if let Some(maps) = seen.masquerade {
            for what in Masqueraded::DROPPED {
                let packets = maps.packets(what).map_err(|error| kernel_error("read", &Key::Masquerade, error))?;
                *all.entry((Some(Direction::Egress), reason(what))).or_default() += packets;
            }
        }
        let dropped = |((direction, reason), packets)| Dropped::told(direction, reason, packets);
        Ok(all.into_iter().map(dropped).collect())
    }

    fn tables(&self) -> Result<Vec<TableUse>> {
        let seen = self.get();
        let mut used: Vec<Used> = Vec::new();
        if let Some(maps) = seen.forward {
            used.extend(maps.used().map_err(|error| kernel_error("read", &Key::Programs, error))?);
        }
        if let Some(maps) = seen.masquerade {
            used.extend(maps.used(now_seconds()).map_err(|error| kernel_error("read", &Key::Masquerade, error))?);
        }
        let table = |used: Used| TableUse {
            table: used.map,
            entries: used.entries,
            room: used.room.into(),
            when_full: match used.map {
                "COMING" | "LEAVING" | "MASQ_FRAGMENTS" => WhenFull::ForgetsOldest,
                _ => WhenFull::Refuses,
            },
        };
        Ok(used.into_iter().map(table).collect())
    }
}
