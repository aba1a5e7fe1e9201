//! The inverted index: which selectors and identities have a chance to match. Never whether they do.

use super::slab::Slot;
use crate::policy::model::{Attribute, Identity, Selector};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// An attribute has this value, or (`None`) any.
pub(super) type Condition = (Attribute, Option<Arc<str>>);

/// Everything that holds of an identity.
fn conditions_of(identity: &Identity) -> impl Iterator<Item = Condition> {
    let labels = |labels: &crate::policy::model::LabelMap, attribute: fn(Arc<str>) -> Attribute| {
        let pairs: Vec<_> = labels.iter().map(|(key, value)| (attribute(key.clone()), value.clone())).collect();
        pairs.into_iter()
    };
    let one = |attribute: Attribute, value: &Option<Arc<str>>| value.clone().map(|value| (attribute, value));
    labels(&identity.labels, Attribute::Label)
        .chain(labels(&identity.namespace_labels, Attribute::NamespaceLabel))
        .chain(labels(&identity.service_account_labels, Attribute::ServiceAccountLabel))
        .chain(one(Attribute::Namespace, &identity.namespace))
        .chain(one(Attribute::ServiceAccount, &identity.service_account))
        .chain(one(Attribute::Name, &identity.name))
        .flat_map(|(attribute, value)| [(attribute.clone(), None), (attribute, Some(value))])
}

/// Conditions of which one holds wherever the selector matches; `None` where nothing can be said. Of several answers the
/// one that fewest identities meet.
pub(super) fn needed(selector: &Selector, met_by: &impl Fn(&Condition) -> usize) -> Option<Vec<Condition>> {
    let has = |attribute: &Attribute| Some(vec![(attribute.clone(), None)]);
    match selector {
        Selector::Nothing => Some(Vec::new()),
        Selector::Everything | Selector::Not(_) => None,
        Selector::Is(attribute, value) => Some(vec![(attribute.clone(), Some(value.clone()))]),
        Selector::In(attribute, values) => {
            Some(values.iter().map(|value| (attribute.clone(), Some(value.clone()))).collect())
        }
        Selector::Has(attribute)
        | Selector::StartsWith(attribute, _)
        | Selector::EndsWith(attribute, _)
        | Selector::Contains(attribute, _) => has(attribute),
        Selector::All(all) => {
            let weight = |conditions: &Vec<Condition>| {
                let vague = conditions.iter().filter(|(_, value)| value.is_none()).count();
                (conditions.iter().map(met_by).sum::<usize>(), vague, conditions.len())
            };
            all.iter().filter_map(|part| needed(part, met_by)).min_by_key(weight)
        }
        Selector::Any(any) => {
            let parts: Option<Vec<_>> = any.iter().map(|part| needed(part, met_by)).collect();
            parts.map(|parts| parts.concat().into_iter().collect::<BTreeSet<_>>().into_iter().collect())
        }
    }
}

/// Identities by what holds of them.
#[derive(Debug, Default)]
pub(super) struct Postings {
    by: HashMap<Condition, BTreeSet<Slot>>,
    all: BTreeSet<Slot>,
}

impl Postings {
    pub(super) fn insert(&mut self, identity: &Identity, slot: Slot) {
        self.all.insert(slot);
        for condition in conditions_of(identity) {
            self.by.entry(condition).or_default().insert(slot);
        }
    }

    pub(super) fn remove(&mut self, identity: &Identity, slot: Slot) {
        self.all.remove(&slot);
        for condition in conditions_of(identity) {
            if let Some(slots) = self.by.get_mut(&condition) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by.remove(&condition);
                }
            }
        }
    }

    pub(super) fn met_by(&self, condition: &Condition) -> usize {
        self.by.get(condition).map_or(0, BTreeSet::len)
    }

    /// Identities that may match.
    pub(super) fn candidates(&self, needed: Option<&[Condition]>) -> Vec<Slot> {
        match needed {
            None => self.all.iter().copied().collect(),
            Some([one]) => self.by.get(one).into_iter().flatten().copied().collect(),
            Some(conditions) => {
                let slots = conditions.iter().filter_map(|condition| self.by.get(condition)).flatten();
                slots.copied().collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }
}

/// Selectors by what they need.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    by: HashMap<Condition, BTreeSet<Slot>>,
    rest: BTreeSet<Slot>,
}

impl Wanted {
    pub(super) fn insert(&mut self, needed: Option<&[Condition]>, slot: Slot) {
        match needed {
            None => {
                self.rest.insert(slot);
            }
            Some(conditions) => {
                for condition in conditions {
                    self.by.entry(condition.clone()).or_default().insert(slot);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, needed: Option<&[Condition]>, slot: Slot) {
        self.rest.remove(&slot);
        for condition in needed.into_iter().flatten() {
            if let Some(slots) = self.by.get_mut(condition) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by.remove(condition);
                }
            }
        }
    }

    /// Selectors that may match.
    pub(super) fn candidates(&self, identity: &Identity) -> BTreeSet<Slot> {
        let met = conditions_of(identity).filter_map(|condition| self.by.get(&condition)).flatten();
        met.chain(&self.rest).copied().collect()
    }
}
