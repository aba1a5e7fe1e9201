//! bpf(2) on entries of a map, where the library does not make the call. Never on a map whose keys or values are of other sizes.
#![expect(unsafe_code, reason = "the library writes entries one by one, and takes none out of hash maps")]

use aya::Pod;
use aya::maps::{MapData, MapError};
use nix::libc;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

/// `enum bpf_cmd` of `include/uapi/linux/bpf.h`: `BPF_MAP_UPDATE_ELEM`, `_DELETE_ELEM`, `_LOOKUP_AND_DELETE_ELEM` (of hash maps since
/// Linux 5.14), `_UPDATE_BATCH` and `_DELETE_BATCH`.
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const LOOKUP_AND_DELETE: libc::c_long = 21;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;
/// `BPF_ANY` and `BPF_NOEXIST`.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;

/// The part of `union bpf_attr` for one entry.
#[repr(C)]
struct One {
    map: i32,
    padding: u32,
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

/// What became of a batch: so many were written, and why no more.
pub(super) type Written = (u32, io::Result<()>);

/// A map with keys like these.
pub(super) struct Keys<'map, K>(BorrowedFd<'map>, PhantomData<K>);

/// A map with keys and values like these.
pub(super) struct Entries<'map, K, V>(BorrowedFd<'map>, PhantomData<(K, V)>);

impl<'map, K: Pod> Keys<'map, K> {
    /// # Errors
    /// Its keys have another size, or the kernel does not tell.
    pub(super) fn of(map: &'map MapData) -> Result<Self, MapError> {
        let (size, expected) = (size_of::<K>(), map.info()?.key_size() as usize);
        if size != expected {
            return Err(MapError::InvalidKeySize { size, expected });
        }
        Ok(Self(map.fd().as_fd(), PhantomData))
    }

    pub(super) fn remove(&self, key: &K) -> io::Result<()> {
        let mut attributes = one(self.0, key, 0, ANY);
        // SAFETY: the kernel reads a key, of the size that `of` has found.
        unsafe { call(DELETE, &mut attributes) }
    }

    /// The first ones, as far as the kernel gets.
    pub(super) fn remove_many(&self, keys: &[K]) -> Written {
        let mut attributes = many(self.0, keys, 0);
        // SAFETY: the kernel reads `count` keys, of the size that `of` has found.
        let done = unsafe { call(DELETE_BATCH, &mut attributes) };
        (attributes.count, done)
    }
}

impl<'map, K: Pod, V: Pod> Entries<'map, K, V> {
    /// # Errors
    /// Its keys or values have another size, or the kernel does not tell.
    pub(super) fn of(map: &'map MapData) -> Result<Self, MapError> {
        let Keys(fd, _) = Keys::<K>::of(map)?;
        let (size, expected) = (size_of::<V>(), map.info()?.value_size() as usize);
        if size != expected {
            return Err(MapError::InvalidValueSize { size, expected });
        }
        Ok(Self(fd, PhantomData))
    }

    pub(super) fn put(&self, key: &K, value: &V) -> io::Result<()> {
        self.update(key, value, ANY)
    }

    /// Where there is one, it stays, and this is [`io::ErrorKind::AlreadyExists`].
    pub(super) fn put_where_none(&self, key: &K, value: &V) -> io::Result<()> {
        self.update(key, value, NOEXIST)
    }

    fn update(&self, key: &K, value: &V, flags: u64) -> io::Result<()> {
        let mut attributes = one(self.0, key, std::ptr::from_ref(value) as u64, flags);
        // SAFETY: the kernel reads a key and a value, of the sizes that `of` has found.
        unsafe { call(UPDATE, &mut attributes) }
    }

    /// The first ones, as far as the kernel gets. There are as many keys as values.
    pub(super) fn put_many(&self, keys: &[K], values: &[V]) -> Written {
        assert_eq!(keys.len(), values.len(), "a value for each key");
        let mut attributes = many(self.0, keys, values.as_ptr() as u64);
        // SAFETY: the kernel reads `count` keys and as many values, of the sizes that `of` has found.
        let done = unsafe { call(UPDATE_BATCH, &mut attributes) };
        (attributes.count, done)
    }

    /// Reads an entry and takes it away in one step; where there is none, this is [`io::ErrorKind::NotFound`].
    pub(super) fn take(&self, key: &K) -> io::Result<V> {
        // SAFETY: any bytes are a value (`Pod`).
        let mut value: V = unsafe { std::mem::zeroed() };
        let mut attributes = one(self.0, key, std::ptr::from_mut(&mut value) as u64, ANY);
        // SAFETY: the kernel reads a key and writes a value, of the sizes that `of` has found.
        unsafe { call(LOOKUP_AND_DELETE, &mut attributes) }.map(|()| value)
    }
}

fn one<K>(map: BorrowedFd<'_>, key: &K, value: u64, flags: u64) -> One {
    One { map: map.as_raw_fd(), padding: 0, key: std::ptr::from_ref(key) as u64, value, flags }
}

fn many<K>(map: BorrowedFd<'_>, keys: &[K], values: u64) -> Many {
    let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
    let (map, keys) = (map.as_raw_fd(), keys.as_ptr() as u64);
    Many { in_batch: 0, out_batch: 0, keys, values, count, map, entry_flags: 0, flags: 0 }
}

/// # Safety
/// The attributes are those of the command, and what they point to is there, for reading or writing as the command does.
unsafe fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<()> {
    // SAFETY: the kernel reads and writes no more of the attributes than it is told that there are; the rest is for who calls.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
