//! Our chains, rules and sets in the kernel. Never what they are: `rules` says it.

use super::{Write, another};
use crate::former::Record;
use crate::object::{Key, Object};
use crate::rules::{PREFIX, Set, chains, is_ours, table};
use cni_core::backend::{Error, Known, Op, Result};
use net_linux::nft::{Batch, Chain, ChainId, Element, Name, Nft, NftError, Rule, SetId, Table, TableContents};
use std::collections::BTreeMap;

/// All of ours, as it was at one moment. Elements of a set that is not as we make it go with the set. Takes into the record what
/// a predecessor left of it.
pub(super) fn read(nft: &mut Nft, record: &mut Record) -> Result<Vec<(Key, Object)>, NftError> {
    let Some(contents) = nft.contents(&table())? else { return Ok(Vec::new()) };
    record.learn(Record::of_rules(contents.rules_of(&Record::chain().id).map(|rule| &rule.object)));
    let found = Found::of(&contents);
    if found.chains.is_empty() && found.sets.is_empty() {
        return Ok(Vec::new());
    }
    let mut objects = vec![(Key::Rules, Object::Rules { intact: found.is_intact(&contents, record) })];
    for (set, elements) in contents.sets.iter().zip(&contents.elements) {
        let ours = Set::all().find(|ours| set.object == ours.set());
        let Some(ours) = ours else { continue };
        objects.extend(elements.iter().map(|element| (Key::Element(ours, element.key.clone()), Object::Element)));
    }
    Ok(objects)
}

/// What there is of ours, whoever made it so.
struct Found {
    table: bool,
    /// Those with our prefix.
    chains: Vec<ChainId>,
    /// Those with our prefix, and whether each is as we make it.
    sets: Vec<(SetId, bool)>,
    others: bool,
}

impl Found {
    fn of(contents: &TableContents) -> Self {
        let chains: Vec<ChainId> =
            contents.chains.iter().map(|chain| chain.object.id.clone()).filter(is_ours).collect();
        let sets: Vec<(SetId, bool)> = contents
            .sets
            .iter()
            .filter(|set| set.object.id.name.as_str().starts_with(PREFIX))
            .map(|set| (set.object.id.clone(), Set::all().any(|ours| ours.set() == set.object)))
            .collect();
        let others = contents.chains.len() > chains.len() || contents.sets.len() > sets.len();
        Self { table: true, chains, sets, others }
    }

    fn read(nft: &mut Nft) -> Result<Self, NftError> {
        let none = Self { table: false, chains: Vec::new(), sets: Vec::new(), others: false };
        if nft.table(&table())?.is_none() {
            return Ok(none);
        }
        let (all_chains, all_sets) = (nft.chains(&table())?, nft.sets(&table())?);
        let (of_chains, of_sets) = (all_chains.len(), all_sets.len());
        let chains: Vec<ChainId> = all_chains.into_iter().map(|chain| chain.object.id).filter(is_ours).collect();
        let sets: Vec<(SetId, bool)> = all_sets
            .into_iter()
            .filter(|set| set.object.id.name.as_str().starts_with(PREFIX))
            .map(|set| (set.object.id.clone(), Set::all().any(|ours| ours.set() == set.object)))
            .collect();
        let others = of_chains > chains.len() || of_sets > sets.len();
        Ok(Self { table: true, chains, sets, others })
    }

    fn is_intact(&self, contents: &TableContents, record: &Record) -> bool {
        let wanted = all_chains(record);
        // A dormant table's chains see nothing.
        !contents.table.object.dormant
            && self.chains.len() == wanted.len()
            && self.sets.len() == Set::all().count()
            && self.sets.iter().all(|(_, kept)| *kept)
            && wanted.iter().all(|(chain, rules)| {
                let kept = contents.chains.iter().any(|found| found.object == *chain);
                let present: Vec<Rule> =
                    contents.rules_of(&chain.id).map(|rule| rule.object.clone().at_rest()).collect();
                kept && present == *rules
            })
    }
}

/// Chains with their rules, and the record of settings.
fn all_chains(record: &Record) -> Vec<(Chain, Vec<Rule>)> {
    chains().into_iter().chain([(Record::chain(), record.rules())]).collect()
}

/// The record of settings that a predecessor, or this process, left.
pub(super) fn read_record(nft: &mut Nft) -> Result<Record> {
    let chain = Record::chain().id;
    let told = |error| told(error, &Key::Rules);
    if nft.table(&table()).map_err(told)?.is_none() || nft.chain(&chain).map_err(told)?.is_none() {
        return Ok(Record::default());
    }
    let rules = nft.rules_of(&chain).map_err(told)?;
    Ok(Record::of_rules(rules.iter().map(|rule| &rule.object)))
}

