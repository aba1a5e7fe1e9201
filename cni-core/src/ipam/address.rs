//! Addresses as numbers, and ranges of them. Never a prefix's meaning: gateway, broadcast and the like.

use super::{Family, IpamError};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address as a number: 32 or 128 bits.
#[must_use]
pub(crate) fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The number as an address of a family. Bits above the family's length are cut off.
#[must_use]
pub(crate) fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        #[expect(clippy::cast_possible_truncation, reason = "the documented cut")]
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

/// An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) in its own form.
#[must_use]
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A single address as a prefix: `/32` or `/128`.
#[must_use]
pub(crate) fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of addresses: {problem}")]
pub struct ParseRangeError {
    text: String,
    problem: &'static str,
}

impl AddressRange {
    /// A range, `None` when the families differ or `last` is before `first`.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// All addresses of a prefix; its host bits do not count.
    #[must_use]
    pub fn of_prefix(prefix: IpNet) -> Self {
        Self { first: prefix.network(), last: prefix.broadcast() }
    }

    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address, which is in the range.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The family of all its addresses.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// How many addresses it has; the whole of IPv6 counts as `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        (to_bits(self.last) - to_bits(self.first)).saturating_add(1)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// What two ranges have in common.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.family() != other.family() {
            return None;
        }
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for AddressRange {
    type Err = ParseRangeError;

    /// `192.0.2.1`, `192.0.2.0/28` or `192.0.2.1-192.0.2.9`; the same in IPv6.
    fn from_str(text: &str) -> Result<Self, ParseRangeError> {
        let wrong = |problem| ParseRangeError { text: text.to_owned(), problem };
        if let Some((first, last)) = text.split_once('-') {
            let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse()) else {
                return Err(wrong("write two addresses, as in 192.0.2.1-192.0.2.9"));
            };
            return Self::new(first, last)
                .ok_or_else(|| wrong("both addresses must be of one family, the smaller one first"));
        }
        if text.contains('/') {
            let prefix: IpNet = text.parse().map_err(|_| wrong("write a prefix as in 192.0.2.0/28"))?;
            if prefix.trunc() != prefix {
                return Err(wrong("the prefix has host bits"));
            }
            return Ok(Self::of_prefix(prefix));
        }
        let address: IpAddr =
            text.parse().map_err(|_| wrong("write an address, a prefix, or two addresses with '-' between"))?;
        Ok(Self { first: address, last: address })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = ParseRangeError;
    fn try_from(text: String) -> Result<Self, ParseRangeError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        if range.first == range.last { range.first.to_string() } else { range.to_string() }
    }
}

/// A prefix without host bits, from a field of an object.
pub(crate) fn prefix(object: &str, field: &'static str, text: &str) -> Result<IpNet, IpamError> {
    let net: IpNet = text.parse().map_err(|_| {
        IpamError::invalid(object, field, format!("{text:?} is no prefix; write one as in 10.1.0.0/16 or fd00:1::/64"))
    })?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(IpamError::invalid(object, field, format!("{text} has host bits; did you mean {}?", net.trunc())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_three_forms_and_others_are_refused_with_the_right_form() {
        for (text, count) in [("192.0.2.1", 1), ("192.0.2.0/28", 16), ("192.0.2.1-192.0.2.9", 9), ("fd00::/126", 4)] {
            assert_eq!(text.parse::<AddressRange>().map(|range| range.count()), Ok(count), "{text}");
        }
        for bad in ["", "x", "192.0.2.1/28", "192.0.2.9-192.0.2.1", "192.0.2.1-fd00::1", "192.0.2.1-"] {
            assert!(bad.parse::<AddressRange>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_whole_of_ipv6_does_not_overflow() {
        assert_eq!("::/0".parse::<AddressRange>().map(|range| range.count()), Ok(u128::MAX));
    }
}
