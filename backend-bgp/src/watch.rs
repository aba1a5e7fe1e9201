//! Who changed something of ours, as it happens. Never repairs: it asks for a resync. Learned routes are not its concern:
//! the speaker's task looks after those.

use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Error, ErrorKind, Result};
use cni_core::model::InterfaceName;
use net_linux::marks;
use net_linux::monitor::{Change, DriftMonitor, Event, Group, Scope, Settings};
use net_linux::neigh::NeighbourState;
use net_linux::nft::{NftEvent, NftWatch};
use net_linux::route::MAIN_TABLE;
use net_linux::{masquerade, tunnel_ends, untracked};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What `rp_filter` of the tunnel device has to be, see [`crate::object::Device::SETTINGS`].
const RP_FILTER_LOOSE: i32 = 2;

/// What the driver wrote where the kernel does not tell who wrote it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// The index of our tunnel device.
    device: Option<u32>,
    /// That of a foreign device in its place.
    obstacle: Option<u32>,
}

impl Watched {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_device(&self, device: Option<u32>) {
        self.written().device = device;
    }

    pub(crate) fn set_obstacle(&self, obstacle: Option<u32>) {
        self.written().obstacle = obstacle;
    }

    /// Whether an event that we did not cause by a socket of ours is about something of ours.
    fn concerns(&self, event: &Event, underlay: &InterfaceName) -> bool {
        let written = self.written();
        let on_device = |index: u32| written.device == Some(index);
        match event {
            Event::Link(_, link) => {
                link.name == underlay.as_str() || on_device(link.index) || written.obstacle == Some(link.index)
            }
            Event::Settings(settings) => matters(settings, written.device),
            Event::Address(_, address) => on_device(address.index),
            Event::Route(_, route) => route.is_ours() && route.table == MAIN_TABLE,
            Event::Neighbour(change, neighbour) => {
                let lasting = neighbour.state == NeighbourState::Permanent || *change == Change::Deleted;
                neighbour.is_ours() || (lasting && on_device(neighbour.index))
            }
            Event::NextHop(..) | Event::Fdb(..) => false,
            _ => true,
        }
    }
}

/// Whether settings are not as we want them. Our own writes are told too, and so are those of every new device.
fn matters(settings: &Settings, device: Option<u32>) -> bool {
    match settings.scope {
        Scope::All => settings.forwarding == Some(0),
        Scope::Device(index) => {
            device == Some(index) && settings.rp_filter.is_some_and(|value| value != RP_FILTER_LOOSE)
        }
        Scope::Default => false,
    }
}

/// The backend's watch: tables and nftables.
pub(crate) struct BgpWatch {
    tables: DriftMonitor,
    nft: Option<(NftWatch, Option<u32>)>,
}

impl BgpWatch {
    /// Listens in the network namespace of the calling thread, within a tokio runtime. `ports` are the driver's.
    pub(crate) fn open(watched: Watched, underlay: InterfaceName, ports: (u32, Option<u32>)) -> Result<Self> {
        let concerns = move |event: &Event| watched.concerns(event, &underlay);
        let tables = DriftMonitor::open(&Group::ALL, vec![ports.0], concerns)?;
        Ok(Self { tables, nft: NftWatch::open().ok().map(|watch| (watch, ports.1)) })
    }
}

#[async_trait]
impl DriftWatch for BgpWatch {
    async fn changed(&mut self) -> Result<()> {
        tokio::select! {
            result = self.tables.changed() => result,
            result = table_of_ours_changed(&mut self.nft) => result,
        }
    }
}

/// Waits until somebody else changes our nftables table; for ever where there is no nftables.
async fn table_of_ours_changed(nft: &mut Option<(NftWatch, Option<u32>)>) -> Result<()> {
    let Some((watch, own)) = nft else { return std::future::pending().await };
    loop {
        let events = watch
            .next()
            .await
            .map_err(|error| Error::new(ErrorKind::Kernel, "watch", "nftables", &error).because(error))?;
        let concerns = |event: &NftEvent| match event {
            NftEvent::Changed(change) => {
                // Policy has its chains and sets in the same table.
                let ours = [masquerade::PREFIX, untracked::PREFIX, tunnel_ends::PREFIX];
                let is_ours = |name: &str| ours.iter().any(|prefix| name.starts_with(prefix));
                let concerns_us = change.name.as_ref().is_none_or(|name| is_ours(name.as_str()));
                change.table.name.as_str() == marks::NFT_TABLE && Some(change.port) != *own && concerns_us
            }
            NftEvent::Lost => true,
        };
        if events.iter().any(concerns) {
            return Ok(());
        }
    }
}