/// Puts the record of settings in the kernel, and only that: the setting is changed after it.
pub(super) fn write_record(nft: &mut Nft, record: &Record, key: &Key) -> Result<()> {
    let mut batch = Batch::new();
    batch.add_table(&Table::new(table()));
    let chain = Record::chain();
    batch.add_chain(&chain);
    batch.flush_chain(&chain.id);
    record.rules().iter().for_each(|rule| batch.add_rule(rule));
    nft.commit(&batch).map_err(|error| told(error, key))
}

/// Makes chains, rules and sets, or takes them away. Sets that are as they should be keep their elements.
pub(super) fn write_rules(nft: &mut Nft, op: &Write, record: &Record) -> Result<()> {
    nft.transact(|nft| {
        let found = Found::read(nft)?;
        let mut batch = Batch::new();
        match op {
            Op::Put { .. } => put(&mut batch, &found, record),
            Op::Delete { .. } => delete(&mut batch, &found),
        }
        Ok(batch)
    })
    .map_err(|error| told(error, op.key()))
}

/// Takes chains, rules and sets away.
pub(super) fn clear(nft: &mut Nft) -> Result<()> {
    write_rules(nft, &Op::Delete { key: Key::Rules, present: Known::Unknown }, &Record::default())
}

/// Everything that a node needs, in a batch that makes it where nothing is: for a probe.
pub(crate) fn everything() -> Batch {
    let mut batch = Batch::new();
    let nothing = Found { table: false, chains: Vec::new(), sets: Vec::new(), others: false };
    put(&mut batch, &nothing, &Record::default());
    batch
}

fn put(batch: &mut Batch, found: &Found, record: &Record) {
    // Also takes a table out of sleep.
    batch.add_table(&Table::new(table()));
    found.chains.iter().for_each(|chain| batch.flush_chain(chain));
    found.chains.iter().for_each(|chain| batch.delete_chain(chain));
    found.sets.iter().filter(|(_, kept)| !kept).for_each(|(set, _)| batch.delete_set(set));
    Set::all().for_each(|set| batch.add_set(&set.set()));
    for (chain, rules) in all_chains(record) {
        batch.add_chain(&chain);
        rules.iter().for_each(|rule| batch.add_rule(rule));
    }
}

fn delete(batch: &mut Batch, found: &Found) {
    if !found.table {
        return;
    }
    if !found.others {
        // The table is empty but for this: nothing of ours stays.
        batch.delete_table(&table());
        return;
    }
    found.chains.iter().for_each(|chain| batch.flush_chain(chain));
    found.chains.iter().for_each(|chain| batch.delete_chain(chain));
    found.sets.iter().for_each(|(set, _)| batch.delete_set(set));
}

/// Writes elements in one transaction; when the kernel refuses it, one by one.
pub(super) fn write_elements(nft: &mut Nft, ops: &[Write]) -> Vec<Result<()>> {
    if ops.is_empty() || nft.commit(&elements(ops, false)).is_ok() {
        return ops.iter().map(|_| Ok(())).collect();
    }
    ops.iter().map(|op| write_element(nft, op)).collect()
}

fn write_element(nft: &mut Nft, op: &Write) -> Result<()> {
    let Key::Element(set, _) = op.key() else { return Err(another(op.key())) };
    let result = nft.commit(&elements(std::slice::from_ref(op), true));
    match (&result, op) {
        // With its set it is gone.
        (Err(error), Op::Delete { .. }) if error.errno() == Some(nix::errno::Errno::ENOENT) => {
            let there = nft.set(&set.set().id).map_err(|error| told(error, op.key()))?.is_some();
            if there { result.map_err(|error| told(error, op.key())) } else { Ok(()) }
        }
        _ => result.map_err(|error| told(error, op.key())),
    }
}

/// With `unsure`, what is deleted is added first: that succeeds whether or not it is there.
fn elements(ops: &[Write], unsure: bool) -> Batch {
    let mut sets: BTreeMap<Set, [Vec<Element>; 3]> = BTreeMap::new();
    for op in ops {
        let Key::Element(set, key) = op.key() else { continue };
        let [before, gone, put] = sets.entry(*set).or_default();
        let element = Element::new(key.clone());
        match op {
            Op::Put { .. } => put.push(element),
            Op::Delete { present, .. } => {
                if unsure || *present == Known::Unknown {
                    before.push(element.clone());
                }
                gone.push(element);
            }
        }
    }
    let mut batch = Batch::new();
    for (set, [before, gone, put]) in sets {
        let set = set.set();
        batch.add_elements(&set, &before);
        batch.delete_elements(&set, &gone);
        batch.add_elements(&set, &put);
    }
    batch
}

/// The error as this object's.
fn told(error: NftError, key: &Key) -> Error {
    Error { object: key.to_string(), ..Error::from(error) }
}

/// The name of a chain or set of ours, for a watch.
pub(crate) fn is_of_services(name: Option<&Name>) -> bool {
    name.is_none_or(|name| name.as_str().starts_with(PREFIX))
}
