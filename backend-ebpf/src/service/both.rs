//! Programs at sockets, and beside them what clients outside reach, as one engine. Never a frontend at one of them only: what
//! programs refuse is nowhere.

use super::driver::SocketDriver;
use super::outside::OutsideDriver;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Change, CommitReport, Drift, Engine, Item as _, Plan, Reconciler, Result};
use cni_core::model::ServiceItem;

/// The engine of a node's services.
pub(super) struct Both {
    pub(super) sockets: Reconciler<SocketDriver>,
    /// `None`: nobody outside is served.
    pub(super) outside: Option<Reconciler<OutsideDriver>>,
}

#[async_trait]
impl Engine<ServiceItem> for Both {
    fn capabilities(&self) -> &Capabilities {
        self.sockets.capabilities()
    }

    fn stage(&mut self, change: Change<ServiceItem>) -> Result<()> {
        let told = self.sockets.stage(change.clone());
        let Some(outside) = &mut self.outside else { return told };
        match (told, change) {
            (told, Change::Config(_)) => told,
            (Err(error), Change::Put(item)) => outside.stage(Change::Remove(item.key())).and(Err(error)),
            (told, change) => told.and(outside.stage(change)),
        }
    }

    fn plan(&self) -> Plan {
        let plan = self.sockets.plan();
        match &self.outside {
            Some(outside) => plan.and(outside.plan()),
            None => plan,
        }
    }

    async fn commit(&mut self) -> CommitReport {
        let report = self.sockets.commit().await;
        match &mut self.outside {
            Some(outside) => report.and(outside.commit().await),
            None => report,
        }
    }

    async fn resync(&mut self) -> Result<Drift> {
        let drift = self.sockets.resync().await;
        let Some(outside) = &mut self.outside else { return drift };
        // Neither waits for the other to be readable.
        let of_outside = outside.resync().await;
        Ok(drift?.and(of_outside?))
    }
}
