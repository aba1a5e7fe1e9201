//! Many entries of a map by one call of the kernel, with the answer for each. Never an order of its own, and never a guess: where a
//! batch stops, the kernel says how many it wrote.

use super::call::{Entries, Keys, Written};
use aya::Pod;
use aya::maps::MapData;
use std::convert::identity;
use std::io;

/// At most so many bytes of keys and values at once, so that a large map does not need twice its memory.
const MOST_BYTES: usize = 1 << 20;

/// How many entries to write at once, 1 or more.
const fn at_once<K, V>() -> usize {
    let fit = MOST_BYTES / (size_of::<K>() + size_of::<V>());
    if fit == 0 { 1 } else { fit }
}

/// What becomes of entries behind one that the kernel refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// They are tried: each stands for itself.
    IsTried,
    /// They wait, and nothing is answered of them: they lead to it.
    Waits,
}

/// Writes entries of one map that are all to be there, or all taken away, [`at_once`] with each call. Answers for each, in order.
pub(crate) fn write<K: Pod, V: Pod>(
    map: &MapData,
    entries: impl IntoIterator<Item = (K, Option<V>)>,
    behind: Behind,
) -> Vec<io::Result<()>> {
    let (mut told, mut entries) = (Vec::new(), entries.into_iter());
    while !is_held(&told, behind) {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (key, value) in entries.by_ref().take(at_once::<K, V>()) {
            keys.push(key);
            values.extend(value);
        }
        if keys.is_empty() {
            break;
        }
        told.extend(if values.is_empty() { remove(map, &keys, behind) } else { put(map, &keys, &values, behind) });
    }
    told
}

/// Puts entries, of which there are as many keys as values, [`at_once`] at most. Answers for each, in order.
fn put<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V], behind: Behind) -> Vec<io::Result<()>> {
    let Some(map) = Entries::of(map).ok().filter(|_| keys.len() == values.len()) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| Batch::of(keys.len() - from, map.put_many(&keys[from..], &values[from..]));
    written(keys.len(), behind, many, |at| map.put(&keys[at], &values[at]), identity)
}

/// Takes entries away; one that is not there is taken away already. Answers for each, in order.
fn remove<K: Pod>(map: &MapData, keys: &[K], behind: Behind) -> Vec<io::Result<()>> {
    let Ok(map) = Keys::of(map) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| Batch::of(keys.len() - from, map.remove_many(&keys[from..]));
    written(keys.len(), behind, many, |at| map.remove(&keys[at]), gone)
}

/// Writes so many entries: by `many` from a place on, as far as the kernel gets with each call; where it has no batches, by `one` at
/// a place. What the kernel answers is `taken` for what it is here.
fn written(
    count: usize,
    behind: Behind,
    many: impl Fn(usize) -> Batch,
    one: impl Fn(usize) -> io::Result<()>,
    taken: impl Fn(io::Result<()>) -> io::Result<()>,
) -> Vec<io::Result<()>> {
    let mut told: Vec<io::Result<()>> = Vec::with_capacity(count);
    let mut in_batches = count > 1;
    while told.len() < count && !is_held(&told, behind) {
        if !in_batches {
            told.push(taken(one(told.len())));
            continue;
        }
        match many(told.len()) {
            Batch::Whole => told.resize_with(count, || Ok(())),
            Batch::Stopped(done, error) => {
                told.extend((0..done).map(|_| Ok(())));
                told.push(taken(Err(error)));
            }
            Batch::Untried => in_batches = false,
        }
    }
    told
}

/// Whether what comes next has to wait.
fn is_held(told: &[io::Result<()>], behind: Behind) -> bool {
    behind == Behind::Waits && told.last().is_some_and(Result::is_err)
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
        fn each_entry_is_tried_once_and_answered_as_it_went_and_none_behind_one_that_holds(
            takes in proptest::collection::vec(proptest::bool::weighted(0.9), 0..40),
            has_memory in proptest::collection::vec(any::<bool>(), 41),
            has_batches: bool,
            behind in prop_oneof![Just(Behind::IsTried), Just(Behind::Waits)],
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
            let told = written(takes.len(), behind, many, try_at, identity);
            let refused = takes.iter().position(|takes| !takes).filter(|_| behind == Behind::Waits);
            let expected = &takes[..refused.map_or(takes.len(), |at| at + 1)];
            prop_assert_eq!(told.iter().map(Result::is_ok).collect::<Vec<_>>(), expected);
            prop_assert_eq!(tried.into_inner(), (0..expected.len()).collect::<Vec<_>>());
        }
    }
}
