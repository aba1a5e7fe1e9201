//! Identities: numbers of addresses that no set tells apart. Never an identity of the cluster: they are this node's own, made
//! of the sets that its rules ask for.
//!
//! The kernel finds an address's identity by its longest prefix, so each prefix has what all prefixes around it have too.

use super::atom::{Atom, Atoms};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The identities of a node.
#[derive(Debug)]
pub(super) struct Identities {
    /// What holds of each prefix by its own name.
    named: BTreeMap<IpNet, BTreeSet<Atom>>,
    /// How many prefixes there are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
    dirty: BTreeSet<IpNet>,
    /// What the kernel was told.
    told: BTreeMap<IpNet, u32>,
    known: BTreeMap<u32, Known>,
    numbers: HashMap<Atoms, u32>,
    /// Which have what.
    having: HashMap<Atom, BTreeSet<u32>>,
    next: u32,
}

#[derive(Debug)]
struct Known {
    atoms: Atoms,
    prefixes: usize,
}

/// What changed.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Identities that were not there before.
    pub(super) new: Vec<(u32, Atoms)>,
    /// Prefixes with another identity, or none.
    pub(super) moved: Vec<(IpNet, Option<u32>)>,
    /// Identities that no prefix has any more. Their numbers are not used again.
    pub(super) gone: Vec<(u32, Atoms)>,
}

impl Default for Identities {
    fn default() -> Self {
        Self {
            named: BTreeMap::new(),
            lengths: BTreeMap::new(),
            dirty: BTreeSet::new(),
            told: BTreeMap::new(),
            known: BTreeMap::new(),
            numbers: HashMap::new(),
            having: HashMap::new(),
            next: backend_ebpf_abi::IDENTITY_NONE + 1,
        }
    }
}

impl Identities {
    /// Something holds of all addresses of a prefix now; `false`: it did before.
    pub(super) fn name(&mut self, prefix: IpNet, atom: Atom) -> bool {
        let prefix = prefix.trunc();
        let atoms = self.named.entry(prefix).or_default();
        if atoms.is_empty() {
            *self.lengths.entry(length(&prefix)).or_default() += 1;
        }
        let is_new = atoms.insert(atom);
        if is_new {
            self.dirty.insert(prefix);
        }
        is_new
    }

