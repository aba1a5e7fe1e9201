//! Who changed something of ours, as it happens. Never repairs: it asks for a resync.

use crate::kernel::Hook;
use crate::placed::{Placed, PlacedWatch};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use cni_core::model::InterfaceName;
use net_linux::host;
use net_linux::monitor::{DriftMonitor, Event, Group};
use net_linux::route::MAIN_TABLE;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the driver wrote where the kernel does not tell who wrote it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    written: Arc<Mutex<Written>>,
    /// Programs at their hooks.
    pub(crate) placed: Placed,
    /// The same of masquerading's, which may be at a hook where others of ours are.
    pub(crate) masquerading: Placed,
}

#[derive(Debug, Default)]
struct Written {
    /// Indices of our tunnel devices.
    devices: HashSet<u32>,
    /// That of a foreign device in the place of one.
    obstacle: Option<u32>,
}

impl Watched {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_devices(&self, devices: impl Iterator<Item = u32>) {
        self.written().devices = devices.collect();
    }

    pub(crate) fn add_device(&self, device: u32) {
        self.written().devices.insert(device);
    }

    pub(crate) fn set_obstacle(&self, obstacle: Option<u32>) {
        self.written().obstacle = obstacle;
    }

    /// Whether an event that we did not cause by a socket of ours is about something of ours.
    fn concerns(&self, event: &Event, underlay: &InterfaceName) -> bool {
        let written = self.written();
        let on_device = |index: u32| written.devices.contains(&index);
        match event {
            Event::Link(_, link) => {
                link.name == underlay.as_str() || on_device(link.index) || written.obstacle == Some(link.index)
            }
            Event::Settings(settings) => host::are_amiss(settings, on_device),
            Event::Address(_, address) => on_device(address.index),
            Event::Route(_, route) => route.is_ours() && route.table == MAIN_TABLE,
            Event::Neighbour(_, neighbour) => neighbour.is_ours(),
            Event::NextHop(..) | Event::Fdb(..) => false,
            _ => true,
        }
    }
}

/// The backend's watch: tables, nftables and programs.
pub(crate) struct EbpfWatch {
    tables: DriftMonitor,
    host: host::Watch,
    programs: PlacedWatch,
    masquerading: PlacedWatch,
}

impl EbpfWatch {
    /// Listens in the network namespace of the calling thread, within a tokio runtime. `ports` are the driver's, as is the hook.
    pub(crate) fn open(
        watched: Watched,
        underlay: InterfaceName,
        ports: (u32, Option<u32>),
        hook: Hook,
    ) -> Result<Self> {
        let open = |placed: &Placed| PlacedWatch::open(placed.clone(), hook);
        let (programs, masquerading) = (open(&watched.placed)?, open(&watched.masquerading)?);
        let concerns = move |event: &Event| watched.concerns(event, &underlay);
        let tables = DriftMonitor::open(&Group::ALL, vec![ports.0], concerns)?;
        Ok(Self { tables, host: host::Watch::open(ports.1), programs, masquerading })
    }
}

#[async_trait]
impl DriftWatch for EbpfWatch {
    async fn changed(&mut self) -> Result<()> {
        tokio::select! {
            result = self.tables.changed() => result,
            result = self.host.changed() => result,
            () = self.programs.amiss() => Ok(()),
            () = self.masquerading.amiss() => Ok(()),
        }
    }
}
