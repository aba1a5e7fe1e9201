//! Who changed our rules, our device, its addresses or forwarding, as it happens, and when draining destinations want to be looked
//! at. Never repairs: it asks for a resync. Of virtual services the kernel does not tell.

use crate::driver::{Draining, is_of_services};
use crate::object::{DEVICE, TUNNEL};
use crate::rules::table;
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use ipnet::IpNet;
use net_linux::host;
use net_linux::link::{Link, LinkKind};
use net_linux::monitor::{Change, DriftMonitor, Event, Group};
use net_linux::nft::NftWatch;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often draining destinations are looked at: the kernel does not tell when a connection ends.
const LOOK: Duration = Duration::from_secs(5);

/// What the driver wrote, where the kernel does not tell who wrote it: of devices, and of IPv6 addresses. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<Written>>);

#[derive(Debug, Default)]
struct Written {
    /// The index of our device.
    device: Option<u32>,
    /// Its addresses.
    addresses: BTreeSet<IpNet>,
}

impl Watched {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found.
    pub(crate) fn set(&self, device: Option<u32>, addresses: impl IntoIterator<Item = IpNet>) {
        *self.written() = Written { device, addresses: addresses.into_iter().collect() };
    }

    /// The device was made. It has no address yet.
    pub(crate) fn set_device(&self, device: u32) {
        self.set(Some(device), []);
    }

    /// An address is about to be written, or to be taken away.
    pub(crate) fn set_address(&self, address: IpNet, stays: bool) {
        let mut written = self.written();
        match stays {
            true => written.addresses.insert(address),
            false => written.addresses.remove(&address),
        };
    }

    /// Whether an event is about something that is not as we wrote it.
    fn concerns(&self, event: &Event) -> bool {
        let written = self.written();
        match event {
            Event::Link(Change::Deleted, link) => {
                written.device == Some(link.index) || [DEVICE, TUNNEL].contains(&link.name.as_str())
            }
            Event::Link(Change::Put, link) => written.device == Some(link.index) && !is_usable(link),
            Event::Address(change, address) if written.device == Some(address.index) => {
                let ours = written.addresses.contains(&address.address);
                match change {
                    Change::Deleted => ours,
                    Change::Put => !ours || !address.never_source,
                }
            }
            Event::Settings(settings) => host::are_amiss(settings, |_| false),
            Event::Lost => true,
            _ => false,
        }
    }
}

/// Whether a device is as we make it.
pub(crate) fn is_usable(link: &Link) -> bool {
    link.up && link.our_id().is_some() && matches!(link.kind, LinkKind::Dummy | LinkKind::Bridge)
}

/// A watch on our part of the tables, and a timer while something drains.
pub(crate) struct ServicesWatch {
    nft: NftWatch,
    tables: DriftMonitor,
    /// The driver's netlink port.
    own: u32,
    draining: Draining,
}

impl ServicesWatch {
    /// Listens in the network namespace of the calling thread, within a tokio runtime.
    pub(crate) fn open(own: u32, draining: Draining, watched: Watched) -> Result<Self> {
        let groups = [Group::Links, Group::Addresses, Group::Settings];
        let tables = DriftMonitor::open(&groups, Vec::new(), move |event| watched.concerns(event))?;
        Ok(Self { nft: NftWatch::open()?, tables, own, draining })
    }
}

/// Until draining destinations are to be looked at; for ever while there is none.
async fn due(draining: &Draining) {
    while draining.ledger().is_empty() {
        draining.begun.notified().await;
    }
    tokio::time::sleep(LOOK).await;
}

#[async_trait]
impl DriftWatch for ServicesWatch {
    async fn changed(&mut self) -> Result<()> {
        let table = table();
        tokio::select! {
            changed = self.nft.changed_by_others(&table, self.own, is_of_services) => Ok(changed?),
            changed = self.tables.changed() => changed,
            () = due(&self.draining) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_linux::addr::Address;
    use net_linux::monitor::{Scope, Settings};

    const OURS: u32 = 7;

    fn address(index: u32, text: &str, never_source: bool) -> Address {
        Address { never_source, ..Address::new(index, text.parse().unwrap()) }
    }

    #[test]
    fn what_the_driver_writes_is_no_concern_and_everything_else_of_ours_is() {
        let watched = Watched::default();
        let told = |change, index, text, never_source| {
            watched.concerns(&Event::Address(change, address(index, text, never_source)))
        };
        watched.set_device(OURS);
        for text in ["10.96.0.10/32", "fd00:96::10/128"] {
            assert!(told(Change::Put, OURS, text, true), "somebody else's");
            watched.set_address(text.parse().unwrap(), true);
            assert!(!told(Change::Put, OURS, text, true), "written by us");
            assert!(told(Change::Put, OURS, text, false), "altered");
            assert!(told(Change::Deleted, OURS, text, true), "taken away");
            assert!(!told(Change::Deleted, 8, text, true), "of another device");
            watched.set_address(text.parse().unwrap(), false);
            assert!(!told(Change::Deleted, OURS, text, true), "taken away by us");
        }
        watched.set(None, []);
        assert!(!told(Change::Put, OURS, "10.96.0.10/32", true), "there is no device of ours");
    }

    #[test]
    fn forwarding_that_is_switched_off_is_a_concern() {
        let told = |forwarding| {
            let told = Settings { v6: false, scope: Scope::All, forwarding, rp_filter: None, proxy_neighbour: None };
            Watched::default().concerns(&Event::Settings(told))
        };
        assert!(told(Some(0)));
        assert!(!told(Some(1)));
        assert!(Watched::default().concerns(&Event::Lost));
    }
}
