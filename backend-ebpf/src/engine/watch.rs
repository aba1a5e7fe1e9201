//! When the node's own addresses change: rules that speak of the node mean others then. And when a program was taken off. Never
//! which.

use crate::placed::{Placed, PlacedWatch};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Error, ErrorKind, Result};
use net_linux::monitor::{Group, Monitor};
use std::fmt::Display;

/// A watch on addresses and programs.
pub(super) struct PolicyWatch {
    addresses: Monitor,
    programs: PlacedWatch,
}

impl PolicyWatch {
    /// Listens in the network namespace of the calling thread.
    pub(super) fn open(placed: Placed) -> Result<Self> {
        let addresses = Monitor::open(&[Group::Addresses]).map_err(failed)?;
        Ok(Self { addresses, programs: PlacedWatch::open(placed).map_err(failed)? })
    }
}

#[async_trait]
impl DriftWatch for PolicyWatch {
    async fn changed(&mut self) -> Result<()> {
        tokio::select! {
            event = self.addresses.next() => event.map(drop).map_err(failed),
            () = self.programs.amiss() => Ok(()),
        }
    }
}

fn failed(error: impl Display) -> Error {
    Error::new(ErrorKind::Kernel, "watch", "policy in eBPF", error)
}
