//! The engine as agents and embedders open it. Opening never writes to the kernel: the first commit does.

use crate::config::Config;
use crate::connections::{Connections, Touched};
use crate::driver::{PolicyDriver, observe};
use crate::names;
use crate::object::Key;
use crate::probe::probe;
use crate::watch::PolicyWatch;
use async_trait::async_trait;
use cni_core::backend::{
    Capabilities, Capability, Change, CommitReport, Drift, DriftWatch, Engine, Failure, Plan, Reconciler, Result,
};
use cni_core::policy::program::{PolicyEngine, PolicyItem};
use net_linux::nft::{Batch, Nft};
use std::sync::{Arc, Mutex, PoisonError};

/// The reconciler, and after each of its commits a look at the connections that were open before.
struct NftPolicy {
    reconciler: Reconciler<PolicyDriver>,
    touched: Arc<Mutex<Touched>>,
    connections: Connections,
    /// The first full state was staged. Before that, endpoints come whose connections are older than our rules.
    in_sync: bool,
}

/// A policy engine in the network namespace of the calling thread.
///
/// # Errors
/// [`cni_core::backend::ErrorKind::Unsupported`] with the reason when this kernel cannot do it.
pub fn open(config: &Config) -> Result<Box<dyn PolicyEngine>> {
    open_watched(config).map(|(engine, _)| engine)
}

/// The same, with a watch that asks for a resync when somebody else changes something of ours.
///
/// # Errors
/// As [`open`].
pub fn open_watched(config: &Config) -> Result<(Box<dyn PolicyEngine>, Box<dyn DriftWatch>)> {
    let capabilities = probe(config);
    capabilities.require(&[Capability::Policy])?;
    let driver = PolicyDriver::open(config, capabilities)?;
    let touched = driver.touched();
    let connections = Connections::open()?;
    let watch = PolicyWatch::open(driver.port())?;
    Ok((
        Box::new(NftPolicy { reconciler: Reconciler::new(driver)?, touched, connections, in_sync: false }),
        Box::new(watch),
    ))
}

impl NftPolicy {
    /// The report with what went wrong with connections.
    fn look(&mut self, mut report: CommitReport) -> CommitReport {
        let mut touched = self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.connections.look(&mut touched) {
            report.failed.push(Failure { items: Vec::new(), object: "open connections".to_owned(), error });
        }
        if !self.in_sync {
            touched.start_again();
        }
        report
    }
}

#[async_trait]
impl Engine<PolicyItem> for NftPolicy {
    fn capabilities(&self) -> &Capabilities {
        self.reconciler.capabilities()
    }

    fn stage(&mut self, change: Change<PolicyItem>) -> Result<()> {
        self.in_sync |= matches!(change, Change::InSync);
        self.reconciler.stage(change)
    }

    fn plan(&self) -> Plan {
        self.reconciler.plan()
    }

    async fn commit(&mut self) -> CommitReport {
        let report = self.reconciler.commit().await;
        self.look(report)
    }

    async fn resync(&mut self) -> Result<Drift> {
        let drift = self.reconciler.resync().await?;
        Ok(Drift { repair: self.look(drift.repair.clone()), ..drift })
    }
}

/// Whether anything of ours is there, but for the table, which others of us use too.
///
/// # Errors
/// The kernel could not be read.
pub fn is_there() -> Result<bool> {
    let found = observe(&mut Nft::open()?)?;
    Ok(found.iter().any(|(key, _)| !matches!(key, Key::Table)))
}

/// Removes all of ours but the table, which others of us use too: for a node whose policy is switched off. Without this its
/// pods would stay as closed as they are.
///
/// # Errors
/// The kernel refused; nothing is changed then.
pub fn clear() -> Result<()> {
    let mut nft = Nft::open()?;
    nft.transact(|nft| {
        let mut batch = Batch::new();
        let (mut chains, mut sets) = (Vec::new(), Vec::new());
        for (key, _) in observe(nft)? {
            match key {
                Key::Chain(name) => chains.push(names::table().chain(name)),
                Key::Set(name) => sets.push(names::table().set(name)),
                Key::Table | Key::Element(..) => {}
            }
        }
        // Rules hold on to sets and chains, maps to chains.
        chains.iter().for_each(|chain| batch.flush_chain(chain));
        sets.iter().for_each(|set| batch.flush_set(set));
        chains.iter().for_each(|chain| batch.delete_chain(chain));
        sets.iter().for_each(|set| batch.delete_set(set));
        Ok(batch)
    })?;
    Ok(())
}
