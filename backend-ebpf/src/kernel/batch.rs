//! Many entries of a map by one call of the kernel, with the answer for each. Never an order of its own, and never a guess: where a
//! batch stops, the kernel says how many it wrote.
#![expect(unsafe_code, reason = "the library writes entries one by one")]

use aya::Pod;
use aya::maps::MapData;
use nix::libc;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// `BPF_MAP_UPDATE_ELEM`, `BPF_MAP_DELETE_ELEM`, `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH` of `include/uapi/linux/bpf.h`.
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;
/// At most so many bytes of keys and values at once, so that a large map does not need twice its memory.
const MOST_BYTES: usize = 1 << 20;

/// How many entries to write at once, 1 or more.
pub(crate) const fn at_once<K, V>() -> usize {
    let fit = MOST_BYTES / (size_of::<K>() + size_of::<V>());
    if fit == 0 { 1 } else { fit }
}

/// The part of `union bpf_attr` for one entry.
#[repr(C)]
struct One {
    map: i32,
    unused: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for a batch.
#[repr(C)]
struct Many {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many there are; the kernel answers with how many it wrote.
    count: u32,
    map: i32,
    entry_flags: u64,
    flags: u64,
}

/// Puts entries, of which there are as many keys as values, [`at_once`] at most. Answers for each, in order.
pub(crate) fn put<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> Vec<io::Result<()>> {
    let Some(map) = fitting(map, size_of::<K>(), size_of::<V>()).filter(|_| keys.len() == values.len()) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| many(map, Write::Put, &keys[from..], &values[from..]);
    written(keys.len(), many, |at| one(map, Write::Put, &keys[at], values.get(at)))
}

/// Takes entries away; one that is not there is taken away already. Answers for each, in order.
pub(crate) fn remove<K: Pod>(map: &MapData, keys: &[K]) -> Vec<io::Result<()>> {
    let Some(map) = fitting(map, size_of::<K>(), 0) else {
        return keys.iter().map(|_| Err(io::ErrorKind::InvalidInput.into())).collect();
    };
    let many = |from: usize| many::<K, u8>(map, Write::Remove, &keys[from..], &[]);
    let told = written(keys.len(), many, |at| one::<K, u8>(map, Write::Remove, &keys[at], None));
    told.into_iter().map(gone).collect()
}

/// The map's descriptor, where it has keys, and values if any are to be written, of so many bytes.
fn fitting(map: &MapData, key: usize, value: usize) -> Option<i32> {
    let info = map.info().ok()?;
    let fits = info.key_size() as usize == key && (value == 0 || info.value_size() as usize == value);
    fits.then(|| map.fd().as_fd().as_raw_fd())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Write {
    Put,
    Remove,
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

fn one<K: Pod, V: Pod>(map: i32, write: Write, key: &K, value: Option<&V>) -> io::Result<()> {
    let value = value.map_or(0, |value| std::ptr::from_ref(value) as u64);
    let attributes = One { map, unused: 0, key: std::ptr::from_ref(key) as u64, value, flags: 0 };
    let command = if write == Write::Put { UPDATE } else { DELETE };
    let length = size_of::<One>();
    // SAFETY: the kernel reads so many bytes of integers, and where they point to a key and, to put it, a value: of the sizes that
    // the map has (`fitting`), without padding (`Pod`).
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(&attributes), length) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

fn many<K: Pod, V: Pod>(map: i32, write: Write, keys: &[K], values: &[V]) -> Batch {
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let values = if write == Write::Put { values.as_ptr() as u64 } else { 0 };
    let (keys, flags) = (keys.as_ptr() as u64, 0);
    let mut attributes = Many { in_batch: 0, out_batch: 0, keys, values, count, map, entry_flags: 0, flags };
    let command = if write == Write::Put { UPDATE_BATCH } else { DELETE_BATCH };
    let length = size_of::<Many>();
    // SAFETY: as above, for `count` keys and, to put them, as many values; the kernel writes `count`.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(&mut attributes), length) };
    if done >= 0 {
        return Batch::Whole;
    }
    let error = io::Error::last_os_error();
    // The kernel says where it stopped; where it did not begin it leaves the number as it was given.
    if attributes.count < count { Batch::Stopped(attributes.count as usize, error) } else { Batch::Untried }
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
