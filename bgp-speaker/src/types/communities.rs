//! Communities of all three sizes and how people write them. Never what a network means by one.

use std::fmt;
use std::str::FromStr;

/// A standard community: the number of a system and two bytes of its own. RFC 1997.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

/// An extended community, as its eight bytes. RFC 4360.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtendedCommunity(pub u64);

/// A large community: the number of a system and eight bytes of its own. RFC 8092.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity {
    /// Whose it is.
    pub global: u32,
    /// The first four bytes of its own.
    pub local1: u32,
    /// The last four.
    pub local2: u32,
}

/// A text is not a community.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    /// A standard one is two numbers.
    #[error(
        "{text:?} is no community: ASN:VALUE with two numbers of 0 to 65535, or a well-known name such as no-export"
    )]
    Standard {
        /// What was written.
        text: String,
    },
    /// A large one is three numbers.
    #[error("{text:?} is no large community: ASN:VALUE:VALUE with three numbers of 0 to 4294967295")]
    Large {
        /// What was written.
        text: String,
    },
    /// An extended one is a kind and two numbers.
    #[error("{text:?} is no extended community: rt:ASN:VALUE, soo:ASN:VALUE, or 0x and 16 hexadecimal digits")]
    Extended {
        /// What was written.
        text: String,
    },
}

impl Community {
    /// Not beyond this system. RFC 1997.
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// To no peer. RFC 1997.
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not beyond this confederation member. RFC 1997.
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
    /// The least of all while its sender shuts down. RFC 8326.
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// A route kept by long-lived graceful restart. RFC 9494.
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// Not to be kept by long-lived graceful restart. RFC 9494.
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// Traffic to be discarded. RFC 7999.
    pub const BLACKHOLE: Self = Self(0xffff_029a);

    const NAMES: [(&'static str, Self); 7] = [
        ("no-export", Self::NO_EXPORT),
        ("no-advertise", Self::NO_ADVERTISE),
        ("no-export-subconfed", Self::NO_EXPORT_SUBCONFED),
        ("graceful-shutdown", Self::GRACEFUL_SHUTDOWN),
        ("llgr-stale", Self::LLGR_STALE),
        ("no-llgr", Self::NO_LLGR),
        ("blackhole", Self::BLACKHOLE),
    ];
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, known)| known == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        if let Some((_, known)) = Self::NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(*known);
        }
        let refused = || CommunityError::Standard { text: text.to_owned() };
        let (asn, value) = text.split_once(':').ok_or_else(refused)?;
        let (asn, value): (u16, u16) = (asn.parse().map_err(|_| refused())?, value.parse().map_err(|_| refused())?);
        Ok(Self(u32::from(asn) << 16 | u32::from(value)))
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local1, self.local2)
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let refused = || CommunityError::Large { text: text.to_owned() };
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        match numbers.map_err(|_| refused())?[..] {
            [global, local1, local2] => Ok(Self { global, local1, local2 }),
            _ => Err(refused()),
        }
    }
}

impl ExtendedCommunity {
    /// Kept inside the system it was set in: bit 0x40 of the first byte. RFC 4360, section 2.
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        self.0 >> 56 & 0x40 == 0
    }

    /// Two-octet (type 0) or four-octet (type 2) specific, with a subtype. RFC 4360, section 3.1; RFC 5668.
    const fn of_asn(subtype: u64, asn: u32, value: u32) -> Option<Self> {
        if asn <= 0xffff {
            Some(Self(subtype << 48 | (asn as u64) << 32 | value as u64))
        } else if value <= 0xffff {
            Some(Self(2 << 56 | subtype << 48 | (asn as u64) << 16 | value as u64))
        } else {
            None
        }
    }
}

/// Route target and route origin. RFC 4360, sections 4 and 5.
const EXTENDED_KINDS: [(&str, u64); 2] = [("rt", 2), ("soo", 3)];

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, subtype) = (self.0 >> 56, self.0 >> 48 & 0xff);
        let name = EXTENDED_KINDS.iter().find(|(_, known)| *known == subtype).map(|(name, _)| name);
        match (kind, name) {
            (0, Some(name)) => write!(f, "{name}:{}:{}", self.0 >> 32 & 0xffff, self.0 & 0xffff_ffff),
            (2, Some(name)) => write!(f, "{name}:{}:{}", self.0 >> 16 & 0xffff_ffff, self.0 & 0xffff),
            _ => write!(f, "0x{:016x}", self.0),
        }
    }
}

impl FromStr for ExtendedCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let refused = || CommunityError::Extended { text: text.to_owned() };
        if let Some(digits) = text.strip_prefix("0x") {
            let whole = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            return u64::from_str_radix(digits, 16).ok().filter(|_| whole).map(Self).ok_or_else(refused);
        }
        let mut parts = text.split(':');
        let (kind, asn, value) = (parts.next(), parts.next(), parts.next());
        let (_, subtype) = EXTENDED_KINDS
            .iter()
            .find(|(name, _)| Some(*name) == kind)
            .filter(|_| parts.next().is_none())
            .ok_or_else(refused)?;
        let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).ok_or_else(refused);
        Self::of_asn(*subtype, number(asn)?, number(value)?).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_known_communities_are_written_by_name() {
        assert_eq!("no-export".parse(), Ok(Community(0xffff_ff01)));
        assert_eq!("65535:65281".parse(), Ok(Community::NO_EXPORT));
        assert_eq!(Community(0x0001_0002).to_string(), "1:2");
    }

    #[test]
    fn what_is_no_community_is_refused_with_what_would_be_right() {
        for text in ["", "1", "1:", "65536:1", "1:2:3", "-1:2", "no_export"] {
            assert_eq!(text.parse::<Community>(), Err(CommunityError::Standard { text: text.to_owned() }));
        }
        assert!("1:2".parse::<LargeCommunity>().is_err());
        assert!("rt:65536:65536".parse::<ExtendedCommunity>().is_err());
        assert!("0x12".parse::<ExtendedCommunity>().is_err());
        assert!("rt:1:2:3".parse::<ExtendedCommunity>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(standard: u32, extended: u64, global: u32, local1: u32, local2: u32) {
            let (standard, extended) = (Community(standard), ExtendedCommunity(extended));
            let large = LargeCommunity { global, local1, local2 };
            prop_assert_eq!(standard.to_string().parse(), Ok(standard));
            prop_assert_eq!(large.to_string().parse(), Ok(large));
            // Small numbers in four-octet form are written like two-octet ones: only the meaning is kept.
            let again: ExtendedCommunity = extended.to_string().parse().unwrap();
            prop_assert_eq!(again.to_string(), extended.to_string());
        }
    }
}
