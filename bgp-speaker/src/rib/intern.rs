//! One copy of equal values, called by number, for as long as somebody uses it. Never what the values mean.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hash};

/// What an interned value is called; 0 is none.
pub(crate) type Id = u32;

/// No value.
pub(crate) const NONE: Id = 0;

#[derive(Debug, Clone)]
struct Entry<T> {
    /// `None` when its number is free.
    value: Option<T>,
    users: u32,
    /// Of the value: it is long to make for some.
    hash: u32,
}

/// A hash as the table wants it: it looks at the lowest bits and the highest ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Values by number. A number is given to another value after its last user has released it.
#[derive(Debug, Clone)]
pub(crate) struct Interner<T> {
    entries: Vec<Entry<T>>,
    free: Vec<Id>,
    table: HashTable<Id>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), table: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The number of a value, with one user more.
    pub(crate) fn intern(&mut self, value: T) -> Id {
        // Its lower half is as good as all of it.
        let hash = self.hasher.hash_one(&value) as u32;
        let Self { entries, free, table, .. } = self;
        let is_it = |id: &Id| {
            let entry = &entries[*id as usize - 1];
            entry.hash == hash && entry.value.as_ref() == Some(&value)
        };
        if let Some(id) = table.find(spread(hash), is_it) {
            entries[*id as usize - 1].users += 1;
            return *id;
        }
        let entry = Entry { value: Some(value), users: 1, hash };
        let id = if let Some(id) = free.pop() {
            entries[id as usize - 1] = entry;
            id
        } else {
            entries.push(entry);
            u32::try_from(entries.len()).expect("four thousand million values do not fit into memory")
        };
        table.insert_unique(spread(hash), id, |id| spread(entries[*id as usize - 1].hash));
        id
    }

    /// The value of a number that has a user.
    pub(crate) fn get(&self, id: Id) -> &T {
        self.entries[id as usize - 1].value.as_ref().expect("a number with a user has a value")
    }

    /// One user more; nothing for no value.
    pub(crate) fn acquire(&mut self, id: Id) {
        if id != NONE {
            self.entries[id as usize - 1].users += 1;
        }
    }

    /// One user less; nothing for no value.
    pub(crate) fn release(&mut self, id: Id) {
        if id == NONE {
            return;
        }
        let entry = &mut self.entries[id as usize - 1];
        entry.users -= 1;
        if entry.users > 0 {
            return;
        }
        entry.value = None;
        if let Ok(found) = self.table.find_entry(spread(entry.hash), |other| *other == id) {
            found.remove();
        }
        self.free.push(id);
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_number_until_the_last_user_goes() {
        let mut interner = Interner::default();
        let (first, second) = (interner.intern("a".to_owned()), interner.intern("a".to_owned()));
        assert_eq!(first, second);
        interner.release(first);
        assert_eq!(interner.get(first), "a");
        interner.release(first);
        assert_eq!(interner.len(), 0);
        assert_eq!(interner.intern("b".to_owned()), first, "a free number is used again");
        for number in 0..100 {
            interner.intern(number.to_string());
        }
        assert_eq!(interner.len(), 101);
        assert_eq!(interner.intern("77".to_owned()), interner.intern("77".to_owned()));
    }
}
