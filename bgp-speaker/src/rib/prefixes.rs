//! Prefixes and the slots they stand in: 5 bytes for IPv4, 17 for IPv6, about 8 to find one. Never routes.

use crate::types::Family;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::hash::{BuildHasher, Hash};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stands for the length of no prefix.
const FREE: u8 = u8::MAX;

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

#[derive(Debug)]
pub(crate) struct Table<A> {
    addresses: Vec<A>,
    lengths: Vec<u8>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<A> Default for Table<A> {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            lengths: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<A: Copy + Eq + Hash> Table<A> {
    fn is_at(&self, slot: u32, address: A, length: u8) -> bool {
        self.addresses[slot as usize] == address && self.lengths[slot as usize] == length
    }

    fn find(&self, address: A, length: u8) -> Option<u32> {
        let hash = self.hasher.hash_one((address, length));
        self.table.find(hash, |slot| self.is_at(*slot, address, length)).copied()
    }

    fn insert(&mut self, address: A, length: u8) -> u32 {
        let Self { addresses, lengths, free, table, hasher } = self;
        let hash = hasher.hash_one((address, length));
        let is_it = |slot: &u32| addresses[*slot as usize] == address && lengths[*slot as usize] == length;
        let rehash = |slot: &u32| hasher.hash_one((addresses[*slot as usize], lengths[*slot as usize]));
        let place = match table.entry(hash, is_it, rehash) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(place) => place,
        };
        let slot = if let Some(slot) = free.pop() {
            addresses[slot as usize] = address;
            lengths[slot as usize] = length;
            slot
        } else {
            addresses.push(address);
            lengths.push(length);
            u32::try_from(lengths.len() - 1).expect("four thousand million prefixes do not fit into memory")
        };
        place.insert(slot);
        slot
    }

    fn get(&self, slot: u32) -> Option<(A, u8)> {
        let length = *self.lengths.get(slot as usize)?;
        (length != FREE).then(|| (self.addresses[slot as usize], length))
    }

    fn free(&mut self, slot: u32) {
        let Some((address, length)) = self.get(slot) else { return };
        let hash = self.hasher.hash_one((address, length));
        if let Ok(found) = self.table.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.lengths[slot as usize] = FREE;
        self.free.push(slot);
    }
}
