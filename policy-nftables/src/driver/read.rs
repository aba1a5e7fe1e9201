//! Our part of the table as it is in the kernel. Never changes it.

use crate::names::{self, PREFIX};
use crate::object::{Key, Object, RuleObject};
use net_linux::nft::{Chain, Name, Nft, NftError, Rule, Stored, TableContents};
use std::collections::{BTreeMap, BTreeSet};

/// Every object of ours, as it was at one moment. Elements of a set that is not as its name says go with the set.
///
/// # Errors
/// [`NftError`].
pub fn observe(nft: &mut Nft) -> Result<Vec<(Key, Object)>, NftError> {
    Ok(nft.contents(&names::table())?.map(objects).unwrap_or_default())
}

/// Some chains with their rules.
///
/// # Errors
/// [`NftError`].
pub(crate) fn observe_rules(nft: &mut Nft, chains: &BTreeSet<Name>) -> Result<Vec<(Key, Object)>, NftError> {
    let names: Vec<&Name> = chains.iter().collect();
    let mut found = rules(nft, &names)?;
    let objects = chains.iter().map(|name| {
        let rules = found.remove(name).into_iter().flatten().map(|rule| rule.object).collect();
        (Key::Chain(name.clone()), Object::Chain { base: None, rules })
    });
    Ok(objects.collect())
}

/// The elements of some sets.
///
/// # Errors
/// [`NftError`].
pub(crate) fn observe_elements(
    nft: &mut Nft,
    sets: impl IntoIterator<Item = Name>,
) -> Result<Vec<(Key, Object)>, NftError> {
    let mut objects = Vec::new();
    for set in sets.into_iter().filter_map(|name| names::set_of(&name)) {
        let elements = nft.elements(&set)?.into_iter();
        objects.extend(
            elements.map(|element| (Key::Element(set.id.name.clone(), element.key), Object::Element(element.data))),
        );
    }
    Ok(objects)
}

fn is_ours(name: &Name) -> bool {
    name.as_str().starts_with(PREFIX)
}

fn objects(contents: TableContents) -> Vec<(Key, Object)> {
    let mut objects = vec![(Key::Table, Object::Table { dormant: contents.table.object.dormant })];
    for (set, elements) in contents.sets.into_iter().zip(contents.elements) {
        let set = set.object;
        if !is_ours(&set.id.name) {
            continue;
        }
        let name = set.id.name.clone();
        // A name that we do not use has no form that it could miss.
        let intact = names::set_of(&name).is_none_or(|wanted| wanted == set);
        if intact {
            objects.extend(
                elements
                    .into_iter()
                    .map(|element| (Key::Element(name.clone(), element.key), Object::Element(element.data))),
            );
        }
        objects.push((Key::Set(name), Object::Set { intact }));
    }
    objects.extend(with_rules(contents.chains, contents.rules));
    objects
}

/// Our chains with their rules.
fn with_rules(chains: Vec<Stored<Chain>>, all: Vec<Stored<Rule>>) -> Vec<(Key, Object)> {
    let mut rules: BTreeMap<Name, Vec<RuleObject>> = BTreeMap::new();
    for rule in all {
        let name = &rule.object.chain.name;
        if is_ours(name) {
            rules.entry(name.clone()).or_default().push(at_rest(rule.object));
        }
    }
    let ours = chains.into_iter().filter(|chain| is_ours(&chain.object.id.name));
    ours.map(|chain| {
        let name = chain.object.id.name;
        let rules = rules.remove(&name).unwrap_or_default();
        (Key::Chain(name), Object::Chain { base: chain.object.base, rules })
    })
    .collect()
}

/// A rule without what changes by itself.
pub(super) fn at_rest(rule: Rule) -> RuleObject {
    let rule = rule.at_rest();
    RuleObject { exprs: rule.exprs, comment: rule.comment }
}

/// The rules that some chains have now, with their handles.
pub(super) fn rules(nft: &mut Nft, chains: &[&Name]) -> Result<BTreeMap<Name, Vec<Stored<RuleObject>>>, NftError> {
    // One dump of all costs less than many dumps of one.
    const FEW: usize = 64;
    let mut found = Vec::new();
    if chains.len() <= FEW {
        for chain in chains {
            found.extend(nft.rules_of(&names::table().chain((*chain).clone()))?);
        }
    } else {
        found = nft.rules(&names::table())?;
    }
    let mut rules: BTreeMap<Name, Vec<Stored<RuleObject>>> = BTreeMap::new();
    for Stored { handle, object } in found {
        let name = object.chain.name.clone();
        if is_ours(&name) {
            rules.entry(name).or_default().push(Stored { handle, object: at_rest(object) });
        }
    }
    Ok(rules)
}
