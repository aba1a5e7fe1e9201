//! Guarded tunnels in the kernel: observe and apply, each at one moment and all or nothing.

use super::program::{Ends, Which, address_of, element, table, tunnel_of};
use super::{Key, Object, Tunnel};
use crate::nft::{Batch, Element, Nft, NftError, Rule, Table};
use cni_core::backend::{Known, Op, Support};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What is there, whoever made it. A part that was removed or changed shows as not intact.
///
/// # Errors
/// [`NftError`].
pub fn observe(nft: &mut Nft) -> Result<Vec<(Key, Object)>, NftError> {
    let (found, elements) = nft.steady(|nft, _| {
        let found = Found::read(nft, true)?;
        let kept = found.sets.iter().filter(|(_, kept)| *kept);
        let elements = kept.map(|(ends, _)| nft.elements(&ends.set())).collect::<Result<Vec<_>, _>>()?;
        Ok((found, elements.concat()))
    })?;
    if found.chains.is_empty() && found.sets.is_empty() {
        return Ok(Vec::new());
    }
    let tunnels: BTreeSet<Tunnel> = found.chains.iter().flat_map(|(.., rules)| rules).filter_map(tunnel_of).collect();
    let as_made = |which: Which| {
        let found = found.chains.iter().find(|(chain, ..)| *chain == which);
        let rules = || tunnels.iter().flat_map(|tunnel| which.rules(*tunnel));
        found.is_some_and(|(_, kept, present)| *kept && present.iter().cloned().eq(rules()))
    };
    let sets = found.sets.len() == Ends::ALL.len() && found.sets.iter().all(|(_, kept)| *kept);
    let only_addresses = elements.iter().all(|element| address_of(element).is_some());
    let intact = found.awake && sets && only_addresses && Which::ALL.into_iter().all(as_made);
    let guard = (Key::Guard, Object::Guard { tunnels: tunnels.into_iter().collect(), intact });
    let ends = elements.iter().filter_map(|found| {
        let address = address_of(found)?;
        Some((Key::End(address), Object::End { intact: *found == element(address) }))
    });
    Ok(std::iter::once(guard).chain(ends).collect())
}

/// Makes writes, all in one batch: the guard is put before ends and deleted after them.
///
/// # Errors
/// [`NftError`]; nothing is changed then.
pub fn apply<'a, I>(nft: &mut Nft, ops: I) -> Result<(), NftError>
where
    I: IntoIterator<Item = &'a Op<Key, Object>> + Clone,
{
    nft.transact(|nft| {
        let of_guard = ops.clone().into_iter().find(|op| *op.key() == Key::Guard);
        let mut found = Found::read(nft, false)?;
        let mut batch = Batch::new();
        if let Some(Op::Put { object: Object::Guard { tunnels, .. }, .. }) = of_guard {
            put_guard(&mut batch, &found, tunnels);
            found.sets = Ends::ALL.map(|ends| (ends, true)).into();
        }
        for ends in Ends::ALL {
            let of_set = ops.clone().into_iter().filter(|op| match *op.key() {
                Key::End(address) => Ends::of(address) == ends,
                Key::Guard => false,
            });
            write_ends(&mut batch, &found, ends, of_set);
        }
        if let Some(Op::Delete { .. }) = of_guard {
            delete_guard(nft, &mut batch, &found)?;
        }
        Ok(batch)
    })
}

/// Whether this kernel can guard a tunnel: it is asked to take everything in a batch whose last message is refused, so
/// that nothing comes of it.
pub fn probe(nft: &mut Nft) -> Support {
    let mut batch = Batch::new();
    let end = IpAddr::from(Ipv4Addr::LOCALHOST);
    let tunnels = [Tunnel::Udp(SocketAddr::new(end, 1)), Tunnel::Ipip(Ipv4Addr::LOCALHOST)];
    put_guard(&mut batch, &Found::default(), &tunnels);
    batch.add_elements(&Ends::V4.set(), [&element(end)]);
    nft.would_take(batch, table().family)
}

