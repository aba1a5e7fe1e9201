//! The engine as agents and embedders open it. Never writes to the kernel: the first commit does.

use crate::config::Config;
use crate::driver::{PolicyDriver, observe};
use crate::object::Key;
use crate::probe::probe;
use crate::names;
use cni_core::backend::{Capability, Reconciler, Result};
use cni_core::policy::program::PolicyEngine;
use net_linux::nft::{Batch, Nft};

/// A policy engine in the network namespace of the calling thread.
///
/// # Errors
/// [`cni_core::backend::ErrorKind::Unsupported`] with the reason when this kernel cannot do it.
pub fn open(config: &Config) -> Result<Box<dyn PolicyEngine>> {
    let capabilities = probe(config);
    capabilities.require(&[Capability::Policy])?;
    Ok(Box::new(Reconciler::new(PolicyDriver::open(config, capabilities)?)?))
}

/// Removes all of ours but the table, which others of us use too: for a node whose policy is switched off. Without this its
/// pods would stay closed or as they are.
///
/// # Errors
/// The kernel refused; nothing is changed then.
pub fn clear() -> Result<()> {
    let mut nft = Nft::open()?;
    nft.transact(|nft| {
        let mut batch = Batch::new();
        let found = observe(nft)?;
        let table = names::table();
        let chains: Vec<_> = found.iter().filter_map(|(key, _)| match key {
            Key::Chain(name) => Some(table.chain(name.clone())),
            _ => None,
        }).collect();
        chains.iter().for_each(|chain| batch.flush_chain(chain));
        for (key, _) in &found {
            // Maps hold on to chains.
            if let Key::Set(name) = key {
                batch.flush_set(&table.set(name.clone()));
            }
        }
        chains.iter().for_each(|chain| batch.delete_chain(chain));
        for (key, _) in &found {
            if let Key::Set(name) = key {
                batch.delete_set(&table.set(name.clone()));
            }
        }
        Ok(batch)
    })?;
    Ok(())
}
