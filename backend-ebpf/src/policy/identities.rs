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
    pub(super) gone: Vec<u32>,
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
    pub(super) fn named(&self) -> impl Iterator<Item = (IpNet, BTreeSet<Atom>)> {
        self.named.keys().map(|prefix| (*prefix, self.around(prefix).cloned().collect()))
    }

    /// What the kernel was told.
    pub(super) fn told(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.told.iter().map(|(prefix, number)| (*prefix, *number))
    }

    /// What is there, by number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Atoms)> {
        self.known.iter().map(|(number, known)| (*number, &known.atoms))
    }

    /// What changed since the last call.
    pub(super) fn settle(&mut self) -> Settled {
        let mut settled = Settled::default();
        let mut concerned = BTreeSet::new();
        for prefix in std::mem::take(&mut self.dirty) {
            concerned.insert(prefix);
            let last = IpNet::from(prefix.broadcast());
            concerned.extend(self.named.range(prefix..=last).map(|(inner, _)| *inner));
        }
        let mut left = BTreeSet::new();
        for prefix in concerned {
            let atoms: Option<Atoms> =
                self.named.contains_key(&prefix).then(|| Arc::new(self.around(&prefix).cloned().collect()));
            let number = atoms.map(|atoms| match self.numbers.get(&atoms) {
                Some(number) => *number,
                None => {
                    let number = self.next;
                    self.next += 1;
                    self.numbers.insert(atoms.clone(), number);
                    self.known.insert(number, Known { atoms: atoms.clone(), prefixes: 0 });
                    settled.new.push((number, atoms));
                    number
                }
            });
            let before = match number {
                Some(number) => self.told.insert(prefix, number),
                None => self.told.remove(&prefix),
            };
            if before == number {
                continue;
            }
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
            if self.known.get(&number).is_some_and(|known| known.prefixes == 0)
                && let Some(known) = self.known.remove(&number)
            {
                self.numbers.remove(&known.atoms);
                settled.gone.push(number);
            }
        }
        settled
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

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_has_what_those_around_it_have() {
        let mut identities = Identities::default();
        identities.name(net("10.0.0.7/32"), atom("pods"));
        identities.name(net("10.0.0.0/8"), atom("wide"));
        identities.name(net("::/0"), atom("six"));
        let settled = identities.settle();
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
        let first = identities.settle();
        identities.forget(net("10.0.0.0/8"), &atom("wide"));
        let second = identities.settle();
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
        let settled = identities.settle();
        assert_eq!((settled.new.len(), settled.moved.len()), (1, 99));
        assert_eq!(identities.settle().moved.len(), 0);
    }
}
