//! The engine as agents and embedders open it. Opening never writes to the kernel: the first commit does.

use crate::config::Config;
use crate::driver::{Drainer, IpvsDriver};
use crate::probe::probe;
use crate::watch::ServicesWatch;
use async_trait::async_trait;
use cni_core::backend::{
    Capabilities, Capability, Change, CommitReport, Drift, DriftWatch, Engine, Failure, Plan, Reconciler, Result,
    ServiceProxy,
};
use cni_core::model::ServiceItem;
use std::time::Instant;

/// The reconciler, and after each of its commits a look at the destinations that drain.
struct IpvsServices {
    reconciler: Reconciler<IpvsDriver>,
    drainer: Drainer,
}

/// Services on IPVS in the network namespace of the calling thread.
///
/// # Errors
/// [`cni_core::backend::ErrorKind::Unsupported`] with the reason when this kernel cannot do it.
pub fn open(config: &Config) -> Result<Box<dyn ServiceProxy>> {
    open_parts(config).map(|engine| Box::new(engine) as Box<dyn ServiceProxy>)
}

/// The same, with a watch that asks for a resync when somebody else changes our rules, our device or its addresses, and while
/// destinations drain. Within a tokio runtime.
///
/// # Errors
/// As [`open`].
pub fn open_watched(config: &Config) -> Result<(Box<dyn ServiceProxy>, Box<dyn DriftWatch>)> {
    let engine = open_parts(config)?;
    let driver = engine.reconciler.driver();
    let watch = ServicesWatch::open(driver.nft_port(), driver.draining(), driver.watched())?;
    Ok((Box::new(engine), Box::new(watch)))
}

fn open_parts(config: &Config) -> Result<IpvsServices> {
    let capabilities = probe();
    capabilities.require(&[Capability::Services])?;
    let driver = IpvsDriver::open(config, capabilities)?;
    let drainer = Drainer::open(driver.draining())?;
    Ok(IpvsServices { reconciler: Reconciler::new(driver)?, drainer })
}

impl IpvsServices {
    /// The report with what went wrong with draining destinations.
    fn sweep(&mut self, mut report: CommitReport) -> CommitReport {
        if let Err(error) = self.drainer.sweep(Instant::now()) {
            report.failed.push(Failure { items: Vec::new(), object: "draining destinations".to_owned(), error });
        }
        report
    }
}

#[async_trait]
impl Engine<ServiceItem> for IpvsServices {
    fn capabilities(&self) -> &Capabilities {
        self.reconciler.capabilities()
    }

    fn stage(&mut self, change: Change<ServiceItem>) -> Result<()> {
        self.reconciler.stage(change)
    }

    fn plan(&self) -> Plan {
        self.reconciler.plan()
    }

    async fn commit(&mut self) -> CommitReport {
        let report = self.reconciler.commit().await;
        self.sweep(report)
    }

    async fn resync(&mut self) -> Result<Drift> {
        let drift = self.reconciler.resync().await?;
        Ok(Drift { repair: self.sweep(drift.repair.clone()), ..drift })
    }
}