#[derive(Debug, Default)]
struct Found {
    table: bool,
    /// A dormant table's chains see nothing.
    awake: bool,
    /// Those of our chains that are there, whether the chain itself is as we make it, and its rules where they were read.
    chains: Vec<(Which, bool, Vec<Rule>)>,
    /// Those of our sets that are there, and whether the set itself is as we make it.
    sets: Vec<(Ends, bool)>,
}

impl Found {
    fn read(nft: &mut Nft, rules: bool) -> Result<Self, NftError> {
        let Some(present) = nft.table(&table())? else { return Ok(Self::default()) };
        let mut found = Self { table: true, awake: !present.object.dormant, ..Self::default() };
        for which in Which::ALL {
            if let Some(present) = nft.chain(&which.id())? {
                let rules = if rules { nft.rules_of(&which.id())? } else { Vec::new() };
                let rules = rules.into_iter().map(|rule| rule.object.at_rest()).collect();
                found.chains.push((which, present.object == which.chain(), rules));
            }
        }
        for ends in Ends::ALL {
            if let Some(present) = nft.set(&ends.set().id)? {
                found.sets.push((ends, present.object == ends.set()));
            }
        }
        Ok(found)
    }

    fn has(&self, ends: Ends) -> bool {
        self.sets.iter().any(|(set, _)| *set == ends)
    }
}

/// Sets that are as they should be stay, with their elements: nobody goes unheard while rules are put back.
fn put_guard(batch: &mut Batch, found: &Found, tunnels: &[Tunnel]) {
    // Also takes a table out of sleep.
    batch.add_table(&Table::new(table()));
    for (which, kept, _) in &found.chains {
        batch.flush_chain(&which.id());
        if !kept {
            batch.delete_chain(&which.id());
        }
    }
    for (ends, _) in found.sets.iter().filter(|(_, kept)| !kept) {
        batch.delete_set(&ends.set().id);
    }
    for ends in Ends::ALL {
        batch.add_set(&ends.set());
    }
    for which in Which::ALL {
        batch.add_chain(&which.chain());
        tunnels.iter().flat_map(|tunnel| which.rules(*tunnel)).for_each(|rule| batch.add_rule(&rule));
    }
}

/// An element that is not known to be absent is added and deleted: that succeeds whether or not it is there.
fn write_ends<'a>(batch: &mut Batch, found: &Found, ends: Ends, ops: impl Iterator<Item = &'a Op<Key, Object>>) {
    let (mut gone, mut put): (Vec<Element>, Vec<Element>) = (Vec::new(), Vec::new());
    for op in ops {
        let Key::End(address) = *op.key() else { continue };
        match op {
            Op::Put { present: Known::Absent | Known::Present(Object::End { intact: true }), .. } => {}
            Op::Put { .. } | Op::Delete { .. } => gone.push(element(address)),
        }
        if matches!(op, Op::Put { .. }) {
            put.push(element(address));
        }
    }
    let set = ends.set();
    if !found.has(ends) {
        if put.is_empty() {
            return;
        }
        batch.add_table(&Table::new(table()));
        batch.add_set(&set);
    }
    if !gone.is_empty() {
        batch.add_elements(&set, &gone);
        batch.delete_elements(&set, &gone);
    }
    if !put.is_empty() {
        batch.add_elements(&set, &put);
    }
}

fn delete_guard(nft: &mut Nft, batch: &mut Batch, found: &Found) -> Result<(), NftError> {
    if !found.table {
        return Ok(());
    }
    let others = nft.chains(&table())?.len() > found.chains.len() || nft.sets(&table())?.len() > found.sets.len();
    if !others {
        // The table is empty but for this: nothing of ours stays.
        batch.delete_table(&table());
        return Ok(());
    }
    for (which, ..) in &found.chains {
        batch.flush_chain(&which.id());
        batch.delete_chain(&which.id());
    }
    for (ends, _) in &found.sets {
        batch.delete_set(&ends.set().id);
    }
    Ok(())
}
