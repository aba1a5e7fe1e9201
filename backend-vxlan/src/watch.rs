//! Who changed something of ours, as it happens. Never repairs: it asks for a resync.

use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use cni_core::model::{InterfaceName, MacAddr};
use net_linux::host;
use net_linux::monitor::{Change, DriftMonitor, Event, Group};
use net_linux::neigh::NeighbourState;
use net_linux::route::MAIN_TABLE;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// What the driver wrote where the kernel does not tell who wrote it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// Indices of our tunnel devices.
    devices: HashSet<u32>,
    /// Forwarding entries: events of them carry no port, so an echo of ours is known by its content.
    forwards: HashMap<(u32, MacAddr), IpAddr>,
    /// Foreign devices that stand where one of ours should be.
    obstacles: HashMap<InterfaceName, u32>,
}

impl Watched {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_devices(&self, devices: impl Iterator<Item = u32>) {
        let mut written = self.written();
        let devices = devices.collect();
        written.devices = devices;
        let Written { devices, forwards, .. } = &mut *written;
        forwards.retain(|(device, _), _| devices.contains(device));
    }

    pub(crate) fn add_device(&self, device: u32) {
        self.written().devices.insert(device);
    }

    /// Whether a device is a tunnel device of ours.
    pub(crate) fn has_device(&self, device: u32) -> bool {
        self.written().devices.contains(&device)
    }

    /// The VTEPs of all peers, in a stable order.
    pub(crate) fn vteps(&self) -> Vec<(u32, MacAddr)> {
        let mut vteps: Vec<(u32, MacAddr)> = self.written().forwards.keys().copied().collect();
        vteps.sort_unstable();
        vteps
    }

    /// A forwarding entry was seen, or is about to be written; `None`: deleted.
    pub(crate) fn forwards(&self, device: u32, mac: MacAddr, to: Option<IpAddr>) {
        let mut written = self.written();
        match to {
            Some(to) => written.forwards.insert((device, mac), to),
            None => written.forwards.remove(&(device, mac)),
        };
    }

    /// A device of ours can't be made while another one, with this index, is there.
    pub(crate) fn obstructed(&self, device: &InterfaceName, by: u32) {
        self.written().obstacles.insert(device.clone(), by);
    }

    /// Nothing is known to stand in a device's way.
    pub(crate) fn unobstructed(&self, device: &InterfaceName) {
        self.written().obstacles.remove(device);
    }

    /// Whether an event that we did not cause by a socket of ours is about something of ours.
    fn concerns(&self, event: &Event, underlay: &InterfaceName) -> bool {
        let written = self.written();
        match event {
            // Routes and next hops go with their device, and for IPv4 the kernel does not say so.
            Event::Link(_, link) => {
                let stands_in_the_way = || written.obstacles.values().any(|index| *index == link.index);
                link.name == underlay.as_str() || written.devices.contains(&link.index) || stands_in_the_way()
            }
            Event::Settings(settings) => host::are_amiss(settings, |index| written.devices.contains(&index)),
            Event::Address(_, address) => written.devices.contains(&address.index),
            Event::Route(_, route) => route.is_ours() && route.table == MAIN_TABLE,
            Event::NextHop(_, next_hop) => next_hop.is_ours(),
            Event::Neighbour(change, neighbour) => {
                let lasting = neighbour.state == NeighbourState::Permanent || *change == Change::Deleted;
                neighbour.is_ours() || (lasting && written.devices.contains(&neighbour.index))
            }
            Event::Fdb(change, entry) => {
                let expected = written.forwards.get(&(entry.index, entry.mac));
                let found = Some(&entry.destination).filter(|_| *change == Change::Put);
                written.devices.contains(&entry.index) && expected != found
            }
            _ => true,
        }
    }
}

/// The backend's watch: tables, nftables, and decisions of its own.
pub(crate) struct VxlanWatch {
    tables: DriftMonitor,
    host: host::Watch,
    /// The self-test decided something that the driver shall write.
    decided: Arc<Notify>,
}

impl VxlanWatch {
    /// Listens in the network namespace of the calling thread, within a tokio runtime. `ports` are the driver's.
    pub(crate) fn open(
        watched: Watched,
        underlay: InterfaceName,
        ports: (u32, Option<u32>),
        decided: Arc<Notify>,
    ) -> Result<Self> {
        let concerns = move |event: &Event| watched.concerns(event, &underlay);
        let tables = DriftMonitor::open(&Group::ALL, vec![ports.0], concerns)?;
        Ok(Self { tables, host: host::Watch::open(ports.1), decided })
    }
}

#[async_trait]
impl DriftWatch for VxlanWatch {
    async fn changed(&mut self) -> Result<()> {
        tokio::select! {
            result = self.tables.changed() => result,
            result = self.host.changed() => result,
            () = self.decided.notified() => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_linux::fdb::FdbEntry;

    #[test]
    fn an_echo_of_our_own_forwarding_entry_is_no_drift_and_a_strangers_change_is() {
        let (watched, eth0) = (Watched::default(), InterfaceName::new("eth0").unwrap());
        let (mac, ours, theirs) = (MacAddr([2; 6]), IpAddr::from([192, 0, 2, 2]), IpAddr::from([192, 0, 2, 3]));
        watched.add_device(7);
        watched.forwards(7, mac, Some(ours));
        let put = |to| Event::Fdb(Change::Put, FdbEntry::new(7, mac, to));
        let deleted = Event::Fdb(Change::Deleted, FdbEntry::new(7, mac, ours));
        assert!(!watched.concerns(&put(ours), &eth0));
        assert!(watched.concerns(&put(theirs), &eth0));
        assert!(watched.concerns(&deleted, &eth0));
        watched.forwards(7, mac, None);
        assert!(!watched.concerns(&deleted, &eth0));
        assert!(!watched.concerns(&Event::Fdb(Change::Put, FdbEntry::new(8, mac, theirs)), &eth0));
    }
}
