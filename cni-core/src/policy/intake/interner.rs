//! One copy of everything that is equal: texts, label maps, identities. Never keeps for long what nobody uses.

use crate::policy::model::{Identity, LabelMap};
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// Sweeps happen when a pool has twice as many values as after the last sweep, so they cost nothing per value.
const FIRST_SWEEP: usize = 64;

#[derive(Debug)]
struct Pool<T: ?Sized> {
    values: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), sweep_at: FIRST_SWEEP }
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn get<Q>(&mut self, value: &Q) -> Option<Arc<T>>
    where
        Arc<T>: std::borrow::Borrow<Q>,
        Q: ?Sized + Hash + Eq,
    {
        self.values.get(value).cloned()
    }

    fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(FIRST_SWEEP);
        }
        self.values.insert(value.clone());
        value
    }
}

/// The pools.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: Pool<str>,
    maps: Pool<BTreeMap<Arc<str>, Arc<str>>>,
    identities: Pool<Identity>,
}

impl Interner {
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        self.texts.get(text).unwrap_or_else(|| self.texts.add(text.into()))
    }

    pub(super) fn labels(&mut self, labels: &BTreeMap<String, String>) -> LabelMap {
        let labels = labels.iter().map(|(key, value)| (self.text(key), self.text(value))).collect();
        self.map(labels)
    }

    pub(super) fn map(&mut self, labels: BTreeMap<Arc<str>, Arc<str>>) -> LabelMap {
        self.maps.get(&labels).unwrap_or_else(|| self.maps.add(Arc::new(labels)))
    }

    pub(super) fn identity(&mut self, identity: Identity) -> Arc<Identity> {
        self.identities.get(&identity).unwrap_or_else(|| self.identities.add(Arc::new(identity)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_does_not_stay() {
        let mut interner = Interner::default();
        let kept = interner.text("kept");
        for number in 0..100_000 {
            interner.text(&number.to_string());
        }
        assert!(interner.texts.values.len() <= FIRST_SWEEP, "{}", interner.texts.values.len());
        assert!(Arc::ptr_eq(&kept, &interner.text("kept")));
    }
}