    /// It does no longer; `false`: it did not before.
    pub(super) fn forget(&mut self, prefix: IpNet, atom: &Atom) -> bool {
        let prefix = prefix.trunc();
        let Some(atoms) = self.named.get_mut(&prefix) else { return false };
        if !atoms.remove(atom) {
            return false;
        }
        self.dirty.insert(prefix);
        if atoms.is_empty() {
            self.named.remove(&prefix);
            if let Some(count) = self.lengths.get_mut(&length(&prefix)) {
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&length(&prefix));
                }
            }
        }
        true
    }

    /// All that holds of an address.
    #[must_use]
    pub(super) fn of(&self, address: IpAddr) -> BTreeSet<Atom> {
        self.around(&IpNet::from(address)).cloned().collect()
    }

    /// The same prefixes, of which nobody was told.
    pub(super) fn renewed(&self) -> Self {
        let (named, lengths) = (self.named.clone(), self.lengths.clone());
        Self { dirty: named.keys().copied().collect(), named, lengths, ..Self::default() }
    }

    /// All that holds of each prefix.
    pub(super) fn named(&self) -> impl Iterator<Item = (IpNet, Option<Atoms>)> {
        self.named.keys().map(|prefix| (*prefix, self.atoms_of(prefix)))
    }

    /// What the kernel was told.
    pub(super) fn told(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.told.iter().map(|(prefix, number)| (*prefix, *number))
    }

    /// What is there, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Atoms)> {
        self.known.iter().map(|(number, known)| (*number, &known.atoms))
    }

    /// Those of which one of these holds, or that they are of the node itself.
    pub(super) fn with<'b>(&self, atoms: impl Iterator<Item = &'b Atom>) -> Vec<(u32, &Atoms)> {
        let having = atoms.chain([&Atom::OwnNode]).filter_map(|atom| self.having.get(atom)).flatten();
        let numbers: BTreeSet<u32> = having.copied().collect();
        numbers.into_iter().filter_map(|number| Some((number, self.atoms(number)?))).collect()
    }

    /// What holds of an identity.
    pub(super) fn atoms(&self, number: u32) -> Option<&Atoms> {
        self.known.get(&number).map(|known| &known.atoms)
    }

    /// Prefixes that have to get another identity, or none: of which all this holds.
    pub(super) fn moving(&self) -> Vec<(IpNet, Option<Atoms>)> {
        let mut concerned = BTreeSet::new();
        for prefix in &self.dirty {
            concerned.insert(*prefix);
            let last = IpNet::from(prefix.broadcast());
            concerned.extend(self.named.range(*prefix..=last).map(|(inner, _)| *inner));
        }
        let moved = concerned.into_iter().map(|prefix| (prefix, self.atoms_of(&prefix)));
        let is_moved = |(prefix, atoms): &(IpNet, Option<Atoms>)| {
            self.told.get(prefix).and_then(|number| self.atoms(*number)) != atoms.as_ref()
        };
        moved.filter(is_moved).collect()
    }

    /// Gives identities to those that are [moving](Self::moving).
    pub(super) fn settle(&mut self, moving: Vec<(IpNet, Option<Atoms>)>) -> Settled {
        let mut settled = Settled::default();
        let mut left = BTreeSet::new();
        self.dirty.clear();
        for (prefix, atoms) in moving {
            let number = atoms.map(|atoms| match self.numbers.get(&atoms) {
                Some(number) => *number,
                None => self.begin(atoms, &mut settled),
            });
            let before = match number {
                Some(number) => self.told.insert(prefix, number),
                None => self.told.remove(&prefix),
            };
            settled.moved.push((prefix, number));
            if let Some(known) = number.and_then(|number| self.known.get_mut(&number)) {
                known.prefixes += 1;
            }
            if let Some((number, known)) = before.and_then(|number| Some((number, self.known.get_mut(&number)?))) {
                known.prefixes -= 1;
                left.insert(number);
            }
        }
        for number in left {
            if self.known.get(&number).is_some_and(|known| known.prefixes == 0) {
                self.end(number, &mut settled);
            }
        }
        settled
    }

    fn begin(&mut self, atoms: Atoms, settled: &mut Settled) -> u32 {
        let number = self.next;
        self.next += 1;
        for atom in &*atoms {
            self.having.entry(atom.clone()).or_default().insert(number);
        }
        self.numbers.insert(atoms.clone(), number);
        self.known.insert(number, Known { atoms: atoms.clone(), prefixes: 0 });
        settled.new.push((number, atoms));
        number
    }

    fn end(&mut self, number: u32, settled: &mut Settled) {
        let Some(Known { atoms, .. }) = self.known.remove(&number) else { return };
        for atom in &*atoms {
            if let Some(numbers) = self.having.get_mut(atom) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.having.remove(atom);
                }
            }
        }
        self.numbers.remove(&atoms);
        settled.gone.push((number, atoms));
    }

    /// All that holds of a prefix that has a name.
    fn atoms_of(&self, prefix: &IpNet) -> Option<Atoms> {
        self.named.contains_key(prefix).then(|| Arc::new(self.around(prefix).cloned().collect()))
    }

    /// What holds of a prefix by its own name and by those around it.
    fn around<'a>(&'a self, prefix: &IpNet) -> impl Iterator<Item = &'a Atom> + use<'a> {
        let (address, (v4, longest)) = (prefix.addr(), length(prefix));
        let lengths = self.lengths.range((v4, 0)..=(v4, longest)).map(|((_, length), _)| *length);
        let covers = lengths.filter_map(move |length| Some(IpNet::new(address, length).ok()?.trunc()));
        covers.filter_map(|cover| self.named.get(&cover)).flatten()
    }
}

fn length(prefix: &IpNet) -> (bool, u8) {
    (prefix.addr().is_ipv4(), prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::policy::program::SetId;

    fn atom(name: &str) -> Atom {
        Atom::Set(SetId(name.into()))
    }

    fn settle(identities: &mut Identities) -> Settled {
        let moving = identities.moving();
        identities.settle(moving)
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_has_what_those_around_it_have() {
        let mut identities = Identities::default();
        identities.name(net("10.0.0.7/32"), atom("pods"));
        identities.name(net("10.0.0.0/8"), atom("wide"));
        identities.name(net("::/0"), atom("six"));
        let settled = settle(&mut identities);
        assert_eq!((settled.new.len(), settled.moved.len(), settled.gone.len()), (3, 3, 0));
        let all: BTreeSet<Atom> = [atom("pods"), atom("wide")].into();
        assert_eq!(identities.of("10.0.0.7".parse().unwrap()), all);
        assert!(identities.iter().any(|(_, atoms)| **atoms == all));
    }

    #[test]
    fn what_a_wide_prefix_loses_those_within_lose_and_numbers_do_not_come_back() {
        let mut identities = Identities::default();
        identities.name(net("10.0.0.7/32"), atom("pods"));
        identities.name(net("10.0.0.0/8"), atom("wide"));
        let first = settle(&mut identities);
        identities.forget(net("10.0.0.0/8"), &atom("wide"));
        let second = settle(&mut identities);
        assert_eq!(second.moved.len(), 2, "{second:?}");
        assert_eq!(second.gone.len(), 2);
        assert!(second.new.iter().all(|(number, _)| first.new.iter().all(|(old, _)| old != number)));
        assert_eq!(identities.iter().count(), 1);
    }

    #[test]
    fn addresses_in_the_same_sets_share_a_number() {
        let mut identities = Identities::default();
        for last in 1..100 {
            identities.name(IpNet::from(IpAddr::from([10, 0, 0, last])), atom("pods"));
        }
        let settled = settle(&mut identities);
        assert_eq!((settled.new.len(), settled.moved.len()), (1, 99));
        assert_eq!(settle(&mut identities).moved.len(), 0);
    }
}
