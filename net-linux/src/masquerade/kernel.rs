//! Masquerading in the kernel: observe and apply, each at one moment and all or nothing.

use super::program::{Which, chain, chain_id, prefixes, rules, table};
use super::{Key, Object, normal};
use crate::nft::{Batch, Nft, NftError, Rule, Stored, Table};
use cni_core::backend::{Op, Support};

/// What is there, whoever made it: none, or one. A part that was removed or changed shows as not intact.
///
/// # Errors
/// [`NftError`].
pub fn observe(nft: &mut Nft) -> Result<Vec<(Key, Object)>, NftError> {
    let found = nft.steady(|nft, _| Found::read(nft))?;
    if found.chain == Part::Missing && found.sets.iter().all(|(_, part, _)| *part == Part::Missing) {
        return Ok(Vec::new());
    }
    let mut object = Object { sources: Vec::new(), keep: Vec::new(), intact: found.chain == Part::Good };
    for (which, part, elements) in found.sets {
        object.intact &= part == Part::Good;
        let side = if which.is_source() { &mut object.sources } else { &mut object.keep };
        match prefixes(&elements) {
            Some(prefixes) => side.extend(prefixes),
            None => object.intact = false,
        }
    }
    (object.sources, object.keep) = (normal(&object.sources), normal(&object.keep));
    Ok(vec![(Key, object)])
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

/// Whether this kernel can masquerade: it is asked to take everything in a batch whose last message is refused, so that
/// nothing comes of it.
pub fn probe(nft: &mut Nft) -> Support {
    let mut batch = Batch::new();
    let object = Object { sources: Vec::new(), keep: Vec::new(), intact: true };
    put(&mut batch, &Found::default(), &object);
    nft.would_take(batch, table().family)
}

/// How a part of ours is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    #[default]
    Missing,
    /// As we make it (of a set: apart from its elements).
    Good,
    /// There, but changed by somebody.
    Changed,
}

#[derive(Debug, Default)]
struct Found {
    table: bool,
    /// Whether the chain itself is as we make it, whatever its rules.
    chain_kept: bool,
    chain: Part,
    sets: Vec<(Which, Part, Vec<crate::nft::Element>)>,
}

impl Found {
    fn read(nft: &mut Nft) -> Result<Self, NftError> {
        let Some(present_table) = nft.table(&table())? else { return Ok(Self::default()) };
        let mut found = Self { table: true, ..Self::default() };
        if let Some(present) = nft.chain(&chain_id())? {
            found.chain_kept = present.object == chain();
            let present: Vec<Rule> = nft.rules_of(&chain_id())?.into_iter().map(|rule| rule.object.at_rest()).collect();
            // A dormant table's chains see nothing.
            let good = found.chain_kept && present == rules() && !present_table.object.dormant;
            found.chain = if good { Part::Good } else { Part::Changed };
        }
        for which in Which::ALL {
            let (part, elements) = match nft.set(&which.set().id)? {
                None => (Part::Missing, Vec::new()),
                Some(Stored { object, .. }) => {
                    let part = if object == which.set() { Part::Good } else { Part::Changed };
                    (part, nft.elements(&object)?)
                }
            };
            found.sets.push((which, part, elements));
        }
        Ok(found)
    }
}

fn put(batch: &mut Batch, found: &Found, object: &Object) {
    // Also takes a table out of sleep.
    batch.add_table(&Table::new(table()));
    if found.chain != Part::Missing {
        batch.flush_chain(&chain_id());
        if !found.chain_kept {
            batch.delete_chain(&chain_id());
        }
    }
    for (which, part, _) in &found.sets {
        match part {
            Part::Missing => {}
            Part::Good => batch.flush_set(&which.set().id),
            Part::Changed => batch.delete_set(&which.set().id),
        }
    }
    for which in Which::ALL {
        let set = which.set();
        batch.add_set(&set);
        batch.add_elements(&set, &which.elements(if which.is_source() { &object.sources } else { &object.keep }));
    }
    batch.add_chain(&chain());
    rules().iter().for_each(|rule| batch.add_rule(rule));
}

fn delete(nft: &mut Nft, batch: &mut Batch, found: &Found) -> Result<(), NftError> {
    if !found.table {
        return Ok(());
    }
    let sets: Vec<_> = found.sets.iter().filter(|(_, part, _)| *part != Part::Missing).collect();
    let other_chains = nft.chains(&table())?.iter().any(|chain| chain.object.id != chain_id());
    let other_sets = nft.sets(&table())?.len() > sets.len();
    if !other_chains && !other_sets {
        // The table is empty but for this: nothing of ours stays.
        batch.delete_table(&table());
        return Ok(());
    }
    if found.chain != Part::Missing {
        batch.flush_chain(&chain_id());
        batch.delete_chain(&chain_id());
    }
    sets.iter().for_each(|(which, ..)| batch.delete_set(&which.set().id));
    Ok(())
}
