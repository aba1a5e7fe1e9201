//! Many entries of a map by one call of the kernel, with the answer for each. Never an order of its own, and never a guess: where a
//! batch stops, the kernel says how many it wrote.

use super::call::{Entries, Keys, Written};
use aya::Pod;
use aya::maps::MapData;
use std::io;

/// At most so many bytes of keys and values at once, so that a large map does not need twice its memory.
const MOST_BYTES: usize = 1 << 20;

/// How many entries to write at once, 1 or more.
pub(crate) const fn at_once<K, V>() -> usize {
    let fit = MOST_BYTES / (size_of::<K>() + size_of::<V>());
    if fit == 0 { 1 } else { fit }
}

/// Puts entries, of which there are as many keys as values, [`at_once`] at most. Answers for each, in order.
pub(crate) fn put<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> Vec<io::Result<()>> {
    let Some(map) = Entries::of(map).ok().filter(|_| keys.len() == values.len()) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| Batch::of(keys.len() - from, map.put_many(&keys[from..], &values[from..]));
    written(keys.len(), many, |at| map.put(&keys[at], &values[at]))
}

/// Takes entries away; one that is not there is taken away already. Answers for each, in order.
pub(crate) fn remove<K: Pod>(map: &MapData, keys: &[K]) -> Vec<io::Result<()>> {
    let Ok(map) = Keys::of(map) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| Batch::of(keys.len() - from, map.remove_many(&keys[from..]));
    let told = written(keys.len(), many, |at| map.remove(&keys[at]));
    told.into_iter().map(gone).collect()
}

/// Writes so many entries: by `many` from a place on, as far as the kernel gets with each call; where it has no batches, by `one` at
/// a place.
fn written(count: usize, many: impl Fn(usize) -> Batch, one: impl Fn(usize) -> io::Result<()>) -> Vec<io::Result<()>> {
    let mut told: Vec<io::Result<()>> = Vec::with_capacity(count);
    let mut in_batches = count > 1;
    while told.len() < count {
        if !in_batches {
            told.push(one(told.len()));
            continue;
        }
        match many(told.len()) {
            Batch::Whole => told.resize_with(count, || Ok(())),
            Batch::Stopped(done, error) => {
                told.extend((0..done).map(|_| Ok(())));
                told.push(Err(error));
            }
            Batch::Untried => in_batches = false,
        }
    }
    told
}

/// What is not there need not be taken away.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What became of a batch.
enum Batch {
    /// All were written.
    Whole,
    /// So many were, from the first on; and why not the next.
    Stopped(usize, io::Error),
    /// None was looked at: this kernel has no batches for this kind of map, or no memory for one now.
    Untried,
}

impl Batch {
    /// Of so many entries. The kernel says where it stopped; where it did not begin it leaves the number as it was given.
    fn of(entries: usize, (written, done): Written) -> Self {
        match (usize::try_from(written), done) {
            (_, Ok(())) => Self::Whole,
            (Ok(written), Err(error)) if written < entries => Self::Stopped(written, error),
            _ => Self::Untried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    proptest! {
        /// Against a kernel that takes some entries, writes in batches or not, and perhaps has no memory for one now and then.
        #[test]
        fn each_entry_is_tried_once_and_answered_as_it_went(
            takes in proptest::collection::vec(any::<bool>(), 0..40),
            has_memory in proptest::collection::vec(any::<bool>(), 41),
            has_batches: bool,
        ) {
            let tried = RefCell::new(Vec::new());
            let try_at = |at: usize| {
                tried.borrow_mut().push(at);
                if takes[at] { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
            };
            let many = |from: usize| {
                if !has_batches || !has_memory[from] {
                    return Batch::Untried;
                }
                let stopped = (from..takes.len()).find_map(|at| try_at(at).err().map(|error| (at - from, error)));
                stopped.map_or(Batch::Whole, |(done, error)| Batch::Stopped(done, error))
            };
            let told = written(takes.len(), many, try_at);
            prop_assert_eq!(told.iter().map(Result::is_ok).collect::<Vec<_>>(), takes.clone());
            prop_assert_eq!(tried.into_inner(), (0..takes.len()).collect::<Vec<_>>());
        }
    }
}
