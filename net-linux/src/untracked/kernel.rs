//! Untracked tunnels in the kernel: observe and apply, each at one moment and all or nothing.

use super::program::{Which, table, tunnel_of};
use super::{Key, Object};
use crate::nft::{Batch, Nft, NftError, Rule, Table};
use cni_core::backend::{Op, Support};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

/// What is there, whoever made it: none, or one. A part that was removed or changed shows as not intact.
///
/// # Errors
/// [`NftError`].
pub fn observe(nft: &mut Nft) -> Result<Vec<(Key, Object)>, NftError> {
    let found = nft.steady(|nft, _| Found::read(nft))?;
    if found.chains.is_empty() {
        return Ok(Vec::new());
    }
    let tunnels: BTreeSet<SocketAddr> =
        found.chains.iter().flat_map(|(.., rules)| rules).filter_map(tunnel_of).collect();
    let as_made = |which: Which| {
        let found = found.chains.iter().find(|(chain, ..)| *chain == which);
        let rules = || tunnels.iter().map(|tunnel| which.rule(*tunnel));
        found.is_some_and(|(_, kept, present)| *kept && present.iter().cloned().eq(rules()))
    };
    let intact = found.awake && Which::ALL.into_iter().all(as_made);
    Ok(vec![(Key, Object { tunnels: tunnels.into_iter().collect(), intact })])
}

/// Makes one write, in one batch.
///
/// # Errors
/// [`NftError`]; nothing is changed then.
pub fn apply(nft: &mut Nft, op: &Op<Key, Object>) -> Result<(), NftError> {
    nft.transact(|nft| {
        let found = Found::read(nft)?;
        let mut batch = Batch::new();
        match op {
            Op::Put { object, .. } => put(&mut batch, &found, object),
            Op::Delete { .. } => delete(nft, &mut batch, &found)?,
        }
        Ok(batch)
    })
}

/// Whether this kernel can leave packets untracked: it is asked to take everything in a batch whose last message is
/// refused, so that nothing comes of it.
pub fn probe(nft: &mut Nft) -> Support {
    let mut batch = Batch::new();
    let object = Object { tunnels: vec![(Ipv4Addr::LOCALHOST, 1).into()], intact: true };
    put(&mut batch, &Found::default(), &object);
    nft.would_take(batch, table().family)
}

#[derive(Debug, Default)]
struct Found {
    table: bool,
    /// A dormant table's chains see nothing.
    awake: bool,
    /// Those of our chains that are there, whether the chain itself is as we make it, and its rules.
    chains: Vec<(Which, bool, Vec<Rule>)>,
}

impl Found {
    fn read(nft: &mut Nft) -> Result<Self, NftError> {
        let Some(present) = nft.table(&table())? else { return Ok(Self::default()) };
        let mut found = Self { table: true, awake: !present.object.dormant, chains: Vec::new() };
        for which in Which::ALL {
            if let Some(present) = nft.chain(&which.id())? {
                let rules = nft.rules_of(&which.id())?.into_iter().map(|rule| rule.object.at_rest()).collect();
                found.chains.push((which, present.object == which.chain(), rules));
            }
        }
        Ok(found)
    }
}

fn put(batch: &mut Batch, found: &Found, object: &Object) {
    // Also takes a table out of sleep.
    batch.add_table(&Table::new(table()));
    for (which, kept, _) in &found.chains {
        batch.flush_chain(&which.id());
        if !kept {
            batch.delete_chain(&which.id());
        }
    }
    for which in Which::ALL {
        batch.add_chain(&which.chain());
        object.tunnels.iter().for_each(|tunnel| batch.add_rule(&which.rule(*tunnel)));
    }
}

fn delete(nft: &mut Nft, batch: &mut Batch, found: &Found) -> Result<(), NftError> {
    if !found.table {
        return Ok(());
    }
    let other_chains = nft.chains(&table())?.len() > found.chains.len();
    if !other_chains && nft.sets(&table())?.is_empty() {
        // The table is empty but for this: nothing of ours stays.
        batch.delete_table(&table());
        return Ok(());
    }
    for (which, ..) in &found.chains {
        batch.flush_chain(&which.id());
        batch.delete_chain(&which.id());
    }
    Ok(())
}
