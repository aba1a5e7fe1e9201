//! Prefixes and the slots they stand in: 5 bytes for IPv4, 17 for IPv6, about 8 to find one. Never routes.

use super::slots::SlotSet;
use crate::types::Family;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::hash::{BuildHasher, Hash};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Free slots that may be noted twice or for nothing before they are noted anew.
const SLACK: usize = 1024;

/// The prefixes of one family, each in a slot of its own.
#[derive(Debug)]
pub(crate) enum Prefixes {
    V4(Table<u32>),
    V6(Table<u128>),
}

impl Prefixes {
    pub(crate) fn new(family: Family) -> Self {
        match family {
            Family::Ipv4 => Self::V4(Table::default()),
            Family::Ipv6 => Self::V6(Table::default()),
        }
    }

    /// The slot of a prefix that is there.
    pub(crate) fn find(&self, prefix: &IpNet) -> Option<u32> {
        match (self, prefix) {
            (Self::V4(table), IpNet::V4(prefix)) => table.find(prefix.addr().into(), prefix.prefix_len()),
            (Self::V6(table), IpNet::V6(prefix)) => table.find(prefix.addr().into(), prefix.prefix_len()),
            _ => None,
        }
    }

    /// As [`Self::find`], for one of many that come in a row.
    pub(crate) fn seek(&mut self, prefix: &IpNet) -> Option<u32> {
        match (self, prefix) {
            (Self::V4(table), IpNet::V4(prefix)) => table.seek(prefix.addr().into(), prefix.prefix_len()),
            (Self::V6(table), IpNet::V6(prefix)) => table.seek(prefix.addr().into(), prefix.prefix_len()),
            _ => None,
        }
    }

    /// The slot of a prefix, a new one if need be; `None` for a prefix of the other family.
    pub(crate) fn insert(&mut self, prefix: &IpNet) -> Option<u32> {
        match (self, prefix) {
            (Self::V4(table), IpNet::V4(prefix)) => Some(table.insert(prefix.addr().into(), prefix.prefix_len())),
            (Self::V6(table), IpNet::V6(prefix)) => Some(table.insert(prefix.addr().into(), prefix.prefix_len())),
            _ => None,
        }
    }

    /// The prefix in a slot.
    pub(crate) fn get(&self, slot: u32) -> Option<IpNet> {
        match self {
            Self::V4(table) => {
                let (address, length) = table.get(slot)?;
                Some(Ipv4Net::new(Ipv4Addr::from(address), length).ok()?.into())
            }
            Self::V6(table) => {
                let (address, length) = table.get(slot)?;
                Some(Ipv6Net::new(Ipv6Addr::from(address), length).ok()?.into())
            }
        }
    }

    /// The slot may be given to another prefix.
    pub(crate) fn free(&mut self, slot: u32) {
        match self {
            Self::V4(table) => table.free(slot),
            Self::V6(table) => table.free(slot),
        }
    }

    /// Slots, free ones included: all numbers are below it.
    pub(crate) fn slots(&self) -> usize {
        match self {
            Self::V4(table) => table.lengths.len(),
            Self::V6(table) => table.lengths.len(),
        }
    }
}

/// Prefixes and slots of one length of address.
///
/// A slot that is free keeps its prefix until another one needs it: what is announced again gets it back, and nothing has to
/// be looked for when thousands go. Peers tell of the same prefixes in the same order again and again, so what stands beside
/// the prefix before is looked at first: those lie together, while a search goes anywhere in memory.
#[derive(Debug)]
pub(crate) struct Table<A> {
    addresses: Vec<A>,
    lengths: Vec<u8>,
    /// Free slots; some stand in it twice, or are in use again.
    free: Vec<u32>,
    is_free: SlotSet,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// Where a prefix was found last.
    last: u32,
}

impl<A> Default for Table<A> {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            lengths: Vec::new(),
            free: Vec::new(),
            is_free: SlotSet::default(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            last: 0,
        }
    }
}

impl<A: Copy + Eq + Hash> Table<A> {
    fn is_at(&self, slot: u32, address: A, length: u8) -> bool {
        self.addresses.get(slot as usize) == Some(&address) && self.lengths[slot as usize] == length
    }

    /// The slot of a prefix, also a free one.
    fn place(&self, address: A, length: u8) -> Option<u32> {
        let hash = self.hasher.hash_one((address, length));
        self.table.find(hash, |slot| self.is_at(*slot, address, length)).copied()
    }

    /// As [`Self::place`], where it is before or behind the last one.
    fn beside(&self, address: A, length: u8) -> Option<u32> {
        let beside = [self.last.wrapping_add(1), self.last.wrapping_sub(1)];
        beside.into_iter().find(|slot| self.is_at(*slot, address, length))
    }

