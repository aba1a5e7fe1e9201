//! Sets that rules in force look into, by what they mean: one group for both families. Never a set that nobody uses.

use super::condition::{Condition, Wanted, needed};
use super::identities::Identities;
use super::peer::Labelled;
use super::rule::{Meaning, Whose};
use super::slab::{Slab, Slot};
use super::workloads::Placed;
use crate::policy::model::{Family, Identity};
use crate::policy::program::{Member, Set, SetId, SetKind};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Write};
use std::sync::Arc;

/// The set of one family.
#[derive(Debug)]
pub(super) struct Face {
    pub(super) set: Set,
    /// Lookups into it.
    pub(super) uses: u32,
    /// Engines know it.
    pub(super) emitted: bool,
    /// The prefixes that engines know, for sets of prefixes.
    pub(super) networks: Vec<IpNet>,
}

/// The sets of both families.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) meaning: Arc<Meaning>,
    pub(super) faces: [Face; 2],
    /// Identities whose workloads are in it.
    pub(super) identities: BTreeSet<Slot>,
    selectors: Vec<Slot>,
    /// Members that something happened to since engines were told, and whether they were in it then.
    pub(super) touched: HashMap<Member, bool>,
}

impl Group {
    pub(super) fn face(&self, family: Family) -> &Face {
        &self.faces[usize::from(family == Family::V6)]
    }

    fn face_mut(&mut self, family: Family) -> &mut Face {
        &mut self.faces[usize::from(family == Family::V6)]
    }

    /// Whether a workload's addresses are in it.
    pub(super) fn holds(&self, placed: &Placed) -> bool {
        match &*self.meaning {
            Meaning::Ports(_, Whose::Local) => placed.local.is_some(),
            _ => placed.identity.is_some_and(|identity| self.identities.contains(&identity)),
        }
    }
}

/// A selector of one or more groups.
#[derive(Debug)]
struct Registered {
    labelled: Labelled,
    needed: Option<Vec<Condition>>,
    groups: BTreeSet<Slot>,
}

/// All groups in use.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) known: Slab<Group>,
    by_meaning: HashMap<Arc<Meaning>, Slot>,
    names: HashSet<Arc<str>>,
    selectors: Slab<Registered>,
    by_selector: HashMap<Labelled, Slot>,
    wanted: Wanted,
    /// Groups of the ports of local endpoints.
    pub(super) local: BTreeSet<Slot>,
    /// Groups of which engines may have to be told something.
    pub(super) stirred: BTreeSet<Slot>,
}

impl Groups {
    /// One more lookup into the set of a meaning and a family.
    pub(super) fn acquire(&mut self, meaning: Meaning, family: Family, identities: &mut Identities) -> (Slot, Set) {
        let slot = match self.by_meaning.get(&meaning) {
            Some(slot) => *slot,
            None => self.create(meaning, identities),
        };
        self.stirred.insert(slot);
        let face = self.known[slot].face_mut(family);
        face.uses += 1;
        (slot, face.set.clone())
    }

    /// One lookup less. The group stays until engines were told.
    pub(super) fn release(&mut self, slot: Slot, family: Family) {
        self.stirred.insert(slot);
        self.known[slot].face_mut(family).uses -= 1;
    }

    fn create(&mut self, meaning: Meaning, identities: &mut Identities) -> Slot {
        let meaning = Arc::new(meaning);
        let face = |names: &mut HashSet<Arc<str>>, family| {
            let id = SetId(name(names, &meaning, family));
            let kind = match &*meaning {
                Meaning::Workloads(_) => SetKind::Addresses(family),
                Meaning::Networks(..) => SetKind::Networks(family),
                Meaning::Ports(..) => SetKind::AddressPorts(family),
            };
            Face { set: Set { id, kind }, uses: 0, emitted: false, networks: Vec::new() }
        };
        let faces = [face(&mut self.names, Family::V4), face(&mut self.names, Family::V6)];
        let slot = self.known.insert(Group {
            meaning: meaning.clone(),
            faces,
            identities: BTreeSet::new(),
            selectors: Vec::new(),
            touched: HashMap::new(),
        });
        let labelled = match &*meaning {
            Meaning::Workloads(all) | Meaning::Networks(all, _) | Meaning::Ports(_, Whose::Workloads(all)) => Some(all),
            Meaning::Ports(_, Whose::Local) => None,
        };
        if labelled.is_none() {
            self.local.insert(slot);
        }
        for labelled in labelled.into_iter().flatten() {
            self.register(labelled, slot, identities);
        }
        self.by_meaning.insert(meaning, slot);
        slot
    }

