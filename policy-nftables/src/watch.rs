//! Who changed something of ours, as it happens. Never repairs: it asks for a resync.

use crate::names::{self, PREFIX};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Error, ErrorKind, Result};
use net_linux::nft::{NftEvent, NftWatch};

/// A watch on our part of the table.
pub(crate) struct PolicyWatch {
    watch: NftWatch,
    /// The driver's netlink port.
    own: u32,
}

impl PolicyWatch {
    /// Listens in the network namespace of the calling thread.
    pub(crate) fn open(own: u32) -> Result<Self> {
        Ok(Self { watch: NftWatch::open()?, own })
    }

    fn concerns(&self, event: &NftEvent) -> bool {
        match event {
            NftEvent::Changed(change) => {
                let ours = change.name.as_ref().is_none_or(|name| name.as_str().starts_with(PREFIX));
                change.table == names::table() && ours && change.port != self.own
            }
            NftEvent::Lost => true,
        }
    }
}

#[async_trait]
impl DriftWatch for PolicyWatch {
    async fn changed(&mut self) -> Result<()> {
        loop {
            let events = self
                .watch
                .next()
                .await
                .map_err(|error| Error::new(ErrorKind::Kernel, "watch", "nftables", &error).because(error))?;
            if events.iter().any(|event| self.concerns(event)) {
                return Ok(());
            }
        }
    }
}
