//! Who changed our rules, as it happens, and when draining destinations want to be looked at. Never repairs: it asks for a
//! resync.

use crate::driver::{Draining, is_of_services};
use crate::rules::table;
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use net_linux::nft::NftWatch;
use std::time::Duration;

/// How often draining destinations are looked at: the kernel does not tell when a connection ends.
const LOOK: Duration = Duration::from_secs(5);

/// A watch on our part of the table, and a timer while something drains.
pub(crate) struct ServicesWatch {
    nft: NftWatch,
    /// The driver's netlink port.
    own: u32,
    draining: Draining,
}

impl ServicesWatch {
    /// Listens in the network namespace of the calling thread.
    pub(crate) fn open(own: u32, draining: Draining) -> Result<Self> {
        Ok(Self { nft: NftWatch::open()?, own, draining })
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
            () = due(&self.draining) => Ok(()),
        }
    }
}
