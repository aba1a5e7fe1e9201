//! Ranges and range sets of `host-local`: their rules and the round robin over them. Never the disk.

use super::HostLocalError;
use crate::ipam::AddressRange;
use crate::ipam::address::{canonical, from_bits, to_bits};
use crate::ipam::{Family, address};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// A range as it is written: all texts parsed, nothing decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RawRange {
    /// With the address as it was written, host bits included.
    pub(super) subnet: Option<(IpAddr, u8)>,
    pub(super) start: Option<IpAddr>,
    pub(super) end: Option<IpAddr>,
    pub(super) gateway: Option<IpAddr>,
}

/// A part of a subnet that addresses are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The subnet, without host bits.
    pub subnet: IpNet,
    /// The addresses to give.
    pub addresses: AddressRange,
    /// The subnet's gateway, which is never given.
    pub gateway: IpAddr,
}

impl Range {
    pub(super) fn new(raw: &RawRange) -> Result<Self, HostLocalError> {
        let (written, length) = raw.subnet.ok_or(HostLocalError::NoSubnet)?;
        let first = canonical(written);
        let family = Family::of(first);
        if written != first {
            return Err(HostLocalError::MappedSubnet);
        }
        let too_small = || HostLocalError::TooSmall { subnet: format!("{first}/{length}") };
        let subnet = IpNet::new(first, length).map_err(|_| too_small())?;
        // Neither a /31 nor a /32 has an address left beside network and broadcast.
        if length > family.bits() - 2 {
            return Err(too_small());
        }
        if subnet.network() != first {
            return Err(HostLocalError::HostBits { length, network: subnet.network() });
        }
        let after_network = from_bits(family, to_bits(first) + 1);
        let gateway = raw.gateway.map_or(after_network, canonical);
        let (start, end) = (raw.start.map(canonical), raw.end.map(canonical));
        let outside = |end: &'static str, address| HostLocalError::Outside { end, address, subnet };
        let first_address = match start {
            // The end counts already while the start is judged: a start after the end is outside.
            Some(start)
                if !subnet.contains(&start) || end.is_some_and(|end| same_family(start, end) && start > end) =>
            {
                return Err(outside("RangeStart", start));
            }
            Some(start) => start,
            None => after_network,
        };
        let last_address = match end {
            Some(end) if !subnet.contains(&end) || end < first_address => return Err(outside("RangeEnd", end)),
            Some(end) => end,
            // IPv4 keeps its broadcast address; IPv6 has none.
            None if family == Family::V4 => from_bits(family, to_bits(subnet.broadcast()) - 1),
            None => subnet.broadcast(),
        };
        match AddressRange::new(first_address, last_address) {
            Some(addresses) => Ok(Self { subnet, addresses, gateway }),
            None => Err(outside("RangeStart", first_address)),
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.addresses.intersection(&other.addresses).is_some()
    }
}

fn same_family(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.addresses.fmt(f)
    }
}

/// Ranges of one family that together give one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    pub(super) fn new(raw: &[RawRange]) -> Result<Self, HostLocalError> {
        let mut ranges: Vec<Range> = Vec::with_capacity(raw.len());
        for raw in raw {
            let range = Range::new(raw)?;
            if ranges.first().is_some_and(|first| first.addresses.family() != range.addresses.family()) {
                return Err(HostLocalError::MixedFamilies);
            }
            ranges.push(range);
        }
        if ranges.is_empty() {
            return Err(HostLocalError::EmptySet);
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[index + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(HostLocalError::RangesOverlap { one: one.addresses, other: other.addresses });
            }
        }
        Ok(Self(ranges))
    }

    /// The ranges, at least one.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// The family of all its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        self.0.first().map_or(Family::V4, |range| range.addresses.family())
    }

    /// The range that an address is in.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|other| range.overlaps(other)))
    }

    /// Every address to give, once around, beginning after `last` (or at the beginning, when `last` is none of ours).
    ///
    /// The address that the round begins behind comes last in this walk, but `host-local` never gives the
    /// place where a walk *began*; see [`Walk`].
    pub(super) fn walk(&self, last: Option<IpAddr>) -> Walk<'_> {
        let start = last
            .and_then(|last| self.0.iter().position(|range| range.contains(last)).map(|index| (index, to_bits(last))));
        Walk { set: self, cursor: start, began: None, ended: false }
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The reference's round robin: once around all ranges, without gateways.
pub(super) struct Walk<'a> {
    set: &'a RangeSet,
    /// Range and address of the last step.
    cursor: Option<(usize, u128)>,
    /// Where the first step led; coming there again ends the walk.
    began: Option<(usize, u128)>,
    ended: bool,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (IpAddr, &'a Range);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let ranges = &self.set.0;
            let next = match self.cursor {
                None => (0, to_bits(ranges.first()?.addresses.first())),
                Some((index, bits)) if bits == to_bits(ranges[index].addresses.last()) => {
                    let index = (index + 1) % ranges.len();
                    (index, to_bits(ranges[index].addresses.first()))
                }
                Some((index, bits)) => (index, bits + 1),
            };
            if self.began == Some(next) {
                self.ended = true;
                return None;
            }
            self.began.get_or_insert(next);
            self.cursor = Some(next);
            let range = &ranges[next.0];
            let address = address::from_bits(self.set.family(), next.1);
            if address != range.gateway {
                return Some((address, range));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(&str, u8, Option<&str>, Option<&str>)]) -> RangeSet {
        let raw: Vec<RawRange> = ranges
            .iter()
            .map(|(subnet, length, start, end)| RawRange {
                subnet: Some((subnet.parse().unwrap(), *length)),
                start: start.map(|text| text.parse().unwrap()),
                end: end.map(|text| text.parse().unwrap()),
                gateway: None,
            })
            .collect();
        RangeSet::new(&raw).unwrap()
    }

    fn walk(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.walk(last.map(|last| last.parse().unwrap())).map(|(address, _)| address.to_string()).collect()
    }

    #[test]
    fn a_walk_gives_every_address_once_and_no_gateway() {
        let set = set(&[("10.0.0.0", 29, None, None), ("10.0.1.0", 24, Some("10.0.1.9"), Some("10.0.1.10"))]);
        let all = ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.1.9", "10.0.1.10"];
        assert_eq!(walk(&set, None), all);
        assert_eq!(walk(&set, Some("192.0.2.1")), all, "a last address of an older configuration is ignored");
    }

    #[test]
    fn a_walk_begins_behind_the_last_address_and_comes_around_to_it() {
        let set = set(&[("10.0.0.0", 29, None, None)]);
        assert_eq!(walk(&set, Some("10.0.0.4")), ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        assert_eq!(walk(&set, Some("10.0.0.6")), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    }

    #[test]
    fn a_range_of_only_a_gateway_gives_nothing() {
        assert!(walk(&set(&[("10.0.0.0", 24, Some("10.0.0.1"), Some("10.0.0.1"))]), None).is_empty());
    }
}
