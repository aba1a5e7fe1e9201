//! Who changed our table, as it happens. Never repairs: it asks for a resync.

use super::rules::table;
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use net_linux::nft::NftWatch;

/// A watch on our table.
pub(in crate::service) struct OutsideWatch {
    nft: NftWatch,
    /// The driver's netlink port.
    own: u32,
}

impl OutsideWatch {
    /// Listens in the network namespace of the calling thread.
    pub(in crate::service) fn open(own: u32) -> Result<Self> {
        Ok(Self { nft: NftWatch::open()?, own })
    }
}

#[async_trait]
impl DriftWatch for OutsideWatch {
    async fn changed(&mut self) -> Result<()> {
        Ok(self.nft.changed_by_others(&table(), self.own, |_| true).await?)
    }
}
