//! Writes of one level in one batch; when the kernel refuses some of it, the rest without them. Never in what order levels go.

use super::read::{observe, rules};
use super::{PolicyDriver, key_of, unanswered};
use crate::names;
use crate::object::{Key, Object, RuleObject};
use cni_core::backend::{Error, Known, Op, Result};
use net_linux::nft::{self, BaseChain, Batch, Chain, Element, Name, Nft, NftError, Refusal, Rule, Stored, Table};
use std::collections::{BTreeMap, BTreeSet};

type Write = Op<Key, Object>;
type Rules = BTreeMap<Name, Vec<Stored<RuleObject>>>;

impl PolicyDriver {
    pub(super) fn write(&mut self, batch: &[Write]) -> Vec<Result<()>> {
        let mut results: Vec<Option<Result<()>>> = batch.iter().map(|_| None).collect();
        let unknown = |op: &Write| matches!(present_of(op), Known::Unknown);
        let look = batch.iter().any(unknown);
        self.write_some(batch, (0..batch.len()).collect(), look, &mut results);
        results
            .into_iter()
            .zip(batch)
            .map(|(result, op)| result.unwrap_or_else(|| Err(unanswered(key_of(op)))))
            .collect()
    }

    /// Writes these of the batch, in as few transactions as the kernel's refusals allow.
    fn write_some(
        &mut self,
        batch: &[Write],
        mut todo: Vec<usize>,
        mut look: bool,
        results: &mut [Option<Result<()>>],
    ) {
        while !todo.is_empty() {
            let writes: Vec<&Write> = todo.iter().map(|index| &batch[*index]).collect();
            let error = match commit(&mut self.nft, &writes, look) {
                Ok(()) => {
                    todo.iter().for_each(|index| results[*index] = Some(Ok(())));
                    return;
                }
                Err(error) => error,
            };
            if !look {
                // What the engine believes to be there may be wrong: somebody else may have been here.
                look = true;
                continue;
            }
            if let [one] = todo[..] {
                results[one] = Some(Err(told(error, key_of(&batch[one]))));
                return;
            }
            let mut blamed = blame(&error, &writes);
            if blamed.is_empty() {
                if !matches!(error, NftError::Refused { .. } | NftError::BatchTooLarge { .. }) {
                    // The socket or the generation: nothing that a smaller batch would cure.
                    let error = Error::from(error);
                    todo.iter().for_each(|index| results[*index] = Some(Err(error.clone())));
                    return;
                }
                let rest = todo.split_off(todo.len() / 2);
                self.write_some(batch, todo, look, results);
                todo = rest;
                continue;
            }
            todo = todo
                .into_iter()
                .enumerate()
                .filter_map(|(place, index)| match blamed.remove(&place) {
                    None => Some(index),
                    Some(refusal) => {
                        let error = NftError::Refused { first: Box::new(refusal), others: Vec::new() };
                        results[index] = Some(Err(told(error, key_of(&batch[index]))));
                        None
                    }
                })
                .collect();
        }
    }
}

/// The error as this object's.
fn told(error: NftError, key: &Key) -> Error {
    Error { object: key.to_string(), ..Error::from(error) }
}

fn present_of(op: &Write) -> &Known<Object> {
    match op {
        Op::Put { present, .. } | Op::Delete { present, .. } => present,
    }
}

/// Which writes the kernel's refusals are about, by their place.
fn blame(error: &NftError, writes: &[&Write]) -> BTreeMap<usize, Refusal> {
    let mut blamed = BTreeMap::new();
    let NftError::Refused { first, others } = error else { return blamed };
    for refusal in std::iter::once(&**first).chain(others) {
        let place = writes.iter().position(|op| is_about(&refusal.object, key_of(op)));
        if let Some(place) = place {
            blamed.entry(place).or_insert_with(|| refusal.clone());
        }
    }
    blamed
}

fn is_about(object: &nft::Object, key: &Key) -> bool {
    match (object, key) {
        (nft::Object::Table(_), Key::Table) => true,
        (nft::Object::Set(id), Key::Set(name)) => id.name == *name,
        (nft::Object::Chain(id) | nft::Object::Rule(id, _), Key::Chain(name)) => id.name == *name,
        (nft::Object::Element(id, shown), Key::Element(set, element)) => {
            // The kernel names the beginning of a range.
            let begins = match element {
                nft::Key::Range(first, _) => nft::Key::One(first.clone()),
                other => other.clone(),
            };
            let fields = names::set_of(set).map(|set| set.key).unwrap_or_default();
            id.name == *set && begins.show(&fields).to_string() == *shown
        }
        _ => false,
    }
}

