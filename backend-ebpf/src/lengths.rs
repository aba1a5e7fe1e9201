//! Which lengths prefixes have, as programs walk them: from the longest to the shortest. Never the kernel.
//!
//! The list changes one byte at a time, and each change leaves a list that leads to every length that was there before and is there
//! after it. So does what a program reads that is on its way meanwhile: a length that was taken out still leads on.

use crate::config::Family;
use backend_ebpf_abi::{Lengths, Way};
use ipnet::IpNet;
use std::fmt;

/// How long prefixes of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrefixLength {
    /// The family.
    pub family: Family,
    /// 0 to 32, or to 128.
    pub bits: u8,
}

impl PrefixLength {
    /// That of a prefix.
    #[must_use]
    pub fn of(prefix: &IpNet) -> Self {
        let family = match prefix {
            IpNet::V4(_) => Family::Ipv4,
            IpNet::V6(_) => Family::Ipv6,
        };
        Self { family, bits: prefix.prefix_len() }
    }

    /// The place in the list.
    fn place(self) -> u8 {
        Lengths::place(bits_before(self.family) + u32::from(self.bits))
    }

    /// By the place in a list; `None` of one that no length has.
    fn at(family: Family, place: u8) -> Option<Self> {
        let bits = u32::from(place).checked_sub(1 + bits_before(family))?;
        let most = Way::BITS - bits_before(family);
        Some(Self { family, bits: u8::try_from(bits).ok().filter(|_| bits <= most)? })
    }
}

impl fmt::Display for PrefixLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} /{}", self.family, self.bits)
    }
}

/// Those that precede an address in maps.
const fn bits_before(family: Family) -> u32 {
    match family {
        Family::Ipv4 => Way::V4_BITS,
        Family::Ipv6 => 0,
    }
}

/// One byte of the list, and what it becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: u8,
    pub(crate) to: u8,
}

impl Step {
    /// The list after it.
    pub(crate) fn taken(self, list: &Lengths) -> Lengths {
        let mut after = *list;
        after.shorter[usize::from(self.at)] = self.to;
        after
    }
}

/// The lengths that a program comes by, longest first. What no length has is a stranger's, and finds nothing.
pub(crate) fn all(family: Family, list: &Lengths) -> impl Iterator<Item = PrefixLength> {
    places(list).filter_map(move |place| PrefixLength::at(family, place))
}

/// Each is less than the one before, so that a list which somebody broke ends too.
fn places(list: &Lengths) -> impl Iterator<Item = u8> {
    let next = |place: u8| Some(list.shorter[usize::from(place)]).filter(|next| *next != 0);
    std::iter::successors(next(0), move |place| next(*place).filter(|next| next < place))
}

/// What puts a length into the list, in this order; nothing where it is there.
pub(crate) fn put(list: &Lengths, length: PrefixLength) -> Vec<Step> {
    let place = length.place();
    let (before, after) = around(list, place);
    if after == place {
        return Vec::new();
    }
    // It leads on before anything leads to it.
    vec![Step { at: place, to: after }, Step { at: before, to: place }]
}

/// What takes a length out of it; `None` where it is not there. It leads on as before, for who is there already.
pub(crate) fn remove(list: &Lengths, length: PrefixLength) -> Option<Step> {
    let place = length.place();
    let (before, after) = around(list, place);
    let on = list.shorter[usize::from(place)];
    (after == place).then_some(Step { at: before, to: if on < place { on } else { 0 } })
}