    fn register(&mut self, labelled: &Labelled, group: Slot, identities: &mut Identities) {
        let selector = match self.by_selector.get(labelled) {
            Some(selector) => *selector,
            None => {
                let needed = needed(&labelled.selector, &|condition| identities.all.met_by(condition));
                let registered = Registered { labelled: labelled.clone(), needed, groups: BTreeSet::new() };
                let selector = self.selectors.insert(registered);
                self.by_selector.insert(labelled.clone(), selector);
                self.wanted.insert(self.selectors[selector].needed.as_deref(), selector);
                selector
            }
        };
        self.selectors[selector].groups.insert(group);
        self.known[group].selectors.push(selector);
        for identity in identities.all.candidates(self.selectors[selector].needed.as_deref()) {
            let interned = &mut identities.known[identity];
            if labelled.matches(&interned.identity) {
                interned.groups.insert(group);
                self.known[group].identities.insert(identity);
            }
        }
    }

    /// The groups that a new identity is in.
    pub(super) fn admit(&mut self, slot: Slot, identity: &Identity) -> BTreeSet<Slot> {
        let mut groups = BTreeSet::new();
        for selector in self.wanted.candidates(identity) {
            let registered = &self.selectors[selector];
            if registered.labelled.matches(identity) {
                groups.extend(&registered.groups);
            }
        }
        for group in &groups {
            self.known[*group].identities.insert(slot);
        }
        groups
    }

    /// Forgets a group that nobody uses.
    pub(super) fn forget(&mut self, slot: Slot, identities: &mut Identities) {
        let Some(group) = self.known.remove(slot) else { return };
        self.by_meaning.remove(&group.meaning);
        self.local.remove(&slot);
        for face in &group.faces {
            self.names.remove(&face.set.id.0);
        }
        for identity in group.identities {
            identities.known[identity].groups.remove(&slot);
        }
        for selector in group.selectors {
            let registered = &mut self.selectors[selector];
            registered.groups.remove(&slot);
            if registered.groups.is_empty() {
                self.wanted.remove(registered.needed.as_deref(), selector);
                self.by_selector.remove(&registered.labelled);
                self.selectors.remove(selector);
            }
        }
    }
}

impl Labelled {
    pub(super) fn matches(&self, identity: &Identity) -> bool {
        self.kinds.has(identity.kind) && self.selector.matches(identity)
    }
}

/// FNV-1a of 128 bits (draft-eastlake-fnv, section 5): the same in every process, and not safe from who wants two texts of
/// one hash: see [`name`].
struct Fnv(u128);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
        Ok(())
    }
}

/// A free name for a set: from its meaning, and longer when another meaning has that name.
fn name(taken: &mut HashSet<Arc<str>>, meaning: &Meaning, family: Family) -> Arc<str> {
    let mut hash = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    write!(hash, "{family:?} {meaning:?}").expect("hashing does not fail");
    let mut name: Arc<str> = format!("{:032x}", hash.0).into();
    let mut more = 1;
    while !taken.insert(name.clone()) {
        name = format!("{:032x}{more:x}", hash.0).into();
        more += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::compile::prefixes::Prefixes;

    #[test]
    fn a_taken_name_is_made_longer() {
        let meaning = Meaning::Networks(BTreeSet::new(), Prefixes::default());
        let mut taken = HashSet::new();
        let first = name(&mut taken, &meaning, Family::V4);
        let second = name(&mut taken, &meaning, Family::V4);
        assert_eq!((first.len(), second.len()), (32, 33));
        assert!(second.starts_with(&*first) && first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    /// From the published test vectors of FNV: the hash of "foobar".
    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        hash.write_str("foobar").unwrap();
        assert_eq!(hash.0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
