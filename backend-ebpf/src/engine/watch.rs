//! When the node's own addresses change: rules that speak of the node mean others then. Never which.

use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Error, ErrorKind, Result};
use net_linux::monitor::{Group, Monitor};

/// A watch on addresses.
pub(super) struct AddressWatch(Monitor);

impl AddressWatch {
    /// Listens in the network namespace of the calling thread.
    pub(super) fn open() -> Result<Self> {
        Monitor::open(&[Group::Addresses]).map(Self).map_err(failed)
    }
}

#[async_trait]
impl DriftWatch for AddressWatch {
    async fn changed(&mut self) -> Result<()> {
        self.0.next().await.map(drop).map_err(failed)
    }
}

fn failed(error: net_linux::netlink::Error) -> Error {
    Error::new(ErrorKind::Kernel, "watch", "addresses of the node", &error).because(error)
}
