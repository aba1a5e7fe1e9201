//! Who wants which object. Never what is in the kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Who wants an object: an item, or the node itself (`None`, which is less than every item and so always wins).
/// All objects of an item share one copy of its key.
pub(super) type Owner<I> = Option<Arc<I>>;

/// The winner's object under a key. Most keys have one candidate, so the others live elsewhere.
struct Slot<I, O> {
    owner: Owner<I>,
    object: O,
}

/// The candidates of one key beside its winner.
struct Rivals<I, O> {
    others: BTreeMap<Owner<I>, O>,
    /// How many of `others` differ from the winner's object.
    differing: usize,
}

/// All wanted objects, by key.
pub(super) struct Desired<I, K, O> {
    slots: BTreeMap<K, Slot<I, O>>,
    rivals: BTreeMap<K, Rivals<I, O>>,
    /// Keys with candidates that differ from the winner, so that reports need not look through all.
    contested: BTreeMap<K, ()>,
}

/// The winner's object changed.
pub(super) struct Shift<I, O> {
    /// What was wanted, and by whom.
    pub(super) before: Option<(Owner<I>, O)>,
}

impl<I: Ord + Clone, K: Ord + Clone, O: PartialEq + Clone> Desired<I, K, O> {
    pub(super) const fn new() -> Self {
        Self { slots: BTreeMap::new(), rivals: BTreeMap::new(), contested: BTreeMap::new() }
    }

    /// The object that shall be under this key.
    pub(super) fn get(&self, key: &K) -> Option<&O> {
        self.slots.get(key).map(|slot| &slot.object)
    }

    /// All keys and their objects, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &O)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.object))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Everybody who wants exactly the object that won.
    pub(super) fn wanting<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a Owner<I>> {
        let slot = self.slots.get(key);
        let rivals = self.rivals.get(key).into_iter().flat_map(|rivals| &rivals.others);
        let sharing = rivals.filter(move |(_, object)| slot.is_some_and(|slot| slot.object == **object));
        slot.map(|slot| &slot.owner).into_iter().chain(sharing.map(|(owner, _)| owner))
    }