/// The last place of the list before this one, 0 where it begins, and where that leads: to this one, or past it.
fn around(list: &Lengths, place: u8) -> (u8, u8) {
    let before = places(list).take_while(|other| *other > place).last().unwrap_or(0);
    let after = list.shorter[usize::from(before)];
    // Of a broken list, the rest is nobody's.
    (before, if before == 0 || after < before { after } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn lengths(family: Family) -> impl Strategy<Value = PrefixLength> {
        let most: u8 = if family == Family::Ipv4 { 32 } else { 128 };
        (0..=most).prop_map(move |bits| PrefixLength { family, bits })
    }

    fn families() -> impl Strategy<Value = Family> {
        prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)]
    }

    /// A family, and lengths that are put in and taken out.
    fn changes() -> impl Strategy<Value = (Family, Vec<(PrefixLength, bool)>)> {
        families().prop_flat_map(|family| {
            let few = (0_u8..5).prop_map(move |bits| PrefixLength { family, bits });
            let change = (prop_oneof![lengths(family), few], any::<bool>());
            (Just(family), proptest::collection::vec(change, 0..60))
        })
    }

    /// The list after each step.
    fn steps(list: &Lengths, length: PrefixLength, there: bool) -> Vec<Lengths> {
        let steps = if there { put(list, length) } else { remove(list, length).into_iter().collect() };
        let mut list = *list;
        steps
            .into_iter()
            .map(|step| {
                list = step.taken(&list);
                list
            })
            .collect()
    }

    proptest! {
        #[test]
        fn the_list_has_what_was_put_in_and_not_taken_out_longest_first((family, changes) in changes()) {
            let (mut list, mut expected) = (Lengths::NONE, BTreeSet::new());
            for (length, there) in changes {
                list = *steps(&list, length, there).last().unwrap_or(&list);
                if there { expected.insert(length) } else { expected.remove(&length) };
                let found: Vec<_> = all(family, &list).collect();
                prop_assert_eq!(found, expected.iter().rev().copied().collect::<Vec<_>>());
            }
        }

        /// A program at any place of its walk, while steps are taken: it comes by all that were there from its first look to its last.
        #[test]
        fn who_is_on_its_way_meanwhile_comes_by_all_that_stay(
            (family, changes) in changes(),
            looks in proptest::collection::vec(0_usize..4, 140),
            begins in 0_usize..80,
        ) {
            // What is there before a change and after it is there in between, whatever the list says.
            let (mut states, mut sets) = (vec![Lengths::NONE], vec![BTreeSet::new()]);
            for (length, there) in changes {
                let steps = steps(states.last().unwrap(), length, there);
                let before = sets.last().unwrap().clone();
                let mut after = before.clone();
                if there { after.insert(length) } else { after.remove(&length) };
                sets.extend(steps.iter().skip(1).map(|_| &before & &after));
                sets.extend(steps.last().map(|_| after));
                states.extend(steps);
            }
            let (mut at, mut place, mut seen) = (begins % states.len(), 0_u8, BTreeSet::new());
            let first = at;
            for waits in looks {
                let next = states[at].shorter[usize::from(place)];
                if next == 0 {
                    break;
                }
                prop_assert!(place == 0 || next < place, "each step leads to a shorter one");
                seen.extend(PrefixLength::at(family, next));
                place = next;
                at = (at + waits).min(states.len() - 1);
            }
            let stay = sets[first..=at].iter().skip(1).fold(sets[first].clone(), |stay, set| &stay & set);
            prop_assert!(stay.is_subset(&seen), "{:?} of {:?}", stay, seen);
        }

        #[test]
        fn a_list_that_somebody_broke_ends_and_takes_a_length_all_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 256),
            length in families().prop_flat_map(lengths),
        ) {
            let mut list = Lengths::NONE;
            list.shorter.copy_from_slice(&bytes);
            let after = steps(&list, length, true).last().copied().unwrap_or(list);
            prop_assert!(places(&after).any(|place| place == length.place()));
            let gone = steps(&after, length, false).last().copied().unwrap();
            prop_assert!(places(&gone).all(|place| place != length.place()));
        }

        #[test]
        fn a_mask_leaves_what_a_prefix_of_that_length_has(address: u128, bits in 0_u8..=128) {
            let words = address.to_be_bytes();
            let prefix = ipnet::Ipv6Net::new(address.into(), bits).unwrap().network();
            let mask = Way::mask(bits.into()).map(u32::to_ne_bytes).concat();
            let masked: Vec<u8> = words.iter().zip(mask).map(|(byte, mask)| byte & mask).collect();
            prop_assert_eq!(masked, prefix.octets());
        }
    }
}
