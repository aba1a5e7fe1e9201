//! Sets of addresses as prefixes: union, intersection, difference, complement. Never a prefix within another.

use crate::policy::model::Family;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Prefixes {
    v4: Ranges,
    v6: Ranges,
}

/// Addresses from first to last, in order, without touching one another.
type Ranges = Vec<(u128, u128)>;

/// The last address of a family, as a number.
const fn last(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX as u128,
        Family::V6 => u128::MAX,
    }
}

impl Prefixes {
    pub(super) fn new<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let mut prefixes = Self::default();
        for network in networks {
            match network {
                IpNet::V4(network) => {
                    let first = u32::from(network.network());
                    prefixes.v4.push((first.into(), u32::from(network.broadcast()).into()));
                }
                IpNet::V6(network) => prefixes.v6.push((network.network().into(), network.broadcast().into())),
            }
        }
        prefixes.v4 = joined(prefixes.v4);
        prefixes.v6 = joined(prefixes.v6);
        prefixes
    }

    fn ranges(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Only addresses of a family.
    pub(super) fn only(&self, family: Family) -> Self {
        match family {
            Family::V4 => Self { v4: self.v4.clone(), v6: Ranges::new() },
            Family::V6 => Self { v4: Ranges::new(), v6: self.v6.clone() },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether every address is in it.
    pub(super) fn is_everything(&self) -> bool {
        self.is_whole(Family::V4) && self.is_whole(Family::V6)
    }

    /// Whether every address of a family is in it.
    pub(super) fn is_whole(&self, family: Family) -> bool {
        *self.ranges(family) == [(0, last(family))]
    }

    /// What is in one of them.
    pub(super) fn union(of: &[Self]) -> Self {
        let union = |family| joined(of.iter().flat_map(|one| one.ranges(family)).copied().collect());
        Self { v4: union(Family::V4), v6: union(Family::V6) }
    }

    /// What is in all of them.
    pub(super) fn intersection(of: &[Self]) -> Self {
        Self::union(&of.iter().map(Self::complement).collect::<Vec<_>>()).complement()
    }

    /// All addresses that are not in it.
    pub(super) fn complement(&self) -> Self {
        Self { v4: gaps(&self.v4, last(Family::V4)), v6: gaps(&self.v6, last(Family::V6)) }
    }

    /// How many prefixes make it.
    pub(super) fn count(&self) -> usize {
        let count = |family| self.ranges(family).iter().map(|range| split(*range, family).count()).sum::<usize>();
        count(Family::V4) + count(Family::V6)
    }

    /// The fewest prefixes that make it, of one family.
    pub(super) fn prefixes(&self, family: Family) -> Vec<IpNet> {
        self.ranges(family).iter().flat_map(|range| split(*range, family)).collect()
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn joined(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut joined = Ranges::with_capacity(ranges.len());
    for (first, end) in ranges {
        match joined.last_mut() {
            Some((_, before)) if first <= before.saturating_add(1) => *before = end.max(*before),
            _ => joined.push((first, end)),
        }
    }
    joined
}

fn gaps(ranges: &Ranges, last: u128) -> Ranges {
    let mut gaps = Ranges::with_capacity(ranges.len() + 1);
    let mut next = Some(0);
    for (first, end) in ranges {
        if let Some(next) = next
            && next < *first
        {
            gaps.push((next, first - 1));
        }
        next = (*end < last).then(|| end + 1);
    }
    gaps.extend(next.map(|next| (next, last)));
    gaps
}

/// A range as prefixes: from its first address, the largest prefix that begins there and does not go beyond the end.
fn split((first, end): (u128, u128), family: Family) -> impl Iterator<Item = IpNet> {
    let width: u32 = if family == Family::V4 { 32 } else { 128 };
    let mut next = Some(first);
    std::iter::from_fn(move || {
        let start = next?;
        let aligned = start.trailing_zeros().min(width);
        // How many host bits the rest has room for: all of them only when it is the whole of IPv6.
        let room = (end - start).checked_add(1).map_or(128, u128::ilog2);
        let bits = aligned.min(room);
        let size_less_one = if bits == 128 { u128::MAX } else { (1 << bits) - 1 };
        next = (start + size_less_one < end).then(|| start + size_less_one + 1);
        Some(network(start, width - bits, family))
    })
}

fn network(address: u128, length: u32, family: Family) -> IpNet {
    let length = u8::try_from(length).expect("at most 128");
    match family {
        Family::V4 => {
            let address = u32::try_from(address).expect("ranges of IPv4 are below 2^32");
            Ipv4Net::new(Ipv4Addr::from(address), length).expect("at most 32").into()
        }
        Family::V6 => Ipv6Net::new(Ipv6Addr::from(address), length).expect("at most 128").into(),
    }
}

/// The family of an address.
pub(super) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_exception_is_cut_out_of_its_block() {
        let block = Prefixes::new(&networks(&["10.0.0.0/29"]));
        let exception = Prefixes::new(&networks(&["10.0.0.2/32"]));
        let left = Prefixes::intersection(&[block, exception.complement()]);
        assert_eq!(left.prefixes(Family::V4), networks(&["10.0.0.0/31", "10.0.0.3/32", "10.0.0.4/30"]));
    }

    #[test]
    fn whole_families_are_one_prefix_and_their_complement_is_empty() {
        let all = Prefixes::new(&networks(&["0.0.0.0/1", "128.0.0.0/1", "::/0"]));
        assert!(all.is_whole(Family::V4) && all.is_whole(Family::V6) && all.complement().is_empty());
        assert_eq!(all.prefixes(Family::V6), networks(&["::/0"]));
        assert_eq!(all.prefixes(Family::V4), networks(&["0.0.0.0/0"]));
        assert_eq!(Prefixes::default().complement(), all);
    }

    fn network() -> impl Strategy<Value = IpNet> {
        let v4 = (0u8..16, 28u8..=32)
            .prop_map(|(last, length)| IpNet::new(Ipv4Addr::new(10, 0, 0, last).into(), length).unwrap().trunc());
        let v6 = (0u16..16, 124u8..=128).prop_map(|(last, length)| {
            IpNet::new(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into(), length).unwrap().trunc()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn members_are_those_of_the_operands(
            a in prop::collection::vec(network(), 0..4),
            b in prop::collection::vec(network(), 0..4),
            last in 0u8..18,
            v6: bool,
        ) {
            let address: IpAddr = if v6 { Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into() }
                else { Ipv4Addr::new(10, 0, 0, last).into() };
            let has = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
            let in_set = |prefixes: &Prefixes| has(&prefixes.prefixes(family_of(address)));
            let (left, right) = (Prefixes::new(&a), Prefixes::new(&b));
            prop_assert_eq!(in_set(&left), has(&a));
            prop_assert_eq!(in_set(&Prefixes::union(&[left.clone(), right.clone()])), has(&a) || has(&b));
            prop_assert_eq!(in_set(&Prefixes::intersection(&[left.clone(), right])), has(&a) && has(&b));
            prop_assert_eq!(in_set(&left.complement()), !has(&a));
            let prefixes = left.prefixes(family_of(address));
            let within = |one: &IpNet| prefixes.iter().any(|other| other != one && other.contains(one));
            prop_assert!(!prefixes.iter().any(within));
        }
    }
}