    /// Each candidate that lost, with the key and the winner.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (&Owner<I>, &K, &Owner<I>)> {
        self.contested.keys().flat_map(|key| {
            let slot = self.slots.get(key);
            let rivals = self.rivals.get(key).into_iter().flat_map(|rivals| &rivals.others);
            rivals.filter_map(move |(owner, object)| {
                let slot = slot.filter(|slot| slot.object != *object)?;
                Some((owner, key, &slot.owner))
            })
        })
    }

    /// `owner` wants `object` under `key`. Answers with what was wanted before, if that changed.
    pub(super) fn set(&mut self, key: &K, owner: &Owner<I>, object: O) -> Option<Shift<I, O>> {
        let Some(slot) = self.slots.get_mut(key) else {
            self.slots.insert(key.clone(), Slot { owner: owner.clone(), object });
            return Some(Shift { before: None });
        };
        let same = slot.object == object;
        if slot.owner == *owner {
            if same {
                return None;
            }
            let before = std::mem::replace(&mut slot.object, object);
            self.recount(key);
            return Some(Shift { before: Some((owner.clone(), before)) });
        }
        let rivals = self.rivals.entry(key.clone()).or_insert_with(|| Rivals { others: BTreeMap::new(), differing: 0 });
        if slot.owner < *owner {
            if let Some(before) = rivals.others.insert(owner.clone(), object) {
                rivals.differing -= usize::from(before != slot.object);
            }
            rivals.differing += usize::from(!same);
            self.mark(key);
            return None;
        }
        // A lesser owner takes over. Where the object stays, so does the number of those that differ from it.
        let before = std::mem::replace(slot, Slot { owner: owner.clone(), object });
        rivals.others.insert(before.owner.clone(), before.object.clone());
        if same {
            return None;
        }
        self.recount(key);
        Some(Shift { before: Some((before.owner, before.object)) })
    }

    /// `owner` wants nothing under `key` any more. Answers with what was wanted before, if that changed.
    pub(super) fn unset(&mut self, key: &K, owner: &Owner<I>) -> Option<Shift<I, O>> {
        let slot = self.slots.get_mut(key)?;
        if slot.owner != *owner {
            let rivals = self.rivals.get_mut(key)?;
            let before = rivals.others.remove(owner)?;
            rivals.differing -= usize::from(before != slot.object);
            self.mark(key);
            return None;
        }
        let heir = self.rivals.get_mut(key).and_then(|rivals| rivals.others.pop_first());
        let Some((heir, object)) = heir else {
            let before = self.slots.remove(key)?;
            return Some(Shift { before: Some((before.owner, before.object)) });
        };
        let before = std::mem::replace(slot, Slot { owner: heir, object });
        let same = before.object == slot.object;
        if same {
            self.mark(key);
            return None;
        }
        self.recount(key);
        Some(Shift { before: Some((before.owner, before.object)) })
    }

    /// Makes the tree of all keys anew, which leaves no room in it.
    pub(super) fn fill_trees(&mut self) {
        self.slots = std::mem::take(&mut self.slots).into_iter().collect();
    }

    /// Counts again who differs from the winner, after the winner's object changed.
    fn recount(&mut self, key: &K) {
        if let (Some(slot), Some(rivals)) = (self.slots.get(key), self.rivals.get_mut(key)) {
            rivals.differing = rivals.others.values().filter(|object| **object != slot.object).count();
            self.mark(key);
        }
    }

    /// Keeps `rivals` and `contested` to what they are for.
    fn mark(&mut self, key: &K) {
        let (others, differing) = self.rivals.get(key).map_or((0, 0), |rivals| (rivals.others.len(), rivals.differing));
        if others == 0 {
            self.rivals.remove(key);
        }
        if differing == 0 {
            self.contested.remove(key);
        } else {
            self.contested.insert(key.clone(), ());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Candidates = BTreeMap<u8, BTreeMap<Owner<u8>, u8>>;

    proptest! {
        /// The oracle keeps every candidate and computes winner, sharers and losers anew.
        #[test]
        fn the_least_owner_wins_whatever_the_history(
            changes in proptest::collection::vec((0..3_u8, proptest::option::of(0..5_u8), proptest::option::of(0..3_u8)), 0..80)
        ) {
            let mut desired = Desired::new();
            let mut oracle = Candidates::new();
            for (key, owner, object) in changes {
                let owner = owner.map(Arc::new);
                let before = oracle.get(&key).and_then(|all| all.first_key_value()).map(|(_, object)| *object);
                let shift = match object {
                    Some(object) => {
                        oracle.entry(key).or_default().insert(owner.clone(), object);
                        desired.set(&key, &owner, object)
                    }
                    None => {
                        oracle.entry(key).or_default().remove(&owner);
                        desired.unset(&key, &owner)
                    }
                };
                let after = oracle.get(&key).and_then(|all| all.first_key_value()).map(|(_, object)| *object);
                prop_assert_eq!(shift.map(|shift| shift.before.map(|(_, object)| object)), (before != after).then_some(before));
                prop_assert_eq!(desired.get(&key).copied(), after);

                let wanting: Vec<_> = desired.wanting(&key).cloned().collect();
                let expected: Vec<_> = oracle[&key].iter().filter(|(_, object)| Some(**object) == after).map(|(owner, _)| owner.clone()).collect();
                prop_assert_eq!(wanting, expected);
                let conflicts: Vec<_> = desired.conflicts().map(|(loser, key, _)| (*key, loser.clone())).collect();
                let expected: Vec<_> = oracle
                    .iter()
                    .flat_map(|(key, all)| {
                        let winner = all.first_key_value().map(|(_, object)| *object);
                        all.iter().filter(move |(_, object)| Some(**object) != winner).map(move |(owner, _)| (*key, owner.clone()))
                    })
                    .collect();
                prop_assert_eq!(conflicts, expected);
            }
        }
    }
}
