//! Who changed something of ours, as it happens. Never repairs: it asks for a resync.

use crate::names::{self, PREFIX};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use net_linux::nft::{Name, NftWatch};

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
}

#[async_trait]
impl DriftWatch for PolicyWatch {
    async fn changed(&mut self) -> Result<()> {
        let ours = |name: Option<&Name>| name.is_none_or(|name| name.as_str().starts_with(PREFIX));
        Ok(self.watch.changed_by_others(&names::table(), self.own, ours).await?)
    }
}