/// One transaction. With `look` the kernel is read first; without, it is taken to be as the writes say.
fn commit(nft: &mut Nft, writes: &[&Write], look: bool) -> Result<(), NftError> {
    let chains: Vec<&Name> = writes
        .iter()
        .filter_map(|op| match op {
            Op::Put { key: Key::Chain(name), present, .. } if look || *present != Known::Absent => Some(name),
            _ => None,
        })
        .collect();
    if !look && chains.is_empty() {
        let mut batch = Batch::new();
        let present = writes.iter().map(|op| known(present_of(op)));
        build(&mut batch, writes, present, &Rules::new());
        return nft.commit(&batch);
    }
    nft.transact(|nft| {
        let stored = if chains.is_empty() { Rules::new() } else { rules(nft, &chains)? };
        let mut batch = Batch::new();
        if look {
            let found: BTreeMap<Key, Object> = observe(nft)?.into_iter().collect();
            build(&mut batch, writes, writes.iter().map(|op| found.get(key_of(op))), &stored);
        } else {
            build(&mut batch, writes, writes.iter().map(|op| known(present_of(op))), &stored);
        }
        Ok(batch)
    })
}

fn known(present: &Known<Object>) -> Option<&Object> {
    match present {
        Known::Present(object) => Some(object),
        Known::Absent | Known::Unknown => None,
    }
}

/// Changes of the elements of one set.
#[derive(Default)]
struct Delta {
    deletes: Vec<Element>,
    adds: Vec<Element>,
}

fn build<'a>(batch: &mut Batch, writes: &[&Write], present: impl Iterator<Item = Option<&'a Object>>, stored: &Rules) {
    let mut deltas: BTreeMap<&Name, Delta> = BTreeMap::new();
    let mut doomed: BTreeSet<&Name> = BTreeSet::new();
    for (op, present) in writes.iter().zip(present) {
        match op {
            Op::Put { key, object, .. } => match (key, object) {
                (Key::Table, _) => batch.add_table(&Table::new(names::table())),
                (Key::Set(name), _) => put_set(batch, name, present),
                (Key::Element(set, element), Object::Element(data)) => {
                    let delta = deltas.entry(set).or_default();
                    match present {
                        Some(same) if same == object => continue,
                        // A map takes no other value for a key that it has.
                        Some(_) => delta.deletes.push(Element::new(element.clone())),
                        None => {}
                    }
                    delta.adds.push(Element { data: data.clone(), ..Element::new(element.clone()) });
                }
                (Key::Chain(name), Object::Chain { base, rules }) => {
                    let stored = stored.get(name).map(Vec::as_slice).unwrap_or_default();
                    put_chain(batch, name, (base.as_ref(), rules), present, stored);
                }
                _ => {}
            },
            Op::Delete { key, .. } => match (key, present) {
                (_, None) | (Key::Table, _) => {}
                (Key::Set(name), _) => batch.delete_set(&names::table().set(name.clone())),
                (Key::Element(set, element), Some(_)) => {
                    deltas.entry(set).or_default().deletes.push(Element::new(element.clone()));
                }
                (Key::Chain(name), _) => {
                    batch.flush_chain(&names::table().chain(name.clone()));
                    doomed.insert(name);
                }
            },
        }
    }
    // Chains may call each other: all are emptied before the first goes.
    doomed.into_iter().for_each(|name| batch.delete_chain(&names::table().chain(name.clone())));
    for (name, delta) in deltas {
        let Some(set) = names::set_of(name) else { continue };
        batch.delete_elements(&set, &delta.deletes);
        batch.add_elements(&set, &delta.adds);
    }
}

fn put_set(batch: &mut Batch, name: &Name, present: Option<&Object>) {
    let Some(set) = names::set_of(name) else { return };
    match present {
        Some(Object::Set { intact: true }) => return,
        Some(_) => batch.delete_set(&set.id),
        None => {}
    }
    batch.add_set(&set);
}

/// Makes the chain's rules what they shall be. Rules that stay keep their place and so their counters.
fn put_chain(
    batch: &mut Batch,
    name: &Name,
    (base, wanted): (Option<&BaseChain>, &[RuleObject]),
    present: Option<&Object>,
    stored: &[Stored<RuleObject>],
) {
    let id = names::table().chain(name.clone());
    let chain = Chain { id: id.clone(), base: base.cloned(), comment: None };
    let rule = |rule: &RuleObject| Rule { chain: id.clone(), exprs: rule.exprs.clone(), comment: rule.comment.clone() };
    let same_hook = match present {
        Some(Object::Chain { base: present, .. }) => present.as_ref() == base,
        _ => false,
    };
    if !same_hook {
        if present.is_some() {
            batch.flush_chain(&id);
            batch.delete_chain(&id);
        }
        batch.add_chain(&chain);
        batch.flush_chain(&id);
        wanted.iter().for_each(|wanted| batch.add_rule(&rule(wanted)));
        return;
    }
    batch.add_chain(&chain);
    let same = |(stored, wanted): &(&Stored<RuleObject>, &RuleObject)| stored.object == **wanted;
    let before = stored.iter().zip(wanted).take_while(same).count();
    let after = stored[before..].iter().rev().zip(wanted[before..].iter().rev()).take_while(same).count();
    stored[before..stored.len() - after].iter().for_each(|stored| batch.delete_rule(&id, stored.handle));
    let next = stored.len() - after;
    for wanted in &wanted[before..wanted.len() - after] {
        match stored.get(next) {
            Some(next) => batch.insert_rule_before(&rule(wanted), next.handle),
            None => batch.add_rule(&rule(wanted)),
        }
    }
}
