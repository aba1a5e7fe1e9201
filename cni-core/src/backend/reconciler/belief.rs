//! What the engine believes to be in the kernel, where that differs from what is wanted. Never a copy of the rest.

use super::desired::{Desired, Owner, Shift};
use crate::backend::Known;
use std::collections::BTreeMap;

/// What is there now under a key whose wish is not fulfilled.
pub(super) struct Pending<I, O> {
    pub(super) present: Known<O>,
    /// Who wanted what is present; `None` for the node's own objects and for orphans.
    pub(super) former: Owner<I>,
}

/// Keys where the kernel differs, or may differ, from what is wanted.
pub(super) struct Belief<I, K, O> {
    pub(super) pending: BTreeMap<K, Pending<I, O>>,
}

/// What an observation found different from what was believed.
pub(super) struct Difference<K> {
    pub(super) missing: Vec<K>,
    pub(super) changed: Vec<K>,
    pub(super) unexpected: Vec<K>,
}

impl<I: Ord + Clone, K: Ord + Clone, O: PartialEq + Clone> Belief<I, K, O> {
    pub(super) const fn new() -> Self {
        Self { pending: BTreeMap::new() }
    }

    /// The wish for `key` changed from `shift.before` to `after`.
    pub(super) fn shift(&mut self, key: &K, shift: Shift<I, O>, after: Option<&O>) {
        let (owner, before) = shift.before.map_or((None, None), |(owner, object)| (owner, Some(object)));
        match self.pending.get_mut(key) {
            // Nothing was pending, so the kernel has what was wanted before.
            None => {
                let present = before.map_or(Known::Absent, Known::Present);
                self.pending.insert(key.clone(), Pending { present, former: owner });
            }
            Some(pending) if fulfilled(&pending.present, after) => {
                self.pending.remove(key);
            }
            Some(Pending { present: Known::Present(_), .. }) => {}
            Some(pending) => pending.former = owner,
        }
    }

    /// Takes in a whole observation: says what it found, and replaces all beliefs by it.
    ///
    /// `first` is whether nothing was known before: then what is not there is not missing.
    pub(super) fn replace(&mut self, desired: &Desired<I, K, O>, observed: Vec<(K, O)>, first: bool) -> Difference<K> {
        let mut difference = Difference { missing: Vec::new(), changed: Vec::new(), unexpected: Vec::new() };
        let mut observed = observed;
        observed.sort_by(|(a, _), (b, _)| a.cmp(b));
        observed.dedup_by(|(a, _), (b, _)| a == b);
        let seen = |key: &K| observed.binary_search_by(|(candidate, _)| candidate.cmp(key)).is_ok();

        let mut former = std::mem::take(&mut self.pending);
        for (key, _) in desired.iter().filter(|(key, _)| !seen(key)) {
            // Without a pending entry the wish was fulfilled.
            let believed = former.get(key).is_none_or(|pending| matches!(pending.present, Known::Present(_)));
            if believed && !first {
                difference.missing.push(key.clone());
            }
            self.pending.insert(key.clone(), Pending { present: Known::Absent, former: None });
        }
        let gone = former.iter().filter(|(key, pending)| {
            matches!(pending.present, Known::Present(_)) && desired.get(key).is_none() && !seen(key)
        });
        difference.missing.extend(gone.map(|(key, _)| key.clone()));

        for (key, object) in observed {
            let wanted = desired.get(&key);
            let pending = former.remove(&key);
            let owner = pending.as_ref().and_then(|pending| pending.former.clone());
            let owner = owner.or_else(|| desired.wanting(&key).next().cloned().flatten());
            match (pending.map(|pending| pending.present), wanted) {
                (Some(Known::Unknown), _) => {}
                (Some(Known::Present(believed)), _) if believed == object => {}
                (None, Some(wanted)) | (Some(Known::Absent), Some(wanted)) if *wanted == object => {}
                (None | Some(Known::Absent), None) => difference.unexpected.push(key.clone()),
                _ => difference.changed.push(key.clone()),
            }
            if wanted != Some(&object) {
                self.pending.insert(key, Pending { present: Known::Present(object), former: owner });
            }
        }
        difference
    }
}

/// Whether what is there is known to be what is wanted.
fn fulfilled<O: PartialEq>(present: &Known<O>, wanted: Option<&O>) -> bool {
    match (present, wanted) {
        (Known::Present(present), Some(wanted)) => present == wanted,
        (Known::Absent, None) => true,
        _ => false,
    }
}