    fn find(&self, address: A, length: u8) -> Option<u32> {
        self.place(address, length).filter(|slot| !self.is_free.contains(*slot))
    }

    fn seek(&mut self, address: A, length: u8) -> Option<u32> {
        let place = self.beside(address, length).or_else(|| self.place(address, length))?;
        self.last = place;
        (!self.is_free.contains(place)).then_some(place)
    }

    fn insert(&mut self, address: A, length: u8) -> u32 {
        let slot = if let Some(slot) = self.beside(address, length) {
            self.is_free.remove(slot);
            slot
        } else if self.is_free.is_empty() {
            self.insert_new(address, length)
        } else {
            self.insert_again(address, length)
        };
        self.last = slot;
        slot
    }

    /// No slot is free.
    fn insert_new(&mut self, address: A, length: u8) -> u32 {
        let Self { addresses, lengths, table, hasher, .. } = self;
        let hash = hasher.hash_one((address, length));
        let is_it = |slot: &u32| addresses[*slot as usize] == address && lengths[*slot as usize] == length;
        let rehash = |slot: &u32| hasher.hash_one((addresses[*slot as usize], lengths[*slot as usize]));
        let place = match table.entry(hash, is_it, rehash) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => place,
        };
        let slot = u32::try_from(lengths.len()).expect("four thousand million prefixes do not fit into memory");
        place.insert(slot);
        addresses.push(address);
        lengths.push(length);
        slot
    }

    fn insert_again(&mut self, address: A, length: u8) -> u32 {
        if let Some(slot) = self.place(address, length) {
            self.is_free.remove(slot);
            return slot;
        }
        let Some(slot) = self.take_free() else { return self.insert_new(address, length) };
        let hash = self.hasher.hash_one((self.addresses[slot as usize], self.lengths[slot as usize]));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.addresses[slot as usize] = address;
        self.lengths[slot as usize] = length;
        let Self { addresses, lengths, table, hasher, .. } = self;
        table.insert_unique(hasher.hash_one((address, length)), slot, |slot| {
            hasher.hash_one((addresses[*slot as usize], lengths[*slot as usize]))
        });
        slot
    }

    fn take_free(&mut self) -> Option<u32> {
        while let Some(slot) = self.free.pop() {
            if self.is_free.remove(slot) {
                return Some(slot);
            }
        }
        None
    }

    fn get(&self, slot: u32) -> Option<(A, u8)> {
        let length = *self.lengths.get(slot as usize)?;
        (!self.is_free.contains(slot)).then(|| (self.addresses[slot as usize], length))
    }

    fn free(&mut self, slot: u32) {
        if (slot as usize) < self.lengths.len() && self.is_free.insert(slot) {
            self.free.push(slot);
            if self.free.len() > 2 * self.is_free.len() + SLACK {
                self.free = self.is_free.iter().collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Whoever has a slot keeps it, and no two have the same.
        #[test]
        fn a_prefix_has_a_slot_of_its_own_as_long_as_it_is_there(
            steps in proptest::collection::vec((0u8..4, 0u32..24, 20u8..22), 0..400),
        ) {
            let mut table = Table::<u32>::default();
            let mut oracle: HashMap<(u32, u8), u32> = HashMap::new();
            for (step, address, length) in steps {
                let key = (address, length);
                match step {
                    0 => {
                        let slot = table.insert(address, length);
                        prop_assert_eq!(*oracle.entry(key).or_insert(slot), slot);
                    }
                    1 => {
                        if let Some(slot) = oracle.remove(&key) {
                            table.free(slot);
                            prop_assert_eq!(table.get(slot), None);
                        }
                    }
                    2 => prop_assert_eq!(table.seek(address, length), oracle.get(&key).copied()),
                    _ => prop_assert_eq!(table.find(address, length), oracle.get(&key).copied()),
                }
                let mut slots: Vec<u32> = oracle.values().copied().collect();
                slots.sort_unstable();
                slots.dedup();
                prop_assert_eq!(slots.len(), oracle.len());
                for (key, slot) in &oracle {
                    prop_assert_eq!(table.get(*slot), Some(*key));
                }
            }
            prop_assert!(table.lengths.len() <= 48, "freed slots are used again");
        }
    }

    #[test]
    fn a_prefix_that_comes_and_goes_takes_no_more_memory() {
        let mut table = Table::<u32>::default();
        for _ in 0..100_000 {
            let slot = table.insert(1, 24);
            table.free(slot);
        }
        assert!((table.free.len(), table.lengths.len()) <= (2 + SLACK, 1));
    }
}
