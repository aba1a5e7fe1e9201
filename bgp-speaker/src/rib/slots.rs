//! Sets of slots, as bits that cost nothing where there are none. Never what stands in a slot.

const WORDS: usize = 64;
const SLOTS_IN_CHUNK: usize = WORDS * 64;

/// A set of the slots of one family: what has changed, or what somebody has yet to be told.
#[derive(Debug, Clone, Default)]
pub struct SlotSet {
    chunks: Vec<Option<Box<[u64; WORDS]>>>,
    len: usize,
}

impl SlotSet {
    /// Whether it was not in the set.
    pub fn insert(&mut self, slot: u32) -> bool {
        let (chunk, word, bit) = place(slot);
        if chunk >= self.chunks.len() {
            self.chunks.resize_with(chunk + 1, || None);
        }
        let words = self.chunks[chunk].get_or_insert_with(|| Box::new([0; WORDS]));
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// Whether it was in the set.
    pub fn remove(&mut self, slot: u32) -> bool {
        let (chunk, word, bit) = place(slot);
        let Some(Some(words)) = self.chunks.get_mut(chunk) else { return false };
        let was_in = words[word] & bit != 0;
        words[word] &= !bit;
        self.len -= usize::from(was_in);
        was_in
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        let (chunk, word, bit) = place(slot);
        matches!(self.chunks.get(chunk), Some(Some(words)) if words[word] & bit != 0)
    }

    /// Nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Puts all of another set in.
    pub fn union(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        if self.chunks.len() < other.chunks.len() {
            self.chunks.resize_with(other.chunks.len(), || None);
        }
        for (mine, theirs) in self.chunks.iter_mut().zip(&other.chunks) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; WORDS]));
            for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                self.len += (theirs & !*mine).count_ones() as usize;
                *mine |= theirs;
            }
        }
    }

    /// All in it, the lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.chunks.iter().enumerate().filter_map(|(at, words)| Some((at, words.as_ref()?))).flat_map(
            |(chunk, words)| {
                words.iter().enumerate().filter(|(_, bits)| **bits != 0).flat_map(move |(word, bits)| {
                    Bits(*bits).map(move |bit| (chunk * SLOTS_IN_CHUNK + word * 64) as u32 + bit)
                })
            },
        )
    }

    /// Takes out up to `most` of those that `wanted` says yes to, the lowest first.
    pub(crate) fn take(&mut self, most: usize, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let taken: Vec<u32> = self.iter().filter(|slot| wanted(*slot)).take(most).collect();
        if taken.len() == self.len {
            *self = Self::default();
        } else {
            for slot in &taken {
                self.remove(*slot);
            }
            for chunk in &mut self.chunks {
                if chunk.as_ref().is_some_and(|words| words.iter().all(|bits| *bits == 0)) {
                    *chunk = None;
                }
            }
        }
        taken
    }
}

impl FromIterator<u32> for SlotSet {
    fn from_iter<I: IntoIterator<Item = u32>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

const fn place(slot: u32) -> (usize, usize, u64) {
    let slot = slot as usize;
    (slot / SLOTS_IN_CHUNK, slot % SLOTS_IN_CHUNK / 64, 1 << (slot % 64))
}

/// The places of the ones in a word.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let bit = self.0.trailing_zeros();
        self.0 &= self.0.checked_sub(1)?;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((0u32..20_000, 0u8..4), 0..200)) {
            let (mut set, mut oracle) = (SlotSet::default(), BTreeSet::new());
            for (slot, step) in steps {
                match step {
                    0 => prop_assert_eq!(set.remove(slot), oracle.remove(&slot)),
                    1 => {
                        let taken = set.take(3, |slot| slot % 2 == 0);
                        let expected: Vec<u32> = oracle.iter().copied().filter(|slot| slot % 2 == 0).take(3).collect();
                        oracle.retain(|slot| !expected.contains(slot));
                        prop_assert_eq!(taken, expected);
                    }
                    2 => {
                        let other: SlotSet = [slot, slot / 2, slot / 3].into_iter().collect();
                        set.union(&other);
                        oracle.extend(other.iter());
                    }
                    _ => prop_assert_eq!(set.insert(slot), oracle.insert(slot)),
                }
                prop_assert_eq!(set.len(), oracle.len());
                prop_assert_eq!(set.contains(slot), oracle.contains(&slot));
            }
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), oracle.into_iter().collect::<Vec<_>>());
        }
    }
}
